"""Errors of statistics of whole spectra: the jackknife over eighths of sequences.

A statistic of the mean spectrum, such as its Kaplan-Yorke dimension, is no mean over steps. But
what it becomes without one eighth of one sequence tells how much that eighth moves it, and these
influences add up over steps as stretches do. So they have contrasts over time and a spread over
sequences, and their error is that of exponents: a sequence among many counts by what it is as a
whole, few sequences by the course of each as well.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_lyap.statistics.batch_means import Contrasts, contrasts_between
from lightning_lyap.statistics.confidence import uncertainty


def jackknife(contrasts: Contrasts, statistics: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute the errors of statistics of the mean exponents.

    ``influence = theta - (n / m - 1) (theta_without - theta)`` for a sample of m of all n steps, in
    sequences: the pseudo-values of the jackknife for samples of unequal size.

    Args:
        contrasts: Sums over sequences.
        statistics: S smooth functions of exponents, ``[R, K]`` to ``[R, S]``.

    Returns:
        Standard errors and half-widths of the 95 % intervals, ``[S, 2]``; NaN where nothing tells
        them.

    Example:
        >>> from lightning_lyap.statistics.batch_means import StretchBins
        >>> bins, four = StretchBins(), torch.tensor([[1.0], [2.0], [3.0], [6.0]])
        >>> bins.add(four.double(), 1)
        >>> contrasts = bins.contrasts(torch.ones(4), torch.ones(4, dtype=torch.bool))
        >>> jackknife(contrasts, lambda exponents: exponents)[0, 0] ** 2  # 14 / 3 / 4
        tensor(1.1667, dtype=torch.float64)

    Reference:
        Busing, Meijer, van der Leeden (1999), Delete-m jackknife for unequal m, Statistics and
        Computing 9, 3-8. Efron (1982), The Jackknife, the Bootstrap and Other Resampling Plans.
    """
    samples, shares = contrasts.samples[..., :-1], contrasts.samples[..., -1]
    used = shares > 0
    value = statistics(contrasts.mean.unsqueeze(0))
    if int(used.sum()) < 2:
        return torch.full((value.shape[1], 2), torch.nan).to(value)
    left, whole = shares[used].unsqueeze(-1), shares.sum()
    # Minus infinity is what it is without any sample.
    without = (contrasts.cross[0] - samples[used]) / (whole - left)
    without = torch.where(contrasts.mean.isfinite(), without, contrasts.mean)
    pseudo = value - (whole / left - 1) * (statistics(without) - value)
    parts = value.new_zeros(*shares.shape, value.shape[1])
    parts[used] = pseudo * left
    sequences = used.any(1)
    error = uncertainty(_as_sequences(parts[sequences], shares[sequences], contrasts))
    return torch.stack([error.standard_errors, error.margins], -1)


def _as_sequences(parts: Tensor, shares: Tensor, contrasts: Contrasts) -> Contrasts:
    """Return the contrasts of influences ``[G, P, S]`` with their shares of the steps ``[G, P]``.

    A group of sequences counts as one, and overlaps with others as its sequences do.
    """
    whole = shares.sum(1, keepdim=True)
    scaled = torch.cat([parts, shares.unsqueeze(-1)], -1) / whole.unsqueeze(-1)
    # On the CPU: cumulated sums of CUDA are refused where algorithms must be deterministic.
    cut = torch.cat([torch.zeros_like(scaled[:, :1]), scaled], 1).cpu().cumsum(1).to(parts.device)
    cut = cut.movedim(1, 0)
    made = contrasts_between(cut[..., :-1], cut[..., -1])
    count, groups = contrasts.count, len(shares)
    pairs = groups * (groups - 1) / max(count * (count - 1), 1)
    return Contrasts(**(vars(made) | {"overlap": contrasts.overlap * pairs}))
