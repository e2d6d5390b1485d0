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
from lightning_lyap.statistics.confidence import pool, t_quantile

# A difference that chance alone exceeds in one exponent of a hundred is taken for a drift.
PROBABILITY = 0.995
# Drifts that concern nobody, nats per step.
NEGLIGIBLE = 1e-6


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
    rows = []
    if terms[1] > 1:
        among = (residuals[1] - terms[1] * mean.square()).clamp(min=0)
        rows.append((among / (terms[1] - 1) / terms[1], terms[1] - 1, 1))
    for scale in range(2, NUM_SCALES):
        batches = 2 ** (scale - 1)
        if 2 * count * batches > MAX_BATCHES or terms[scale] < count * batches:
            break
        rows.append((residuals[scale] / count**2, terms[scale], batches))
    if not rows:
        return Drift(nothing, nothing)
    variance, degrees = pool(
        torch.stack([row[0] for row in rows]),
        mean.new_tensor([row[1] for row in rows]),
        mean.new_tensor([row[2] for row in rows]),
    )
    chance = t_quantile(degrees, PROBABILITY) * variance.sqrt()
    # Each half has half of the steps: its mean is twice its part of the whole.
    return Drift(2 * mean, 2 * chance + NEGLIGIBLE + rounding_errors)
