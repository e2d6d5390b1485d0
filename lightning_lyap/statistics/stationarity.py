"""Whether stretches have settled: the two halves of what is counted agree within their noise.

State and basis need time to forget where they started. What is left of that is no noise: it moves
all sequences in the same direction, and their spread does not show it. The *signed* difference of
the two halves, averaged over the sequences, does. Its own noise is that of the sequences among each
other, together with the contrasts of smaller parts, which know less of slow changes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_lyap.statistics.batch_means import MAX_BATCHES, NUM_SCALES, Contrasts
from lightning_lyap.statistics.confidence import long_enough, pool, t_quantile

# A difference that chance alone exceeds in one exponent of a hundred is taken for a drift.
PROBABILITY = 0.995
# Drifts that concern nobody, nats per step.
NEGLIGIBLE = 1e-6
# How many times as many steps may be asked for, and what the drift of the second half may be of
# that of the first.
FACTORS = (1, 2, 4, 8, 16, 32, 64)
RATIOS = (0.01, 1.0)
# What of the drift that chance allows may be left: with all of it steps would be too few half of
# the time.
SAFETY = 0.5


class Drift(NamedTuple):
    """How much the two halves of what was counted differ.

    Attributes:
        difference: Of their means, first less second, ``[K]``, nats per step; NaN where it is not
            known: sequences of a single block, and infinite exponents.
        allowed: What chance and rounding may make of it, ``[K]``, nats per step.
    """

    difference: Tensor
    allowed: Tensor

    @property
    def settled(self) -> Tensor:
        """Where the halves agree, ``[K]``, bool; False where nothing is known."""
        return self.difference.abs() <= self.allowed


def drift(contrasts: Contrasts, rounding_errors: Tensor) -> Drift:
    """Compare the halves of what was counted.

    Args:
        contrasts: The sums of some sequences.
        rounding_errors: Bounds of what rounding did, ``[K]``, nats per step.

    Returns:
        The difference of the halves and what it may be.
    """
    count, terms = contrasts.count, contrasts.terms.tolist()
    nothing = torch.full_like(contrasts.mean, torch.nan)
    if not terms[1]:
        return Drift(nothing, nothing)
    mean = (contrasts.drift - contrasts.mean * contrasts.drift_weight) / terms[1]
    residuals = contrasts.residuals()
    over_time, over_sequences = contrasts.repetition
    rows = []
    if terms[1] > 1:
        among = (residuals[1] - terms[1] * mean.square()).clamp(min=0)
        among = among * over_sequences
        rows.append((among / (terms[1] - 1) / terms[1], terms[1] - 1, 1))
    for scale in range(2, NUM_SCALES):
        batches = 2 ** (scale - 1)
        if 2 * count * batches / over_time > MAX_BATCHES or terms[scale] < count * batches:
            break
        rows.append((over_time * residuals[scale] / count**2, terms[scale], batches))
    if not rows:
        return Drift(nothing, nothing)
    variances = torch.stack([row[0] for row in rows])
    known = mean.new_tensor([max(row[1] / over_time, 1.0) for row in rows])
    kept = long_enough(variances, known, first=int(terms[1] > 1))
    variance, degrees = pool(variances, kept, mean.new_tensor([row[2] for row in rows]))
    chance = t_quantile(degrees, PROBABILITY) * variance.sqrt()
    # Each half has half of the steps: its mean is twice its part of the whole.
    return Drift(2 * mean, 2 * chance + NEGLIGIBLE + rounding_errors)


def steps_to_settle(
    contrasts: Contrasts, found: Drift, concerned: Tensor, warmup_steps: float, num_steps: float
) -> float:
    """Estimate how many steps would do for all exponents to settle, half of them as a warm-up.

    What is left of a transient falls like ``exp(-t / tau)``. The drift within the second half over
    that within the first is ``r = exp(-T / (2 tau))``. Of twice, four times ... as many steps those
    counted begin later, so that the drift is a power of r, and chance allows less of it. A ratio of
    noise may say that nothing falls: then, as at least, the drift falls as the number of steps
    grows.

    Args:
        contrasts: The sums of some sequences.
        found: What `drift` returned for them.
        concerned: Which exponents to take, ``[K]``, bool.
        warmup_steps: Steps before those counted, on average.
        num_steps: Steps counted of each sequence, on average.

    Returns:
        Steps of a sequence in all: those there are, or twice, four times ... as many; 64 times as
        many where that is not enough either. NaN where all have settled, or nothing is known.
    """
    moving = concerned & ~found.settled & found.difference.isfinite()
    if not bool(moving.any()):
        return torch.nan
    parts = contrasts.samples.sum(0)
    rates = (parts[:, :-1] / parts[:, -1:])[:, moving].unflatten(0, (4, 2)).mean(1)
    size, allowed = found.difference[moving].abs(), found.allowed[moving]
    sign = found.difference[moving].sign()
    first, second = sign * (rates[0] - rates[1]), sign * (rates[2] - rates[3])
    falls = (second / first).nan_to_num(1.0).clamp(*RATIOS)
    total = warmup_steps + num_steps
    for factor in FACTORS:
        begins = factor * total / 2
        left = falls ** (2 * max(begins - warmup_steps, 0.0) / num_steps)
        drifts = size * left.clamp(max=1 / factor)
        if bool((drifts <= SAFETY * allowed * (num_steps / begins) ** 0.5).all()):
            break
    return factor * total
