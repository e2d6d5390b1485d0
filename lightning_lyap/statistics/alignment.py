"""How far the basis may still be from the directions it is to find, by the exponents themselves.

Vectors that start anywhere have a part along every direction. Of a direction that grows more slowly
by a gap g the i-th vector loses the part like ``exp(-g t)``, its square twice as fast: until then
it grows more slowly by what is left of g. Where exponents lie close together that takes longer than
most windows, and so evenly that no half of the window tells of it.
"""

import math

import torch
from torch import Tensor

from lightning_lyap.statistics.batch_means import Contrasts
from lightning_lyap.statistics.stationarity import FACTORS, NEGLIGIBLE, drift, steps_to_settle

# Part of the margin that may be left: the 95 % interval then covers 92 % of the time at least.
ALLOWED = 0.25


def misalignment(
    exponents: Tensor, warmup_steps: float, num_steps: float, columns: int | None = None
) -> Tensor:
    """Estimate what the alignment of the basis has left in exponents.

    The mean over the steps counted of ``g exp(-2 g t)``, for the gap g to every other exponent:
    less for those below, more for those above.

    Args:
        exponents: ``[K]``, nats per step, in the order of the basis vectors.
        warmup_steps: Steps before those counted.
        num_steps: Steps counted.
        columns: Vectors of a block of the tangent space: blocks don't mix. Default: all.

    Returns:
        ``[K]``, nats per step; of infinite exponents 0.

    Example:
        >>> misalignment(torch.tensor([-0.1, -0.2]), 0, 1e9).abs() < 1e-9
        tensor([True, True])
    """
    blocks = exponents.unflatten(0, (-1, columns or len(exponents)))
    signed = blocks.unsqueeze(-1) - blocks.unsqueeze(-2)
    known, gaps = signed.isfinite(), signed.abs()
    left = (-2 * gaps * warmup_steps).exp() * (1 - (-2 * gaps * num_steps).exp())
    left = torch.where(known, left / (2 * num_steps), 0.0)
    signed = torch.where(known, signed, 0.0)
    return -(signed.sign() * left).sum(-1).flatten()


def settling(
    contrasts: Contrasts,
    rounding_errors: Tensor,
    margins: Tensor,
    concerned: Tensor,
    warmup_steps: float,
    num_steps: float,
    columns: int | None = None,
) -> tuple[Tensor, float]:
    """Judge which exponents have settled: neither drift nor alignment has left much in them.

    Args:
        contrasts: The sums of some sequences.
        rounding_errors: Bounds of what rounding did, ``[K]``, nats per step.
        margins: Half-widths of the 95 % intervals, ``[K]``, nats per step.
        concerned: Which exponents to name steps for, ``[K]``, bool.
        warmup_steps: Steps before those counted, on average.
        num_steps: Steps counted of each sequence, on average.
        columns: See `misalignment`.

    Returns:
        Which have settled, ``[K]``, bool, and how many steps would do for the others; see
        `steps_to_settle`.
    """
    found, mean = drift(contrasts, rounding_errors), contrasts.mean

    def aligned(before: float, counted: float) -> Tensor:
        left = misalignment(mean, before, counted, columns).abs()
        width = margins * (num_steps / counted) ** 0.5
        return left <= ALLOWED * width + NEGLIGIBLE + rounding_errors

    if not num_steps > 0:
        return torch.zeros_like(concerned), math.nan
    steps = steps_to_settle(contrasts, found, concerned, warmup_steps, num_steps)
    now = aligned(warmup_steps, num_steps)
    total = warmup_steps + num_steps
    late = concerned & found.settled & ~now & margins.isfinite()
    if bool(late.any()):
        halves = [factor * total / 2 for factor in FACTORS]
        enough = (half for half in halves if bool(aligned(half, half)[late].all()))
        own = 2 * next(enough, halves[-1])
        steps = own if math.isnan(steps) else max(own, steps)
    return (found.settled & now) | mean.isneginf(), steps
