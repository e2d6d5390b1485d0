"""A comparison finds the relation that is there, leaves out what can't be compared, and says so."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_lyap import SpectrumHistory
from lightning_lyap.sweeps.comparison import Comparison, compare_runs
from lightning_lyap.sweeps.correlation import associate, partial_spearman
from lightning_lyap.sweeps.report import format_comparison
from lightning_lyap.sweeps.runs import find_spectra, load_runs
from tests.sweep_runs import leave_run, leave_sweep, spectrum


def compared(folder: Path, **settings: Any) -> Comparison:
    runs, skipped = load_runs(find_spectra([str(folder)]), "val/loss")
    return compare_runs(runs, skipped, num_resamples=200, **settings)


def test_each_statistic_is_compared_with_the_lowest_loss(tmp_path: Path) -> None:
    leave_sweep(tmp_path)
    found = compared(tmp_path)
    rows = {row.name: row for row in found.rows}
    assert {"max", "mean", "variance", "min", "kaplan_yorke_dimension"} <= set(rows)
    assert not {"num_unresolved", "mean_all"} & set(rows)  # all exponents are resolved
    assert rows["max"].spearman.value == pytest.approx(-1)
    assert rows["max"].pearson.value == pytest.approx(-1)
    assert rows["max"].num_runs == 6
    assert abs(rows["min"].spearman.value or 0) < 0.9
    assert rows["num_positive"].spearman.value is None  # zero in all runs


def test_the_early_loss_is_always_the_baseline(tmp_path: Path) -> None:
    leave_sweep(tmp_path)
    found = compared(tmp_path, epoch=2)
    assert found.early_epoch == 2
    assert found.baseline.spearman.value == pytest.approx(1)
    assert found.rows[0].given_early_loss is not None
    assert found.rows[0].given_early_loss.value is None  # the early loss is the lowest
    assert "lowest of every run" in format_comparison(found)

    found = compared(tmp_path)
    assert found.early_epoch == 1
    best = [subject.best_loss for subject in found.runs]
    early = [2.0 + (i * 5 % 7) / 10 for i in range(6)]
    smallest = [-3.0 - (i * 7 % 5) for i in range(6)]
    expected = associate(partial_spearman, smallest, best, early, num_resamples=200)
    assert next(row for row in found.rows if row.name == "min").given_early_loss == expected
    assert "--epoch 1 takes both at the same time" in format_comparison(found)


def test_spectra_before_training_are_compared_with_the_first_loss(tmp_path: Path) -> None:
    leave_sweep(tmp_path)
    found = compared(tmp_path, epoch=0)
    assert found.early_epoch == 1
    assert {subject.epoch for subject in found.runs} == {0}
    assert "earlier than the early loss" in format_comparison(found)
    assert compared(tmp_path, epoch=0, early_epoch=3).early_epoch == 3


def test_what_cannot_be_compared_is_skipped_with_a_line(tmp_path: Path) -> None:
    leave_sweep(tmp_path)
    two = {2.0: [-0.5, -1.0]}
    leave_run(tmp_path / "early" / "task", {1.0: [-0.5, -1.0]}, [1.0, 2.0])
    leave_run(tmp_path / "failed" / "task", {}, [1.0, 2.0])
    leave_run(tmp_path / "large" / "task", {2.0: [-0.5, -1.0, -2.0]}, [1.0, 2.0])
    leave_run(tmp_path / "hidden" / "task", two, [1.0, 2.0], state="hidden")
    leave_run(tmp_path / "lossless" / "task", two, [])
    leave_run(tmp_path / "diverged" / "task", two, [math.nan, math.inf])
    leave_run(tmp_path / "dead" / "task", {2.0: [-math.inf, -math.inf]}, [1.0, 2.0])
    leave_run(tmp_path / "short" / "task", two, [1.0])
    found = compared(tmp_path, epoch=2)
    assert len(found.runs) == 6
    reasons = {
        "early": "no spectrum of epoch 2, only of 1",
        "failed": "no spectrum, 0 failed",
        "large": "K = 3, N = 3, but K = 2, N = 2 in most runs",
        "hidden": "state = hidden, but state = full in most runs",
        "lossless": "--loss-tag",
        "diverged": "no finite validation loss",
        "dead": "no finite exponent",
        "short": "no validation loss after epoch 2",
    }
    assert set(found.skipped) == set(reasons)
    said = format_comparison(found).splitlines()
    for name, reason in reasons.items():
        assert reason in found.skipped[name]
        assert f"skipped {name}: {found.skipped[name]}" in said


def test_a_spectrum_that_fails_its_certificate_is_skipped(tmp_path: Path) -> None:
    file = leave_sweep(tmp_path)[0] / "lyapunov" / "spectra.npz"
    history = SpectrumHistory.load(file)
    history.record_failure(2.0, history.steps[-1], "fails its certificate: sum_rule")
    history.save(file)
    assert "can't be trusted: fails its certificate" in compared(tmp_path).skipped["0"]
    assert not compared(tmp_path, epoch=0).skipped


def test_what_lies_in_rounding_noise_is_compared_apart(tmp_path: Path) -> None:
    for folder in leave_sweep(tmp_path):
        file = folder / "lyapunov" / "spectra.npz"
        history = SpectrumHistory.load(file)
        history.spectra[-1].resolved[-1] = False
        history.save(file)
    rows = {row.name: row for row in compared(tmp_path).rows}
    assert rows["mean"].spearman == rows["max"].spearman  # the only one resolved
    assert rows["mean_all"].spearman != rows["mean"].spearman


def test_a_run_killed_half_way_takes_part(tmp_path: Path) -> None:
    leave_sweep(tmp_path)
    leave_run(tmp_path / "6" / "task", {0.0: [-1.0, -2.0], 1.0: [-0.9, -2.5]}, [1.5])
    found = compared(tmp_path)
    assert [subject.epoch for subject in found.runs] == [2.0] * 6 + [1.0]
    said = format_comparison(found)
    assert "n = 7 runs, spectra of epochs 1 to 2" in said
    assert "Not all runs got equally far" in said


def test_fewer_than_three_runs_are_refused_with_the_reasons(tmp_path: Path) -> None:
    leave_sweep(tmp_path, 2)
    leave_run(tmp_path / "lossless" / "task", {2.0: [-0.5, -1.0]}, [])
    with pytest.raises(ValueError, match=r"at least 3 runs to compare, but got 2(?s:.)*lossless: "):
        compared(tmp_path)
    with pytest.raises(ValueError, match="got 0"):
        compare_runs([])


@pytest.mark.parametrize("count", [3, 4, 6])
def test_nothing_printed_is_nan(tmp_path: Path, count: int) -> None:
    leave_sweep(tmp_path, count)
    said = format_comparison(compared(tmp_path))
    assert "nan" not in said.lower()
    assert f"n = {count} runs" in said
    assert "Fewer" not in said
    assert "With fewer than 10 runs" in said


def test_a_statistic_that_some_runs_lack_has_its_own_n(tmp_path: Path) -> None:
    leave_sweep(tmp_path, 5)
    folder = leave_run(tmp_path / "6" / "task", {2.0: [-0.5, -1.0]}, [1.0, 0.4])
    history = SpectrumHistory({"state": "full", "module": "rnn"})
    one_sequence = torch.full((2,), math.nan, dtype=torch.float64)
    history.append(2, 20, replace(spectrum([-0.5, -1.0]), std=one_sequence), 0.1)
    history.save(folder / "lyapunov" / "spectra.npz")
    rows = {row.name: row for row in compared(tmp_path).rows}
    assert (rows["std_over_sequences"].num_runs, rows["mean"].num_runs) == (5, 6)


def test_partial_spectra_are_pointed_out(tmp_path: Path) -> None:
    for i in range(3):
        leave_run(tmp_path / str(i) / "t", {1.0: [-0.5 - i, -4.0]}, [1.0 + i], tangent_size=8)
    said = format_comparison(compared(tmp_path))
    assert "2 of 8 exponents" in said
    assert "not complete" in said
