"""The commands refuse damaged checkpoints, inputs and losses in a line, and never misread them."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.tensorboard import SummaryWriter

from lightning_lyap.__main__ import main
from lightning_lyap.cli.checkpoints import load_network, read_batch, read_checkpoint, task_of
from lightning_lyap.sweeps.csv_tables import read_table
from lightning_lyap.sweeps.losses import read_given_losses, read_losses
from lightning_lyap.sweeps.runs import find_spectra, load_runs
from lightning_lyap.tasks import MocapRNN
from tests.bad_input.strategies import assert_refused, damaged, profile, turned
from tests.networks import trainer
from tests.sweep_runs import leave_run

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "mocap.ckpt"
    torch.manual_seed(0)
    fitted = trainer(path.parent)
    fitted.strategy.connect(MocapRNN(hidden_size=3))
    fitted.save_checkpoint(path)
    return path.read_bytes()


def loaded(path: Path) -> dict[str, Any]:
    """The weights a command would measure."""
    content = read_checkpoint(path)
    return load_network(path, task_of(content), None).state_dict()


@profile(60)
@given(st.data())
def test_a_damaged_checkpoint_is_refused_or_read_as_it_was(
    checkpoint: bytes, tmp_path: Path, data: st.DataObject
) -> None:
    whole, path = tmp_path / "whole.ckpt", tmp_path / "damaged.ckpt"
    if not whole.exists():
        whole.write_bytes(checkpoint)
    wrong = data.draw(damaged(checkpoint))
    path.write_bytes(wrong)
    try:
        weights = loaded(path)
    except ValueError:
        assert_refused(lambda: loaded(path), str(path), (ValueError,))
    else:
        assert all(value.equal(weights[name]) for name, value in loaded(whole).items())
    assert path.read_bytes() == wrong


def test_every_bit_of_the_weights_is_watched_over(checkpoint: bytes, tmp_path: Path) -> None:
    path = tmp_path / "damaged.ckpt"
    path.write_bytes(checkpoint)
    weight = loaded(path)["rnn.weight_hh_l0"].numpy().tobytes()
    start = checkpoint.index(weight)
    for offset in range(0, len(weight), 7):
        path.write_bytes(turned(checkpoint, 8 * (start + offset)))
        assert_refused(lambda: read_checkpoint(path), str(path), (ValueError,))


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "list": lambda c: [1],
    "no weights": lambda c: {k: v for k, v in c.items() if k != "state_dict"},
    "weights None": lambda c: c | {"state_dict": None},
    "weights missing": lambda c: c | {"state_dict": {}},
    "weights of words": lambda c: c | {"state_dict": dict.fromkeys(c["state_dict"], "x")},
    "settings None": lambda c: c | {"hyper_parameters": None},
    "settings list": lambda c: c | {"hyper_parameters": [1]},
    "a size": lambda c: c | {"hyper_parameters": c["hyper_parameters"] | {"hidden_size": 5}},
    "a word": lambda c: c | {"hyper_parameters": c["hyper_parameters"] | {"hidden_size": "x"}},
    "no version": lambda c: {k: v for k, v in c.items() if "version" not in k},
    "epoch": lambda c: c | {"epoch": "x"},
    "step": lambda c: c | {"global_step": None},
    "data": lambda c: c | {"datamodule_hyper_parameters": 3},
}


@pytest.mark.parametrize("kind", sorted(CHANGES))
def test_a_checkpoint_that_holds_something_else(
    checkpoint: bytes, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, inputs = tmp_path / "other.ckpt", tmp_path / "x.npy"
    path.write_bytes(checkpoint)
    torch.save(CHANGES[kind](torch.load(path, weights_only=True)), path)
    np.save(inputs, np.zeros((1, 4, 20), np.float32))
    assert_refused(lambda: loaded(path), str(path), (ValueError,))
    assert main(["spectrum", str(path), "--data", str(inputs)]) == 1
    assert capsys.readouterr().err.startswith(f"error: Expected {path}")


@profile(60)
@given(st.sampled_from([".npy", ".pt"]), st.data())
def test_a_damaged_file_of_inputs(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    path = tmp_path / f"x{suffix}"
    if suffix == ".pt":
        torch.save(torch.arange(60.0).view(1, 3, 20), path)
    else:
        np.save(path, np.arange(60.0, dtype=np.float32).reshape(1, 3, 20))
    content = path.read_bytes()
    # A format without checksums tells cut files alone.
    cut = st.integers(0, len(content) - 1).map(lambda end: content[:end])
    path.write_bytes(data.draw(damaged(content) if suffix == ".pt" else cut))
    try:
        (got,) = read_batch(path, torch.float32)
    except ValueError:
        assert_refused(lambda: read_batch(path, torch.float32), str(path), (ValueError,))
    else:
        assert got.equal(torch.arange(60.0).view(1, 3, 20))


def test_every_bit_of_saved_inputs_is_watched_over(tmp_path: Path) -> None:
    path, numbers = tmp_path / "x.pt", torch.arange(60.0).view(1, 3, 20)
    torch.save(numbers, path)
    content = path.read_bytes()
    start = content.index(numbers.numpy().tobytes())
    for offset in range(0, 240, 7):
        path.write_bytes(turned(content, 8 * (start + offset)))
        assert_refused(lambda: read_batch(path, torch.float32), str(path), (ValueError,))


@pytest.mark.parametrize("command", ["spectrum", "compare"])
def test_an_output_that_is_a_file_is_refused_before_the_work(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        assert main([command, "nowhere", "--output", str(output)]) == 1
        assert "Expected `--output` to name a folder, but" in capsys.readouterr().err


TABLES = {
    "empty": b"",
    "no epoch": b"step,val/loss\n1,2\n",
    "words": b"epoch,val/loss\none,two\n",
    "no epoch number": b"epoch,val/loss\nnan,2\n",
    "infinite epoch": b"epoch,val/loss\ninf,2\n",
    "more values": b"epoch,val/loss\n1,2,3\n",
    "a column twice": b"epoch,epoch,val/loss\n1,1,2\n",
    "quote": b'epoch,val/loss\n"1,2\n',
    "latin": b"epoch,val/loss\n1,\xe9\n",
    "utf-16": "epoch,val/loss\n1,2\n".encode("utf-16"),
    "zeros": b"\0" * 100,
    "endless": b'epoch,val/loss\n1,"' + b"x" * 200_000 + b'"\n',
}


@pytest.mark.grid(every=5)
@pytest.mark.parametrize("file", ["losses.csv", "metrics.csv"])
@pytest.mark.parametrize("kind", sorted(TABLES))
def test_a_run_with_damaged_losses_is_left_out_with_the_reason(
    tmp_path: Path, kind: str, file: str
) -> None:
    leave_run(tmp_path / "whole", {1.0: [-1.0]}, [0.5])
    bad = leave_run(tmp_path / "damaged", {1.0: [-1.0]}, []) / file
    bad.write_bytes(TABLES[kind])
    assert_refused(lambda: read_losses(bad.parent, "val/loss"), str(bad), (ValueError,))
    runs, skipped = load_runs(find_spectra([str(tmp_path)]), "val/loss")
    assert [run.name for run in runs] == ["whole"]
    assert str(bad) in skipped["damaged"]
    assert bad.read_bytes() == TABLES[kind]


@profile(60)
@given(st.binary(max_size=60))
def test_losses_of_any_bytes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    assert_refused(lambda: read_given_losses(path), str(path), (ValueError,))


@pytest.mark.parametrize("kind", ["folder", "missing"])
def test_tables_that_are_no_files(tmp_path: Path, kind: str) -> None:
    path = tmp_path if kind == "folder" else tmp_path / "nowhere.csv"
    assert_refused(lambda: read_table(path), str(path), (FileNotFoundError,))


@profile(60)
@given(st.data())
def test_damaged_event_files_give_the_losses_before_the_damage(
    events: Path, tmp_path: Path, data: st.DataObject
) -> None:
    expected = read_losses(events.parent, "val/loss")
    damage = data.draw(damaged(events.read_bytes()))
    (tmp_path / events.name).write_bytes(damage)
    got = read_losses(tmp_path, "val/loss")
    assert list(got.items()) == list(expected.items())[: len(got)]
    assert len(got) < len(expected)


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("events")
    writer = SummaryWriter(str(folder))
    for epoch in range(3):
        writer.add_scalar("epoch", epoch, epoch)
        writer.add_scalar("val/loss", 1 / (epoch + 1), epoch)
    writer.close()
    return next(folder.glob("events*"))
