"""One measurement of modules that are driven by given sequences."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lightning_lyap.callback.measurement import Measurement, combine_processes, estimate_spectra
from lightning_lyap.estimator.settings import MeasurementSettings
from lightning_lyap.network.sequences import DrivingSequences

DEFAULTS: dict[str, Any] = {
    "num_sequences": 3,
    "num_steps": 10,
    "warmup_steps": 2,
    "orthonormalize_every": 3,
    "num_exponents": None,
    "state": "full",
    "layers": "joint",
    "dtype": None,
}


def settings(**changes: Any) -> MeasurementSettings:
    return MeasurementSettings(**DEFAULTS | changes)


def driving(
    inputs: Tensor, lengths: list[int] | None = None, initial_state: Any = None
) -> DrivingSequences:
    ends = torch.tensor(lengths or [inputs.shape[1]] * len(inputs))
    return DrivingSequences(inputs=inputs, lengths=ends, initial_state=initial_state)


def measure(
    modules: Mapping[str, nn.Module],
    inputs: dict[str, DrivingSequences],
    chosen: MeasurementSettings,
    progress: Any = None,
) -> dict[str, Measurement]:
    """Measure in one process, as the callback does in each of several."""
    estimates = estimate_spectra(modules, inputs, chosen, progress)
    return combine_processes(modules, estimates, chosen)
