"""The table at the end of a run holds the numbers of the run."""

import errno
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from lightning_lyap import LyapunovSpectrumCallback, SpectrumHistory
from lightning_lyap.estimator.result import MeanSpectrum
from lightning_lyap.sweeps.losses import read_losses, save_losses
from lightning_lyap.tasks import loss_recorder
from lightning_lyap.tasks.loss_recorder import LossRecorder
from lightning_lyap.tasks.results_table import COLUMNS, format_table, results_table
from tests.networks import fit


def history(*epochs: float) -> SpectrumHistory:
    filled = SpectrumHistory()
    for i, epoch in enumerate(epochs):
        exponents = torch.tensor([0.5, -0.25, -1.0 - i], dtype=torch.float64)
        spectrum = MeanSpectrum(
            exponents=exponents,
            std=torch.ones(3, dtype=torch.float64),
            standard_errors=torch.ones(3, dtype=torch.float64),
            margins=torch.ones(3, dtype=torch.float64),
            resolved=torch.ones(3, dtype=torch.bool),
            settled=torch.ones(3, dtype=torch.bool),
            rounding_errors=torch.zeros(3, dtype=torch.float64),
            num_sequences=2,
            tangent_size=3,
        )
        filled.append(epoch, 10 * i, spectrum, 0.125 + i)
    return filled


LOSSES = {1: {"train/loss": 0.9, "val/loss": 0.8}, 2: {"train/loss": 0.7}}


def test_losses_and_spectra_are_joined_by_epoch() -> None:
    rows = results_table(LOSSES, history(0, 1, 1.5, 2))
    assert [row["epoch"] for row in rows] == [0, 1, 1.5, 2]
    assert [row.get("train/loss") for row in rows] == [None, 0.9, None, 0.7]
    assert [row.get("val/loss") for row in rows] == [None, 0.8, None, None]
    assert [row["seconds"] for row in rows] == [0.125, 1.125, 2.125, 3.125]
    assert [row["max"] for row in rows] == [0.5] * 4
    assert [row["min"] for row in rows] == [-1, -2, -3, -4]
    assert rows[0]["mean"] == pytest.approx(-0.25)
    assert rows[0]["variance"] == pytest.approx(torch.tensor([0.5, -0.25, -1]).var(correction=0))
    assert rows[0]["kaplan_yorke_dimension"] == pytest.approx(2.25)


def test_table_has_a_line_for_each_row() -> None:
    lines = format_table(results_table(LOSSES, history(0, 1.5, 2))).splitlines()
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1
    assert all(name in lines[0] for name in COLUMNS.values())
    assert lines[1].split() == ["0", "-", "-", "0.5000", "-0.2500", "0.3750", "2.2500", "0.12"]
    assert lines[2].split()[:3] == ["1.5", "-", "-"]
    assert lines[3].split()[:4] == ["2", "0.7000", "-", "0.5000"]


def test_columns_are_wide_enough_for_their_numbers() -> None:
    lines = format_table([{"epoch": 1234, "max": -12345.5, "seconds": 1e7}]).splitlines()
    assert lines[1].split() == ["1234", "-", "-", "-12345.5000", *"---", "10000000.00"]
    assert len(lines[0]) == len(lines[1])


def test_numbers_that_do_not_exist_are_shown_as_they_are() -> None:
    cells = format_table([{"epoch": 0, "max": math.nan, "mean": -math.inf}]).splitlines()[1].split()
    assert cells == ["0", "-", "-", "nan", "-inf", "-", "-", "-"]


def test_an_empty_table_has_its_header() -> None:
    assert len(format_table([]).splitlines()) == 1
    assert results_table({}, SpectrumHistory()) == []


@pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took:UserWarning")
def test_losses_of_a_run_are_recorded(tmp_path: Path) -> None:
    recorder, spectra = LossRecorder(), LyapunovSpectrumCallback(figures=False, save=False)
    trainer, _ = fit(tmp_path, recorder, spectra, max_epochs=3)
    assert list(recorder.losses) == [1, 2, 3]
    assert all(set(losses) == {"train/loss", "val/loss"} for losses in recorder.losses.values())
    final = trainer.callback_metrics
    assert recorder.losses[3]["train/loss"] == final["train/loss"].item()
    assert recorder.losses[3]["val/loss"] == final["val/loss"].item()
    assert len({losses["train/loss"] for losses in recorder.losses.values()}) == 3
    rows = results_table(recorder.losses, spectra.histories["rnn"])
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert "train/loss" not in rows[0]
    assert rows[3]["val/loss"] == final["val/loss"].item()


def test_losses_go_on_after_a_resumption(tmp_path: Path) -> None:
    recorder = LossRecorder()
    trainer, _ = fit(tmp_path, recorder, max_epochs=2)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    state = torch.load(tmp_path / "two.ckpt", weights_only=True)["callbacks"]["LossRecorder"]
    assert state == {"losses": {str(k): losses for k, losses in recorder.losses.items()}}
    resumed = LossRecorder()
    fit(tmp_path, resumed, max_epochs=3, ckpt_path=str(tmp_path / "two.ckpt"))
    assert list(resumed.losses) == [1, 2, 3]
    assert resumed.losses[1] == recorder.losses[1]


def test_a_full_disk_is_one_warning_and_the_next_epoch_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[list[int]] = []

    def full_twice(path: Path, losses: Mapping[int, Mapping[str, float]]) -> None:
        written.append(list(losses))
        if len(written) < 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        save_losses(path, losses)

    monkeypatch.setattr(loss_recorder, "save_losses", full_twice)
    with pytest.warns(UserWarning, match="No space left on device") as caught:
        fit(tmp_path, LossRecorder(), max_epochs=3)
    assert sum("losses.csv is behind" in str(one.message) for one in caught) == 1
    assert written == [[1], [1, 2], [1, 2, 3]]
    assert list(read_losses(next(tmp_path.rglob("losses.csv")).parent, "val/loss")) == [1, 2, 3]
