"""A reporter, a Trainer that is none, and a measurement, for the tests of what is reported."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from lightning_lyap import SpectrumHistory
from lightning_lyap.callback.errors import WarnOnce
from lightning_lyap.callback.failures import Failures
from lightning_lyap.callback.measurement import Measurement, NetworkMeasurement
from lightning_lyap.callback.reporter import Reporter
from lightning_lyap.callback.run_histories import RunHistories
from lightning_lyap.callback.run_state import RunState
from lightning_lyap.estimator.result import LayeredSpectrum

SETTINGS = {"num_sequences": 2, "state": "full"}


def measurement(*exponents: float, num_sequences: int = 2, seconds: float = 0.5) -> Measurement:
    values = torch.tensor(exponents or (0.5, -1.0), dtype=torch.float64)
    spectrum = LayeredSpectrum(
        exponents=values,
        std=torch.where(values.isfinite(), 0.2, math.nan),
        standard_errors=torch.where(values.isfinite(), 0.1, math.nan),
        margins=torch.where(values.isfinite(), 0.25, math.nan),
        resolved=values.isfinite(),
        settled=torch.ones(len(values), dtype=torch.bool),
        rounding_errors=torch.zeros_like(values),
        num_sequences=num_sequences,
        tangent_size=len(values),
    )
    return Measurement(spectrum, None, seconds)


class Experiment:
    def __init__(self) -> None:
        self.histograms: list[tuple[str, int]] = []
        self.images: list[tuple[str, int]] = []

    def add_histogram(self, tag: str, values: Tensor, step: int) -> None:
        self.histograms.append((tag, step))

    def add_image(self, tag: str, image: Any, step: int, dataformats: str) -> None:
        self.images.append((tag, step))


def fake_trainer(folder: Path, **changes: Any) -> Any:
    facts: dict[str, Any] = {
        "state": SimpleNamespace(fn=TrainerFn.FITTING),
        "fit_loop": SimpleNamespace(
            epoch_loop=SimpleNamespace(
                _batches_that_stepped=7,
                batch_progress=SimpleNamespace(
                    is_last_batch=False, current=SimpleNamespace(ready=0)
                ),
            )
        ),
        "num_training_batches": 4,
        "loggers": [SimpleNamespace(experiment=Experiment(), log_dir=str(folder / "logs"))],
        "strategy": SimpleNamespace(broadcast=lambda found: found),
        "is_global_zero": True,
        "sanity_checking": False,
        "global_step": 0,
        "barebones": False,
        "callback_metrics": {},
        "current_epoch": 3,
        "default_root_dir": str(folder / "root"),
        "fast_dev_run": False,
    }
    return SimpleNamespace(**facts | changes)


class Reports:
    """What a callback keeps over several runs of the Trainer, each with a reporter of its own."""

    def __init__(self, **changes: Any) -> None:
        self.warn_once = WarnOnce()
        self.run = RunState(RunHistories(SETTINGS, self.warn_once))
        self.options: dict[str, Any] = {"figures": True, "save": True} | changes

    @property
    def histories(self) -> dict[str, SpectrumHistory]:
        return self.run.histories.by_module

    def failures(self, trainer: Any) -> Failures:
        return Failures(trainer, self.run.histories, "warn", self.warn_once)

    def reporter(self, trainer: Any, *modules: str) -> Reporter:
        given = self.run, self.failures(trainer), self.warn_once
        return Reporter(trainer, modules, "lyapunov", *given, **self.options)

    def publish(
        self, trainer: Any, epoch: float, every: int = 1, **by_module: Measurement
    ) -> dict[str, float]:
        """Publish measurements by module; ``rnn`` alone has no part in the keys."""
        trainer.current_epoch = epoch
        missing = () if set(by_module) <= {"rnn"} else ("missing",)
        measured = NetworkMeasurement(by_module, 0.0, missing)
        return self.reporter(trainer, *by_module).publish(measured, every)


def sent(trainer: Any) -> Experiment:
    experiment: Experiment = trainer.loggers[0].experiment
    return experiment


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.*")}
