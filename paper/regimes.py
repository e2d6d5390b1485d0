"""Measures what Fig. 1 shows: the marginal gain, and networks below, at and above it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import Tensor

from lightning_lyap import SpectrumEstimate
from paper.confidence import FLOAT, interval
from paper.driven import (
    Realization,
    marginal_gains,
    predicted_marginal_gain,
    realize,
)

NEAR = 0.02  # nats per step: a perturbation keeps its size within a factor e for 50 steps
FORGOTTEN = 0.05  # of the variance between different drives
DRIVES, STARTS = 2, 10  # caption of Fig. 1
UNIT = 0  # the unit shown
SEEDS_APART = 1000  # realizations of different purposes share no random numbers
Regime = Literal["stable", "marginal", "chaotic", "undecided"]


class Mean(NamedTuple):
    """A mean over draws with its 95 % interval; the ends are NaN where it is not finite."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: FLOAT) -> "Mean":
        """Average over draws, ``[n]``."""
        ends = interval(values) if np.isfinite(values).all() else (math.nan, math.nan)
        return cls(float(values.mean()), *ends)

    @property
    def regime(self) -> Regime:
        """Of a network with this largest exponent."""
        if self.high < -NEAR:
            return "stable"
        if self.low > NEAR:
            return "chaotic"
        return "marginal" if self.low >= -NEAR and self.high <= NEAR else "undecided"

    def __format__(self, spec: str) -> str:
        """Write value and interval, each by the same format."""
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


@dataclass(frozen=True, eq=False)
class Example:
    """The network of a regime.

    Attributes:
        gain: g.
        activity: Of a unit, ``[drives, starts, T]``.
        spectrum: Complete, of the same drives.
        unforgotten: Late variance over initial states, in that between different drives.
    """

    gain: float
    activity: Tensor
    spectrum: SpectrumEstimate
    unforgotten: Mean


@dataclass(frozen=True, eq=False)
class Regimes:
    """What was measured.

    Attributes:
        size: N.
        draws: Number of draws of V, for each purpose.
        marginal: Marginal gain at N.
        limit: As N goes to infinity.
        predicted: By mean-field theory.
        largest: Largest exponent by gain, of draws that `marginal` was not taken from.
        examples: By regime.
    """

    size: int
    draws: int
    marginal: Mean
    limit: Mean
    predicted: float
    largest: dict[float, Mean]
    examples: dict[str, Example]


def measure(chosen: Any, gains: Sequence[float]) -> Regimes:
    """Find the marginal gain, then measure on other draws.

    Args:
        chosen: Section ``gains`` of the scale.
        gains: At which to measure the largest exponent, besides the three regimes'.

    Returns:
        All that Fig. 1 needs.

    Raises:
        ValueError: If no gain between the stable and the chaotic one is marginal.
    """
    between = chosen.stable, chosen.chaotic
    whole = marginal_gains(draws(chosen, chosen.size, 0), *between)
    half = marginal_gains(draws(chosen, chosen.size // 2, 1), *between)
    marginal = Mean.of(whole)
    print(f"The marginal gain of {chosen.size} units is {marginal:.4f}.")
    regimes = {"stable": chosen.stable, "marginal": marginal.value, "chaotic": chosen.chaotic}
    return Regimes(
        chosen.size,
        chosen.draws,
        marginal,
        Mean.of(2 * whole - half),
        predicted_marginal_gain(*between),
        largest_exponents(draws(chosen, chosen.size, 2), {*gains, *regimes.values()}),
        {name: example(chosen, gain) for name, gain in regimes.items()},
    )


def draws(chosen: Any, size: int, purpose: int) -> Iterator[Realization]:
    """Draw realizations, one after the other.

    Args:
        chosen: Section ``gains`` of the scale.
        size: N.
        purpose: Different ones share no random numbers.

    Yields:
        As many as the section asks for.
    """
    steps = chosen.steps, chosen.warmup_steps
    for seed in seeds(chosen, purpose):
        yield realize(size, chosen.sequences, *steps, seed)


def seeds(chosen: Any, purpose: int) -> range:
    """List the seeds of the draws of a purpose."""
    first = SEEDS_APART * (10 * chosen.seed + purpose)
    return range(first, first + chosen.draws)


def largest_exponents(found: Iterator[Realization], gains: set[float]) -> dict[float, Mean]:
    """Measure the largest exponent at gains.

    Args:
        found: Realizations, each measured at all gains.
        gains: The gains.

    Returns:
        By gain, ascending; nats per step.
    """
    ordered = sorted(gains)
    values = np.array([[draw.largest(gain) for gain in ordered] for draw in found])
    return {gain: Mean.of(values[:, i]) for i, gain in enumerate(ordered)}


def example(chosen: Any, gain: float) -> Example:
    """Run the network of a regime.

    Args:
        chosen: Section ``gains`` of the scale.
        gain: g.

    Returns:
        Activity and spectrum of the first draw, and what is left of initial states in all.
    """
    runs = [realize(chosen.size, STARTS, chosen.run_steps, 0, s) for s in seeds(chosen, 3)]
    activities = [run.activity(gain, DRIVES, STARTS) for run in runs]
    driven = replace(runs[0], inputs=runs[0].inputs[:DRIVES], states=runs[0].states[:DRIVES])
    return Example(
        gain,
        activities[0][..., UNIT],
        replace(driven, warmup_steps=chosen.run_steps // 4).spectrum(gain),
        Mean.of(np.array([unforgotten(activity) for activity in activities])),
    )


def unforgotten(activity: Tensor) -> float:
    """Compare the late spread over initial states with that between different drives.

    Args:
        activity: ``[2, starts, T, N]``.

    Returns:
        The variance of a unit over initial states under the same drive, in that under two drives
        (half the mean square of the difference), both averaged over the last quarter of the steps.
    """
    late = activity[:, :, -(activity.shape[2] // 4) :]
    return float(late.var(1).mean() / (0.5 * (late[0] - late[1]).square().mean()))
