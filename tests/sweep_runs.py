"""Runs of a sweep as they lie on disk, of made-up spectra and losses."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lightning_lyap import SpectrumHistory
from lightning_lyap.estimator.result import MeanSpectrum
from lightning_lyap.statistics.measures import OF_THE_WHOLE
from lightning_lyap.sweeps.losses import save_losses

F64 = torch.float64


def spectrum(exponents: Sequence[float], tangent_size: int | None = None) -> MeanSpectrum:
    values = torch.tensor(exponents, dtype=F64)
    return MeanSpectrum(
        exponents=values,
        std=torch.full_like(values, 0.1),
        standard_errors=torch.full_like(values, 0.1),
        margins=torch.full_like(values, 0.2),
        resolved=values.isfinite(),
        settled=torch.ones(len(values), dtype=torch.bool),
        num_steps=50.0,
        warmup_steps=50.0,
        overlap=0.0,
        steps_to_settle=100.0,
        statistic_errors=torch.full((len(OF_THE_WHOLE), 2), 0.05, dtype=torch.float64),
        rounding_errors=torch.zeros_like(values),
        num_sequences=4,
        tangent_size=tangent_size or len(exponents),
    )


def leave_run(
    folder: Path,
    spectra: Mapping[float, Sequence[float]],
    losses: Sequence[float],
    where: str = "lyapunov",
    tangent_size: int | None = None,
    **settings: Any,
) -> Path:
    """Leave a run: spectra by epoch, losses after epochs 1, 2, ..."""
    history = SpectrumHistory({"state": "full", "module": "rnn"} | settings)
    for epoch, exponents in spectra.items():
        history.append(epoch, int(10 * epoch), spectrum(exponents, tangent_size), 0.1)
    history.save(folder / where / "spectra.npz")
    if losses:
        save_losses(
            folder / "losses.csv", {i + 1: {"val/loss": loss} for i, loss in enumerate(losses)}
        )
    return folder


def leave_sweep(folder: Path, count: int = 6) -> list[Path]:
    """Leave runs whose lowest loss falls with the largest exponent, and not with the smallest."""
    return [
        leave_run(
            folder / str(i) / "task",
            {0.0: [-1.0, -2.0], 2.0: [-0.1 * (i + 1), -3.0 - (i * 7 % 5)]},
            [2.0 + (i * 5 % 7) / 10, 0.5 + i / 10, 1.5],
        )
        for i in range(count)
    ]
