"""Standard errors and 95 % intervals of exponents, from their contrasts over time and sequences.

The stretch of a batch of b steps has the variance ``L b + c`` once b exceeds the correlation time:
L is the long-run variance, and c < 0 where stretches follow their like. So the mean square of every
scale is a line, scaled to be the variance of the mean exponent where whole sequences stand::

    spread over sequences   A + c',    contrasts of halves at scale j   A + 3 2^(j-1) c'.

The contrasts are next to independent, and the variance wanted is ``A + c'``. It is pooled from all
scales with at most 64 batches in all: replicated batch means (Argon and Andradottir, 2006) on the
halving ladder that Schmeiser (1982) shows to need no more than some tens of batches.

The slope is not known. It is averaged over, weighed by its likelihood and a prior that prefers
``A > 0``: so the interval widens where the data leave it open. Where A = 0 the error shrinks like
1/T instead of 1/sqrt(T): anomalous maps, such as the logistic map at r = 4, whose stretches cancel
but for the first and the last. There the error bar shrinks like 1/T too; from a single sequence,
which can't tell A = 0 from a small A, it is two to three times too wide.

Where sequences differ more than their course over time says, each has an exponent of its own (other
attractors, other inputs), and the spread over sequences alone is the error.

Sequences that overlap, each pair in a part rho of its steps on average, are fewer than their number
says: the variance of the mean is ``1 + (B - 1) rho`` times what B others would have, their spread
shows ``1 - rho`` of what it is, and degrees of freedom are fewer alike.

Batches shorter than the correlation time lie on no line: the finest scales are left out as long as
they are far below the others (`long_enough`).

Coverage of the 95 % interval, measured over hundreds of replicates: 94-96 % for independent
stretches and for those driven by an AR(1) process of coefficient 0.9, with one to forty sequences
and a hundred to a thousand steps in all, 94-97 % of coefficient 0.99 and a thousand; 95-100 % for
anomalous maps; 94-95 % for three sequences or more of different exponents, 95-97 % for windows that
overlap. It falls short for exponents that differ from sequence to sequence if there are but two
(82 %). A single sequence does not show that at all: its interval is one of its own exponent.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_lyap.statistics.batch_means import MAX_BATCHES, NUM_SCALES, Contrasts

# 97.5 % and 75 % quantiles of the normal distribution.
TWO_SIDED_95 = 1.959963984540054
ONE_SIDED_75 = 0.6744897501960817
# Ratios of the finest scale's mean square to the variance wanted that are considered, from long
# correlations to A = 0, evenly on a logarithmic scale.
SMALLEST_RATIO = 1 / 32
NUM_RATIOS = 128
# Batches are too short if the halves of them differ by less than this part of what those of longer
# ones do, squared: of white noise all are alike.
TOO_SHORT = 0.6
# Contrasts that a scale needs for that to be no chance.
ENOUGH = 4


class Uncertainty(NamedTuple):
    """How well the mean exponents are known.

    Attributes:
        standard_errors: Of the mean, ``[K]``, nats per step. NaN where nothing tells it: a single
            sequence of one block, an infinite exponent.
        degrees: Effective degrees of freedom of those, ``[K]``.
        margins: Half-width of the 95 % interval, ``t(0.975, degrees) * standard_errors``, ``[K]``.
    """

    standard_errors: Tensor
    degrees: Tensor
    margins: Tensor


def uncertainty(contrasts: Contrasts) -> Uncertainty:
    """Pool the contrasts over time and the spread over sequences.

    Args:
        contrasts: Their sums.

    Returns:
        Standard errors, degrees of freedom and margins, in the order of the contrasts.

    Reference:
        Argon and Andradottir (2006), Replicated batch means for steady-state simulations, Naval
        Research Logistics 53, 508-524. Schmeiser (1982), Batch size effects in the analysis of
        simulation output, Operations Research 30, 556-568.
    """
    count = contrasts.count
    variances, degrees, slopes = _scales(contrasts)
    if len(degrees) == 0:
        nothing = torch.full_like(contrasts.mean, math.nan)
        return Uncertainty(nothing, nothing, nothing)
    degrees = long_enough(variances, degrees, first=int(count > 1))
    variance, known = pool(variances, degrees, slopes)
    if count > 1 and len(degrees) > 1:
        spread = variances[0]
        over_time, known_over_time = pool(variances[1:], degrees[1:], slopes[1:])
        # Fisher's z. A false alarm takes the larger of two valid errors, so that one in four costs
        # a few per cent of width; at one in a hundred, differences that escape it cost coverage.
        error = (2 / degrees[0] + 2 / known_over_time).sqrt()
        differ = (spread / over_time).log() > ONE_SIDED_75 * error
        variance = torch.where(differ, spread, variance)
        known = torch.where(differ, degrees[0], known)
    errors = torch.where(contrasts.mean.isfinite(), variance.sqrt(), math.nan)
    return Uncertainty(errors, known, errors * t_quantile(known))


def _scales(contrasts: Contrasts) -> tuple[Tensor, Tensor, Tensor]:
    """Return variances of the mean, ``[S, K]``, their degrees of freedom and slopes in c', ``[S]``.

    The spread over sequences, if there are two or more, then the scales at which all sequences have
    contrasts and there are at most `MAX_BATCHES` batches in all.
    """
    count = contrasts.count
    terms = contrasts.terms.tolist()
    residuals = contrasts.residuals()
    over_time, over_sequences = contrasts.repetition
    rows = [(residuals[0] / (count - 1) / count, count - 1, 1)] if count > 1 else []
    for scale in range(1, NUM_SCALES):
        batches = 2 ** (scale - 1)
        if not 0 < 2 * count * batches / over_time <= MAX_BATCHES or terms[scale] < count * batches:
            break
        rows.append((residuals[scale] / count**2, terms[scale], 3 * batches))
    variances = [
        row[0] * (over_sequences if count > 1 and index == 0 else over_time)
        for index, row in enumerate(rows)
    ]
    return (
        torch.stack(variances) if rows else residuals[:0],
        residuals.new_tensor([max(row[1] / over_time, 1.0) for row in rows]),
        residuals.new_tensor([row[2] for row in rows]),
    )


def long_enough(variances: Tensor, degrees: Tensor, first: int) -> Tensor:
    """Leave out scales whose batches are shorter than the correlation.

    Their halves differ much less than those of longer batches: the finest are left out as long as
    they do, and are four or more.

    Args:
        variances: ``[S, K]``, from coarse to fine.
        degrees: Degrees of freedom of each scale, ``[S]``.
        first: The coarsest scale of contrasts; what is before it is kept, and so is this one.

    Returns:
        Degrees of freedom, ``[S, K]``, none of what is left out.

    Example:
        >>> alike = torch.tensor([[1.0], [1.1], [0.8], [0.1]])
        >>> long_enough(alike, torch.tensor([1.0, 2.0, 4.0, 8.0]), 0).flatten().tolist()
        [1.0, 2.0, 4.0, 0.0]
    """
    kept = degrees.unsqueeze(-1).expand_as(variances).clone()
    finest = torch.ones_like(variances[0], dtype=torch.bool)
    for scale in range(len(degrees) - 1, first, -1):
        coarser = slice(first, scale)
        weights = degrees[coarser].unsqueeze(-1)
        mean = (weights * variances[coarser]).sum(0) / weights.sum()
        finest = finest & (variances[scale] < TOO_SHORT * mean) & (degrees[scale] >= ENOUGH)
        kept[scale] = torch.where(finest, 0.0, kept[scale])
    return kept


def pool(variances: Tensor, degrees: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """Pool the variances of all scales into that at slope 1 of a line through them.

    The slope is unknown. Given the ratio of the finest scale to the variance wanted, the latter is
    a scaled inverse chi-square, by the likelihood of independent chi-squares and a prior even in
    its logarithm. The ratio's prior density on the logarithmic scale falls with its square root.
    The mixture over ratios is then taken as the scaled inverse chi-square with its mean and
    variance. With four degrees of freedom or fewer in all, too few to see a slope, it is the mean
    of all.

    Args:
        variances: ``[S, K]``.
        degrees: Degrees of freedom of each scale, ``[S]`` or ``[S, K]``; none of what is left out.
        slopes: How much the slope adds to each scale, ``[S]``.

    Returns:
        The variance and its degrees of freedom, ``[K]`` each.
    """
    degrees = degrees.reshape(len(degrees), -1).expand_as(variances)
    total = degrees.sum(0)
    mean_of_all = (degrees * variances).sum(0) / total
    few = (total <= 4) | ((degrees > 0).sum(0) == 1)
    if bool(few.all()):
        return mean_of_all, total
    used = degrees.clamp(max=1).ceil()
    steepest = (used * slopes.unsqueeze(-1)).amax(0).clamp(min=2)
    largest = (used * variances).amax(0)
    scale = torch.where(largest > 0, largest, 1.0)
    relative = torch.where(largest > 0, variances / scale, 1.0)
    steps = torch.linspace(0, 1, NUM_RATIOS, device=slopes.device).to(slopes).unsqueeze(-1)
    lowest = math.log(SMALLEST_RATIO)
    log_ratio = lowest + steps * (steepest.log() - lowest)
    # [ratios, S, K]: what each scale is of the variance wanted.
    shape = 1 + (log_ratio.exp() - 1).unsqueeze(1) * ((slopes - 1).unsqueeze(-1) / (steepest - 1))
    shape = torch.where(used > 0, shape, 1.0)
    fitted = (degrees * relative / shape).sum(1) / total
    log_density = -0.5 * (total * fitted.log() + (degrees * shape.log()).sum(1))
    weight = (log_density - 0.5 * log_ratio).softmax(0)
    spare = total.clamp(min=4.01)
    mean = total / (spare - 2) * (weight * fitted).sum(0)
    square = total**2 / ((spare - 2) * (spare - 4)) * (weight * fitted.square()).sum(0)
    # The mean square of a scaled inverse chi-square over its squared mean is (n - 2) / (n - 4).
    known = 4 + 2 / (square / mean.square() - 1)
    pooled = mean * (known - 2) / known * largest
    return torch.where(few, mean_of_all, pooled), torch.where(few, total, known)


def t_quantile(degrees: Tensor, probability: float = 0.975) -> Tensor:
    """Compute a quantile of Student's t distribution.

    With ``t = sqrt(n) tan(theta)`` the density is ``cos(theta)^(n-1)`` over its integral, here by
    Simpson's rule. Newton's method from the normal quantile climbs without overshooting, as the
    distribution function is concave.

    Args:
        degrees: Degrees of freedom n, any shape, real, at least 1.
        probability: Of a smaller value, between 0.5 and 1.

    Returns:
        Quantiles of that shape, to five digits.

    Example:
        >>> t_quantile(torch.tensor([1.0, 4.0, 30.0], dtype=torch.float64))
        tensor([12.7062,  2.7764,  2.0423], dtype=torch.float64)
    """
    power, log_root = degrees - 1, 0.5 * degrees.log()
    log_whole = (degrees / 2).lgamma() - (degrees / 2 + 0.5).lgamma() + 0.5 * math.log(math.pi)
    grid = torch.linspace(0, 1, 65, dtype=degrees.dtype, device=degrees.device)
    simpson = torch.full_like(grid, 2.0)
    simpson[1::2], simpson[0], simpson[-1] = 4.0, 1.0, 1.0
    t = torch.full_like(degrees, TWO_SIDED_95)
    for _ in range(12):
        angle = (t / log_root.exp()).atan()
        inside = (grid * angle.unsqueeze(-1)).cos().log() * power.unsqueeze(-1)
        central = angle * (inside.exp() @ simpson) / (3 * (len(grid) - 1))
        missing = (probability - 0.5) * log_whole.exp() - central
        t = t + missing * (log_root - angle.cos().log() * (degrees + 1)).exp()
    return t
