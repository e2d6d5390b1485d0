"""Loggers that take scalars alone, dummies, and several at once."""

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch.loggers
import pytest
import torch
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from lightning_lyap import LyapunovSpectrumCallback, SpectrumHistory
from lightning_lyap.callback.loggers import histogram_way, image_way, scalars_alone
from tests.loggers.events import events
from tests.loggers.runs import FIGURES, run
from tests.networks import fit

pytestmark = pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")


class Plain(Logger):
    """Keeps scalars, and has no experiment at all."""

    def __init__(self, save_dir: Path | None) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []
        self._save_dir = save_dir

    @property
    def name(self) -> str:
        return "plain"

    @property
    def version(self) -> int:
        return 4

    @property
    def save_dir(self) -> str | None:
        return None if self._save_dir is None else str(self._save_dir)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Keep none."""


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if "scalars alone" in record.message]


@pytest.mark.parametrize("has_folder", [True, False])
def test_another_logger_gets_scalars_and_one_line_names_the_folder_of_the_rest(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    has_folder: bool,
) -> None:
    logger = Plain(tmp_path / "own" if has_folder else None)
    with caplog.at_level(logging.INFO):
        history = run(tmp_path, logger, monkeypatch)
    steps = [step for step, row in logger.rows if "lyapunov/max" in row]
    assert steps == history.steps
    assert [step for step, row in logger.rows if "val/loss" in row] == history.steps[1:]
    folder = tmp_path / ("own" if has_folder else "") / "plain" / "version_4" / "lyapunov"
    assert {path.name for path in folder.iterdir()} == {
        "spectra.npz",
        *(f"{figure}.png" for figure in FIGURES),
    }
    assert told(caplog) == [
        f"Plain: Lyapunov exponents as scalars alone; spectra and figures are files in {folder}."
    ]


def test_a_dummy_takes_nothing_though_it_has_every_method(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callback = LyapunovSpectrumCallback(on_error="raise")
    settings: dict[str, Any] = {"fast_dev_run": True, "logger": TensorBoardLogger(tmp_path)}
    with caplog.at_level(logging.INFO):
        fit(tmp_path, callback, **settings)
        fitted, _ = fit(tmp_path, callback, **settings)
    (dummy,) = fitted.loggers
    assert type(dummy).__name__ == "DummyLogger"
    assert hasattr(dummy.experiment, "add_image")  # type: ignore[attr-defined]
    assert image_way(dummy) is None
    assert histogram_way(dummy) is None
    assert not list(tmp_path.iterdir())
    assert told(caplog) == [
        "DummyLogger: Lyapunov exponents as scalars alone; spectra and figures are not kept."
    ]


def test_several_loggers_get_each_what_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The files lie with the first."""
    plain = Plain(tmp_path / "own")
    loggers = [
        CSVLogger(tmp_path, "csv", version=""),
        TensorBoardLogger(tmp_path, "events", version=""),
        plain,
    ]
    with caplog.at_level(logging.INFO):
        history = run(tmp_path, loggers, monkeypatch)
    assert [step for step, row in plain.rows if "lyapunov/max" in row] == history.steps
    seen = events(tmp_path / "events")
    assert [event.step for event in seen.Images("lyapunov/history")] == history.steps
    folder = tmp_path / "csv" / "lyapunov"
    assert torch.equal(
        SpectrumHistory.load(folder / "spectra.npz").exponents(), history.exponents()
    )
    assert not (tmp_path / "events" / "lyapunov").exists()
    (said,) = told(caplog)
    assert said.startswith("CSVLogger and Plain: ")


def test_a_csv_logger_of_the_other_namespace_keeps_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = lightning.pytorch.loggers.CSVLogger(tmp_path, "run")
    history = run(tmp_path, logger, monkeypatch)
    folder = tmp_path / "run" / "version_0"
    assert SpectrumHistory.load(folder / "lyapunov" / "spectra.npz").steps == history.steps
    assert (folder / "metrics.csv").exists()


def test_two_runs_in_one_folder_keep_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Second(Plain):
        @property
        def version(self) -> int:
            return 5

    for kind in (Plain, Second):
        run(tmp_path, kind(tmp_path), monkeypatch)
    assert len(list(tmp_path.rglob("spectra.npz"))) == 2


def test_names_of_loggers_of_scalars_are_told_once() -> None:
    loggers = [Plain(None), Plain(None)]
    assert scalars_alone(loggers) == ["Plain"]
    assert scalars_alone([]) == []
