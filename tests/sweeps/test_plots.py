"""The figures of a sweep show its runs, all of them, with the colors of their losses."""

from pathlib import Path

import numpy as np
import pytest

from lightning_lyap.plotting import render
from lightning_lyap.sweeps.comparison import Comparison, compare_runs
from lightning_lyap.sweeps.plots import plot_spectra_by_loss, plot_statistics_by_loss
from lightning_lyap.sweeps.runs import find_spectra, load_runs
from tests.sweep_runs import leave_run, leave_sweep


def compared(folder: Path) -> Comparison:
    runs, skipped = load_runs(find_spectra([str(folder)]), "val/loss")
    return compare_runs(runs, skipped, num_resamples=50)


@pytest.fixture
def sweep(tmp_path: Path) -> Comparison:
    leave_sweep(tmp_path)
    return compared(tmp_path)


def test_every_run_has_a_line_the_best_on_top(sweep: Comparison) -> None:
    figure, ax = plot_spectra_by_loss(sweep)
    lines = ax.get_lines()[1:]
    best = max(sweep.runs, key=lambda subject: -subject.best_loss)
    assert len(lines) == 6
    assert lines[-1].get_ydata().tolist() == best.spectrum.exponents.tolist()
    assert len({line.get_color() for line in lines}) == 6
    assert "6 runs" in ax.get_title()
    assert render(figure).std() > 0


def test_every_statistic_that_varies_has_a_panel_and_the_early_loss(sweep: Comparison) -> None:
    figure, axes = plot_statistics_by_loss(sweep)
    labels = [ax.get_xlabel() for ax in axes]
    assert labels[0] == "largest exponent (nats per step)"
    assert labels[-1] == "validation loss after epoch 1"
    assert "number of positive exponents" not in labels  # zero in all runs
    assert axes[0].get_title().startswith("\N{MINUS SIGN}1.00 [")
    points = axes[0].collections[0].get_offsets()
    expected = [[s.statistics()["max"], s.best_loss] for s in sweep.runs]
    np.testing.assert_allclose(points, expected)
    assert render(figure).std() > 0


def test_a_run_that_diverged_does_not_use_up_the_scale(tmp_path: Path) -> None:
    leave_sweep(tmp_path)
    leave_run(tmp_path / "far" / "task", {2.0: [-1.0, -2.0]}, [1e6])
    found = compared(tmp_path)
    render(plot_spectra_by_loss(found)[0])
    figure, axes = plot_statistics_by_loss(found)
    render(figure)
    assert axes[0].get_ylim()[1] < 2
    assert axes[-1].get_xlim()[1] < 4
    assert [len(points.get_offsets()) for points in axes[0].collections] == [6, 1]
    assert "beyond the axes" in figure.get_suptitle()


def test_losses_below_zero_are_drawn(tmp_path: Path) -> None:
    for i in range(3):
        leave_run(tmp_path / str(i) / "t", {1.0: [-0.5 - i, -1.0 - i]}, [-5.0 - i, -6.0 - i])
    figure, axes = plot_statistics_by_loss(compared(tmp_path))
    render(figure)
    low, high = axes[0].get_ylim()
    assert low < -8 < -6 < high < -5
    assert "beyond" not in figure.get_suptitle()


def test_what_is_not_resolved_or_not_finite_is_not_drawn(tmp_path: Path) -> None:
    for i in range(3):
        leave_run(tmp_path / str(i) / "t", {1.0: [-0.5 - i, -np.inf]}, [1.0])
    _, ax = plot_spectra_by_loss(compared(tmp_path))
    assert all(np.isnan(line.get_ydata()[-1]) for line in ax.get_lines()[1:])
