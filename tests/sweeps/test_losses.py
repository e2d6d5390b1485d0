"""Losses are read from what runs leave: our file, Lightning's, event files, the user's."""

import math
from pathlib import Path

import pytest
import torch
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from lightning_lyap.sweeps.losses import read_given_losses, read_losses, save_losses
from lightning_lyap.tasks.loss_recorder import LossRecorder
from tests.networks import fit


def test_a_recorder_leaves_the_losses_of_the_epochs_so_far(tmp_path: Path) -> None:
    recorder = LossRecorder()
    fit(tmp_path, recorder, max_epochs=2)
    expected = {float(epoch): values["val/loss"] for epoch, values in recorder.losses.items()}
    assert read_losses(tmp_path, "val/loss") == expected
    assert set(expected) == {1.0, 2.0}
    assert read_losses(tmp_path, "train/loss") != expected
    assert not list(tmp_path.glob("*.part"))


def test_fast_dev_run_leaves_no_file(tmp_path: Path) -> None:
    fit(tmp_path, LossRecorder(), fast_dev_run=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("logger", [CSVLogger, TensorBoardLogger])
def test_what_lightnings_loggers_leave_is_read(
    tmp_path: Path, logger: type[CSVLogger | TensorBoardLogger]
) -> None:
    recorder = LossRecorder()
    kept = logger(tmp_path, name="", version="")
    fit(tmp_path, recorder, max_epochs=3, logger=kept)
    (tmp_path / "losses.csv").unlink()
    read = read_losses(tmp_path, "val/loss")
    assert list(read) == [1.0, 2.0, 3.0]
    for epoch, loss in read.items():
        assert loss == pytest.approx(recorder.losses[int(epoch)]["val/loss"], rel=1e-6)


def test_event_files_of_a_resumed_run_go_on(tmp_path: Path) -> None:
    def logger() -> TensorBoardLogger:
        return TensorBoardLogger(tmp_path, name="", version="")

    trainer, _ = fit(tmp_path, max_epochs=1, logger=logger())
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    fit(tmp_path, max_epochs=2, logger=logger(), ckpt_path=str(tmp_path / "one.ckpt"))
    assert list(read_losses(tmp_path, "val/loss")) == [1.0, 2.0]


def test_a_folder_without_losses_has_none(tmp_path: Path) -> None:
    assert read_losses(tmp_path, "val/loss") == {}
    save_losses(tmp_path / "losses.csv", {1: {"train/loss": 0.5}, 2: {"val/loss": math.nan}})
    (only,) = read_losses(tmp_path, "val/loss").values()
    assert math.isnan(only)
    assert read_losses(tmp_path, "val_loss") == {}


def test_losses_keep_every_digit(tmp_path: Path) -> None:
    loss = torch.tensor(1 / 3).item()
    save_losses(tmp_path / "losses.csv", {1: {"val/loss": loss}})
    assert read_losses(tmp_path, "val/loss") == {1.0: loss}


def test_a_file_of_the_users_holds_several_runs(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("run,epoch,val_loss\na,1,0.5\na,2,0.25\nb,1,nan\n")
    given = read_given_losses(file)
    assert given["a"] == {1.0: 0.5, 2.0: 0.25}
    assert math.isnan(given["b"][1.0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run,epoch,loss\na,1,2\n", "columns run, epoch, val_loss, but got run, epoch, loss"),
        ("", "but got an empty file"),
        ("run,epoch,val_loss\na,first,2\n", "two numbers, in each line of .* but got 'first', '2'"),
        ("run,epoch,val_loss\na\n", "but got '', ''"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_given_losses(file)
