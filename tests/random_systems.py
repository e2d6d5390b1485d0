"""Random recurrent systems of all kinds, and a count of what is said of them against the truth."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_lyap import SpectrumEstimate, lyapunov_spectrum
from lightning_lyap.dynamics import LayerChoice, StateChoice
from lightning_lyap.estimator.schedule import Interval
from tests.ball_arithmetic import exact_spectrum

F32, F64 = torch.float32, torch.float64
INTERVALS: tuple[Interval, ...] = (1, "auto")
# What is off by less is right, nats per step: what an automatic interval promises.
TOLERANCES = {F32: 1e-3, F64: 1e-6}
# By how much the bounds of the rounding errors, which are estimates, may be exceeded.
EXCESS = 3
LARGEST_SIZES = {1: 10, 2: 5, 3: 4}
BATCH_SIZE = 2


@dataclass(frozen=True)
class System:
    """A module with two sequences.

    Attributes:
        module: With weights of some style, in float32.
        inputs: ``[B, T, I]``.
        state: The reading of an LSTM's state.
    """

    module: nn.RNNBase
    inputs: Tensor
    state: StateChoice

    def truth(self, layers: LayerChoice) -> Tensor:
        """Average the exact exponents over the sequences, ``[K]``."""
        return exact_spectrum(self.module, self.inputs, self.state, layers).mean(0)

    def estimate(
        self, layers: LayerChoice, dtype: torch.dtype, interval: Interval
    ) -> SpectrumEstimate:
        """Measure the same growth over the same steps."""
        return lyapunov_spectrum(
            self.module,
            self.inputs,
            state=self.state,
            dtype=dtype,
            layers=layers,
            orthonormalize_every=interval,
            warmup_steps=0,
        )


@dataclass(frozen=True)
class Count:
    """Exponents of an estimate.

    Attributes:
        false: Resolved, and off by more than what is said and the tolerance.
        right: Finite and not off by that.
        told: Right, and resolved.
    """

    false: int = 0
    right: int = 0
    told: int = 0

    def __add__(self, other: "Count") -> "Count":
        return Count(self.false + other.false, self.right + other.right, self.told + other.told)


def counts(
    system: System, layers: LayerChoice
) -> Iterator[tuple[tuple[torch.dtype, Interval], Count]]:
    """Yield what each type and interval say of a system.

    Chaotic ones count in float64 alone: in float32 their orbit itself is another one after some
    steps. Nor do sequences whose states overflow.
    """
    truth = system.truth(layers)
    for dtype, tolerance in TOLERANCES.items():
        for interval in INTERVALS if dtype == F64 or truth.max() <= 0 else ():
            estimate = system.estimate(layers, dtype, interval)
            if bool(estimate.valid.all()):
                yield (dtype, interval), count(estimate, truth, tolerance)


def count(estimate: SpectrumEstimate, truth: Tensor, tolerance: float) -> Count:
    """Compare with the exact exponents, ``[K]``, in the order of the basis vectors."""
    off = _distance(estimate, truth)
    said = estimate.rounding_errors.nan_to_num(posinf=0.0)
    wrong = (off > EXCESS * said + 1e-9) & (off > tolerance)
    right = ~wrong & estimate.exponents.isfinite()
    return Count(
        false=int((estimate.resolved & wrong).sum()),
        right=int(right.sum()),
        told=int((estimate.resolved & right).sum()),
    )


def _distance(estimate: SpectrumEstimate, truth: Tensor) -> Tensor:
    """Return how far off each exponent is, by its vector or by its rank, ``[K]``.

    Of equal exponents either may come first.
    """
    found = estimate.exponents
    distances = [
        (found - exact).abs().masked_fill(found == exact, 0.0).nan_to_num(nan=math.inf)
        for exact in (truth[estimate.order], truth.sort(descending=True).values)
    ]
    return torch.minimum(*distances)


def random_system(seed: int) -> System:
    """Draw a system: its kind, size, weights, inputs and length."""
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    kind = draw.choice(["tanh", "relu", "gru", "lstm", "lstm_hidden"])
    num_layers = draw.choice([1, 1, 2, 3])
    largest = LARGEST_SIZES[num_layers] // (2 if kind == "lstm" and num_layers > 1 else 1)
    sizes = [size for size in (2, 3, 4, 5, 6, 8, 10) if size <= max(largest, 3)]
    hidden_size = draw.choice(sizes)
    gain = draw.choice([0.1, 0.5, 1.0, 1.5, 2.0, 5.0, 10.0])
    style = draw.choice(["plain", "plain", "saturated", "trained"])
    form = draw.choice(["zero", "const", "periodic", "onehot", "gauss", "gauss"])
    steps, input_size = draw.choice([5, 20, 40, 60, 60]), draw.choice([1, 3, 5])
    module = _module(kind, input_size, hidden_size, num_layers)
    with torch.no_grad():
        _fill(module, gain, style, generator)
    inputs = _inputs(form, (BATCH_SIZE, steps, input_size), generator)
    return System(module, inputs, "hidden" if kind == "lstm_hidden" else "full")


def _module(kind: str, *sizes: int) -> nn.RNNBase:
    if kind in ("tanh", "relu"):
        return nn.RNN(*sizes, nonlinearity=kind)
    return nn.GRU(*sizes) if kind == "gru" else nn.LSTM(*sizes)


def _fill(module: nn.RNNBase, gain: float, style: str, generator: torch.Generator) -> None:
    """Draw weights: Gaussian, with large inputs and biases, or close to multiples of rotations."""
    size, saturated = module.hidden_size, style == "saturated"
    for name, weight in module.named_parameters():
        if "weight_hh" in name and style == "trained":
            for gate in weight.split(size):
                gate.copy_(_near_a_rotation(size, generator) * min(gain, 2))
            continue
        weight.copy_(torch.randn(weight.shape, generator=generator))
        if "weight_hh" in name:
            weight.mul_(gain).div_(math.sqrt(size))
        elif "weight_ih" in name:
            weight.mul_(6.0 if saturated else 0.7).mul_(1 if "l0" in name else 1 / math.sqrt(size))
        else:
            weight.mul_(3.0 if saturated else 0.2)
        if "bias_ih" in name and style == "trained" and isinstance(module, nn.LSTM):
            weight[size : 2 * size] += 2


def _near_a_rotation(size: int, generator: torch.Generator) -> Tensor:
    rotation = torch.linalg.qr(torch.randn(size, size, generator=generator)).Q
    left, right = (torch.randn(size, generator=generator) for _ in range(2))
    return 0.9 * rotation + torch.outer(left, right) / size


def _inputs(form: str, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    batch, steps, size = shape
    if form == "zero":
        return torch.zeros(shape)
    if form == "const":
        return torch.randn(batch, 1, size, generator=generator).expand(shape).clone()
    if form == "periodic":
        phase = torch.randn(batch, 1, 1, generator=generator)
        time = torch.arange(steps).float()[None, :, None]
        return torch.sin(0.7 * time * (1 + torch.arange(size)) + phase)
    if form == "onehot":
        numbers = torch.randint(size, (batch, steps), generator=generator)
        return nn.functional.one_hot(numbers, size).float()
    return torch.randn(shape, generator=generator)
