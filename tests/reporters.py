"""A reporter, a Trainer that is none, and a measurement, for the tests of what is reported."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from lightning_lyap.callback.measurement import Measurement
from lightning_lyap.callback.reporter import SpectrumReporter
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
        "current_epoch": 3,
        "default_root_dir": str(folder / "root"),
        "fast_dev_run": False,
    }
    return SimpleNamespace(**facts | changes)


def reporter(**changes: Any) -> SpectrumReporter:
    given: dict[str, Any] = {"figures": True, "save": True}
    return SpectrumReporter("lyapunov", SETTINGS, **given | changes)


def sent(trainer: Any) -> Experiment:
    experiment: Experiment = trainer.loggers[0].experiment
    return experiment


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.*")}
