"""How a spectrum is measured: one list of settings for callback, metric, command and schema."""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from lightning_lyap._checks import check_choice, check_count, check_settings
from lightning_lyap.dynamics import LayerChoice, StateChoice
from lightning_lyap.dynamics.layer_union import LAYERS
from lightning_lyap.dynamics.torch_modules import STATES
from lightning_lyap.estimator.inputs import Warmup
from lightning_lyap.estimator.schedule import Interval

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class MeasurementSettings:
    """How a spectrum is measured; `lyapunov_spectrum` says what the settings mean.

    Attributes:
        num_sequences: Held-out sequences, over all processes. Default 10 (Section 4.1).
        num_steps: Steps of each sequence at most, after those of a warm-up that is a number.
            Default 100 (Section 4.1).
        warmup_steps: Steps before those, which are not counted; the default ``"auto"`` leaves the
            first half of the ``num_steps`` out (1000 at most).
        orthonormalize_every: Steps between factorizations, or ``"auto"``. Default 1 (Algorithm 1).
        num_exponents: K, or None for all; a module that has fewer gives all it has.
        state: ``"full"`` or ``"hidden"``, for LSTMs.
        layers: ``"union"`` for each layer of a stack by itself, ``"joint"`` for one system.
        dtype: ``"float32"``, ``"float64"`` (torch's types are taken for their names), or None for
            the module's own.

    Raises:
        TypeError: If a number is no int.
        ValueError: If a setting is out of range, or no such word.
    """

    num_sequences: int = field(default=10, metadata={"meaning": "held-out sequences"})
    num_steps: int = field(default=100, metadata={"meaning": "steps of each"})
    warmup_steps: Warmup = field(
        default="auto", metadata={"meaning": "steps before those, or auto for half of them"}
    )
    orthonormalize_every: Interval = field(default=1, metadata={"meaning": "steps, or auto"})
    num_exponents: int | None = field(default=None, metadata={"meaning": "the leading ones alone"})
    state: StateChoice = field(
        default="full", metadata={"meaning": "of LSTMs: (h, c), or the paper's h alone"}
    )
    layers: LayerChoice = field(
        default="union", metadata={"meaning": "each layer of a stack by itself, or as one system"}
    )
    dtype: str | torch.dtype | None = field(default=None, metadata={"meaning": "of the arithmetic"})

    def __post_init__(self) -> None:
        checked = check_settings(self.num_exponents, self.warmup_steps, self.orthonormalize_every)
        names = {dtype: name for name, dtype in DTYPES.items()} | {name: name for name in DTYPES}
        known = isinstance(self.dtype, str | torch.dtype) and self.dtype in names
        if self.dtype is not None and not known:
            raise ValueError(
                f"Expected `dtype` to be one of {tuple(DTYPES)} or None, but got {self.dtype!r}."
            )
        plain = {
            "num_sequences": check_count("num_sequences", self.num_sequences, 1),
            "num_steps": check_count("num_steps", self.num_steps, 1),
            "warmup_steps": checked.warmup_steps,
            "orthonormalize_every": checked.orthonormalize_every,
            "num_exponents": checked.num_exponents,
            "dtype": None if self.dtype is None else names[self.dtype],
        }
        for name, value in plain.items():
            object.__setattr__(self, name, value)  # NumPy's integers go into no file
        check_choice("state", self.state, STATES)
        check_choice("layers", self.layers, LAYERS)

    @property
    def window(self) -> int:
        """Steps of a sequence, warm-up included."""
        return self.num_steps + (0 if self.warmup_steps == "auto" else self.warmup_steps)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain numbers and text."""
        return asdict(self)

    def estimator_settings(self) -> dict[str, Any]:
        """Return those that `lyapunov_spectrum` takes whatever the size of the module."""
        names = ("warmup_steps", "orthonormalize_every", "state", "layers")
        dtype = None if self.dtype is None else DTYPES[str(self.dtype)]
        return {name: getattr(self, name) for name in names} | {"dtype": dtype}
