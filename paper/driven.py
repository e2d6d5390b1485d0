"""The networks of Fig. 1: orthogonal tanh networks driven by noise, and the gain that is marginal.

``h' = tanh(g O h + x)`` with O uniform on the orthogonal group (Haar) and white x. All random
numbers of a realization are the same at every gain.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_lyap import SpectrumEstimate, lyapunov_spectrum
from lightning_lyap.systems import gaussian_mean, mean_field_exponent, mean_field_variance
from paper.confidence import FLOAT

DRIVE_VARIANCE = 0.6  # caption of Fig. 1
START_VARIANCE = 1.0  # caption of Fig. 1
MAX_STEPS = 60  # of the root finder; it takes about seven
F64 = torch.float64


@dataclass(frozen=True, eq=False)
class Realization:
    """A matrix, sequences of drives and initial states.

    Attributes:
        matrix: O, ``[N, N]``, float64.
        inputs: ``[B, T, N]``.
        states: ``[B, N]``.
        warmup_steps: Steps that are not counted.
    """

    matrix: Tensor
    inputs: Tensor
    states: Tensor
    warmup_steps: int

    def network(self, gain: float) -> nn.RNN:
        """Build the network of a gain.

        Args:
            gain: g.

        Returns:
            A network without biases, batch first, float64.
        """
        size = self.matrix.shape[0]
        made = nn.RNN(size, size, bias=False, batch_first=True, device="meta", dtype=F64)
        rnn: Any = made.to_empty(device="cpu")  # no number is drawn from the global generator
        with torch.no_grad():
            rnn.weight_hh_l0.copy_(gain * self.matrix)
            rnn.weight_ih_l0.copy_(torch.eye(size))
        return made

    def spectrum(self, gain: float, num_exponents: int | None = None) -> SpectrumEstimate:
        """Measure exponents.

        Args:
            gain: g.
            num_exponents: How many of the largest. Default: all.

        Returns:
            The estimate.
        """
        return lyapunov_spectrum(
            self.network(gain),
            self.inputs,
            initial_state=self.states.unsqueeze(0),
            num_exponents=num_exponents,
            warmup_steps=self.warmup_steps,
        )

    def largest(self, gain: float) -> float:
        """Measure the largest exponent, nats per step, averaged over the sequences."""
        return float(self.spectrum(gain, 1).exponents[0])

    @torch.no_grad()
    def activity(self, gain: float, drives: int, starts: int) -> Tensor:
        """Run the network under each of the first drives from each of the first initial states.

        Args:
            gain: g.
            drives: Number of drives.
            starts: Number of initial states.

        Returns:
            h, ``[drives, starts, T, N]``.
        """
        inputs = self.inputs[:drives].repeat_interleave(starts, 0)
        states = self.states[:starts].repeat(drives, 1).unsqueeze(0)
        activity: Tensor = self.network(gain)(inputs, states)[0]
        return activity.unflatten(0, (drives, starts))


def realize(size: int, sequences: int, steps: int, warmup_steps: int, seed: int) -> Realization:
    """Draw a realization from a generator of its own.

    Args:
        size: N.
        sequences: B.
        steps: Steps counted.
        warmup_steps: Steps before those.
        seed: Of the generator.

    Returns:
        The realization.
    """
    generator = torch.Generator().manual_seed(seed)
    matrix = nn.init.orthogonal_(torch.empty(size, size, dtype=F64), generator=generator)
    shape = (sequences, warmup_steps + steps, size)
    inputs = math.sqrt(DRIVE_VARIANCE) * torch.randn(shape, generator=generator, dtype=F64)
    states = torch.randn(sequences, size, generator=generator, dtype=F64)
    return Realization(matrix, inputs, math.sqrt(START_VARIANCE) * states, warmup_steps)


def marginal_gains(draws: Iterable[Realization], low: float, high: float) -> FLOAT:
    """Find the gain at which the largest exponent is zero, for each realization.

    Args:
        draws: Realizations.
        low: A gain below.
        high: A gain above.

    Returns:
        Gains, one a realization.

    Raises:
        ValueError: If the exponents at the ends have the same sign.
    """
    return np.array([find_root(draw.largest, low, high, 1e-4) for draw in draws])


def predicted_marginal_gain(low: float, high: float) -> float:
    """Find the marginal gain of mean-field theory, N to infinity.

    Args:
        low: A gain below.
        high: A gain above.

    Returns:
        The gain.

    Raises:
        ValueError: If it is not between them.
    """
    return find_root(lambda gain: mean_field_exponent(gain, DRIVE_VARIANCE), low, high, 1e-9)


def predicted_mean_exponent(gain: float) -> float:
    """Compute the mean of all exponents as N goes to infinity.

    ``log g + E log sech^2(sqrt(q) z)``: the volume is changed by the slopes, and by g O alike
    everywhere.

    Args:
        gain: g.

    Returns:
        Nats per step.

    Example:
        >>> predicted_mean_exponent(1.0) < mean_field_exponent(1.0, DRIVE_VARIANCE) < 0
        True
    """

    def log_slope(a: Tensor) -> Tensor:
        return 2 * (math.log(2) - a.abs() - (-2 * a.abs()).exp().log1p())

    return math.log(gain) + gaussian_mean(log_slope, mean_field_variance(gain, DRIVE_VARIANCE))


def find_root(
    function: Callable[[float], float], low: float, high: float, tolerance: float
) -> float:
    """Find where a function changes its sign, by false position (the Illinois variant).

    Args:
        function: Continuous.
        low: One end.
        high: The other.
        tolerance: Of the function's value, and of the place.

    Returns:
        The place.

    Raises:
        ValueError: If the values at the ends have the same sign, or it takes too many steps.

    Example:
        >>> round(find_root(lambda x: x**3 - 2, 1.0, 2.0, 1e-12), 9)
        1.25992105

    Reference:
        Dowell and Jarratt (1971), BIT 11, 168-174.
    """
    at_low, at_high = function(low), function(high)
    if not (math.isfinite(at_low * at_high) and at_low * at_high < 0):
        raise ValueError(
            f"Expected values of opposite signs at {low:g} and {high:g}, but got {at_low:g} and "
            f"{at_high:g}. Set the ends wider apart (`scale.gains.stable` and `chaotic`)."
        )
    for _ in range(MAX_STEPS):
        place = (low * at_high - high * at_low) / (at_high - at_low)
        value = function(place)
        if abs(value) < tolerance or abs(high - low) < tolerance:
            return place
        if value * at_high < 0:  # the root lies beyond the place seen last
            low, at_low = high, at_high
        else:
            at_low /= 2
        high, at_high = place, value
    raise ValueError(
        f"Expected a root within {MAX_STEPS} steps, but got no nearer than {low:g} to {high:g}. "
        "Measure longer sequences (`scale.gains.steps`)."
    )
