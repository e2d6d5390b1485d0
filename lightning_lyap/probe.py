"""One measurement of a network: the settings, the sequences, a spectrum for each module."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from lightning_lyap.capture import DrivingSequences
from lightning_lyap.checks import check_count, check_settings
from lightning_lyap.dynamics import StateChoice, check_state, from_torch_module
from lightning_lyap.estimate import MeanSpectrum, SpectrumEstimate
from lightning_lyap.metric import LyapunovSpectrum
from lightning_lyap.spectrum import lyapunov_spectrum

DTYPE_NAMES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class ProbeSettings:
    """How a spectrum is measured.

    Attributes:
        num_sequences: Held-out sequences, over all processes.
        num_steps: Steps counted in each sequence at most.
        warmup_steps: Steps before those that are not counted.
        orthonormalize_every: Steps between factorizations.
        num_exponents: K, or None for all.
        state: ``"full"`` or ``"hidden"``, for LSTMs.
        dtype: ``"float32"``, ``"float64"``, or None for the module's own.

    Raises:
        TypeError: If a number is no int.
        ValueError: If a setting is out of range.
    """

    num_sequences: int
    num_steps: int
    warmup_steps: int
    orthonormalize_every: int
    num_exponents: int | None
    state: StateChoice
    dtype: str | None

    def __post_init__(self) -> None:
        check_count("num_sequences", self.num_sequences, 1)
        check_count("num_steps", self.num_steps, 1)
        check_settings(self.num_exponents, self.warmup_steps, self.orthonormalize_every)
        check_state(self.state)
        if self.dtype is not None and self.dtype not in DTYPE_NAMES:
            raise ValueError(
                f"Expected `dtype` to be one of {tuple(DTYPE_NAMES)} or None, "
                f"but got {self.dtype!r}."
            )

    @property
    def window(self) -> int:
        """Steps of a sequence, warm-up included."""
        return self.warmup_steps + self.num_steps

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain numbers and text."""
        return asdict(self)

    def estimator_settings(self) -> dict[str, Any]:
        """Return those that the estimator takes."""
        return {
            "warmup_steps": self.warmup_steps,
            "orthonormalize_every": self.orthonormalize_every,
            "state": self.state,
            "dtype": None if self.dtype is None else DTYPE_NAMES[self.dtype],
        }


@dataclass(frozen=True, eq=False)
class Measurement:
    """The spectrum of one module.

    Attributes:
        spectrum: Over the sequences of all processes.
        estimate: Over those of this process, with its log-stretches; None if it had none.
        seconds: Wall time.
    """

    spectrum: MeanSpectrum
    estimate: SpectrumEstimate | None
    seconds: float


def measure(
    modules: Mapping[str, nn.RNNBase],
    sequences: Mapping[str, DrivingSequences],
    settings: ProbeSettings,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Measurement]:
    """Measure the spectrum of each module, over the sequences of all processes.

    Args:
        modules: The modules by name.
        sequences: What drives each of them in this process; none for a module without.
        settings: How to measure.
        progress: Called with (module's name, steps done, steps in all).

    Returns:
        A measurement for each module.

    Raises:
        ValueError: If a spectrum can't be measured with these settings.
    """
    return {
        name: _measure_module(
            module,
            sequences.get(name),
            settings,
            None if progress is None else partial(progress, name),
        )
        for name, module in modules.items()
    }


def _measure_module(
    module: nn.RNNBase,
    sequences: DrivingSequences | None,
    settings: ProbeSettings,
    progress: Callable[[int, int], None] | None,
) -> Measurement:
    """Measure one module.

    Args:
        module: The module.
        sequences: What drives it in this process, or None.
        settings: How to measure.
        progress: Called with (steps done, steps in all).

    Returns:
        Its measurement.
    """
    start = time.perf_counter()
    chosen = settings.estimator_settings()
    system = from_torch_module(module, settings.state, chosen["dtype"])
    count = settings.num_exponents or system.tangent_size
    metric = LyapunovSpectrum(count, **chosen).to(system.device)
    estimate = None
    if sequences is not None:
        estimate = lyapunov_spectrum(
            module,
            sequences.inputs,
            initial_state=sequences.initial_state,
            lengths=sequences.lengths,
            num_exponents=count,
            keep_log_stretches=True,
            progress=progress,
            **chosen,
        )
        metric.update(estimate)
    return Measurement(metric.mean_spectrum(), estimate, time.perf_counter() - start)
