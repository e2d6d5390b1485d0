"""Figures that can't be drawn, and loggers that raise."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from lightning_lyap import LyapunovSpectrumCallback
from lightning_lyap.callback import outputs
from lightning_lyap.plotting import plot_convergence
from lightning_lyap.tasks.loss_recorder import LossRecorder
from tests.faults.runs import EPOCHS, outcome, strict, train
from tests.loggers.events import events


@pytest.fixture(autouse=True)
def _quick_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "render", lambda figure: np.zeros((4, 6, 4), np.uint8))


class FailsAt:
    """Stands before a function and fails at some of its calls."""

    def __init__(self, calls: set[int], function: Any) -> None:
        self.calls, self.function, self.count = calls, function, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        if self.count in self.calls:
            raise RuntimeError("broken on purpose")
        return self.function(*args, **kwargs)


def test_a_figure_that_fails_costs_no_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "plot_convergence", FailsAt({2, 3}, plot_convergence))
    logger = TensorBoardLogger(tmp_path, "run", version="")
    run = outcome(tmp_path, callback=LyapunovSpectrumCallback(), logger=logger)
    (said,) = run.said
    assert said.startswith("No figures of this Lyapunov spectrum: RuntimeError while drawing: bro")
    assert [failure["epoch"] for failure in run.history.failures] == [1.0, 2.0]
    seen = events(tmp_path / "run")
    steps = run.history.steps
    assert [event.step for event in seen.Scalars("lyapunov/max")] == steps
    assert [event.step for event in seen.Histograms("lyapunov/exponents")] == steps
    assert [event.step for event in seen.Images("lyapunov/spectrum")] == [steps[0], steps[3]]
    assert (tmp_path / "run" / "lyapunov" / "spectra.npz").exists()


@pytest.mark.parametrize("method", ["add_histogram", "add_image"])
def test_a_logger_that_raises_costs_the_others_nothing(tmp_path: Path, method: str) -> None:
    broken = TensorBoardLogger(tmp_path, "broken", version="")
    setattr(broken.experiment, method, FailsAt({1, 2}, getattr(broken.experiment, method)))
    sound = TensorBoardLogger(tmp_path, "sound", version="")
    callback = LyapunovSpectrumCallback()
    run = outcome(tmp_path, callback=callback, logger=[broken, sound], max_epochs=2)
    (said,) = run.said
    assert said.startswith("This Lyapunov spectrum did not reach every logger: RuntimeError while")
    assert [failure["epoch"] for failure in run.history.failures] == [0.0, 1.0]
    seen, steps = events(tmp_path / "sound"), run.history.steps
    assert len(steps) == 3
    assert [event.step for event in seen.Images("lyapunov/history")] == steps
    assert [event.step for event in seen.Histograms("lyapunov/exponents")] == steps
    late = events(tmp_path / "broken")
    assert [event.step for event in late.Images("lyapunov/history")] == steps[2:]
    assert (tmp_path / "broken" / "lyapunov" / "history.png").exists()


class RefusesAtStart(CSVLogger):
    """Refuses the scalars that are written before training."""

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        if step == 0 and "lyapunov/max" in metrics:
            raise ConnectionError("server is gone")
        super().log_metrics(metrics, step)


def test_scalars_that_a_logger_refuses_before_training(tmp_path: Path) -> None:
    sound = TensorBoardLogger(tmp_path, "sound", version="")
    loggers = [RefusesAtStart(tmp_path, "broken", version=""), sound]
    run = outcome(tmp_path, logger=loggers)
    (said,) = run.said
    assert "did not reach every logger: ConnectionError while logging: server is gone." in said
    assert [failure["epoch"] for failure in run.history.failures] == [0.0]
    seen = events(tmp_path / "sound")
    assert [event.step for event in seen.Scalars("lyapunov/max")] == run.history.steps


class Nameless(Logger):
    """Keeps nothing, and can't say what its version is."""

    name = "nameless"

    @property
    def version(self) -> str:
        raise ConnectionError("server is gone")

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Keep none."""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Keep none."""


def test_a_logger_that_can_not_name_its_folder_costs_the_files_alone(tmp_path: Path) -> None:
    callback = LyapunovSpectrumCallback(num_steps=6)
    losses = LossRecorder()
    run = outcome(tmp_path, losses, callback=callback, logger=Nameless())
    ours, theirs = sorted(run.said)
    for said in (ours, theirs):
        assert "got ConnectionError while asking the logger for its folder: server is gone" in said
    assert ours.startswith("No files of the Lyapunov spectra of this run: RuntimeError while find")
    assert theirs.startswith("losses.csv is behind: RuntimeError while finding the folder")
    assert len(run.history) == EPOCHS + 1
    assert len(run.history.failures) == 1
    assert sorted(losses.losses) == [1, 2, 3]
    assert not list(tmp_path.rglob("lyapunov"))
    with pytest.raises(RuntimeError, match="asking the logger for its folder") as raised:
        train(tmp_path, strict(save=True), logger=Nameless())
    assert isinstance(raised.value.__cause__, ConnectionError)


def test_what_cannot_be_shown_raises_if_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConnectionError, match="server is gone"):
        train(tmp_path, strict(), logger=RefusesAtStart(tmp_path))
    monkeypatch.setattr(outputs, "draw_spectrum", FailsAt({1}, None))
    with pytest.raises(RuntimeError, match="on purpose"):
        train(tmp_path, strict(figures=True))
