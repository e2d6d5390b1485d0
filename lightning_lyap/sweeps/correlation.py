"""Correlation coefficients over runs, and their bootstrap intervals.

Samples are ``[..., n]``, one number a run; leading dimensions are resamples. What is not defined,
because a quantity is the same in all runs or determined by another, is NaN in arrays and None in
results.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.stats import DegenerateDataWarning, pearsonr, rankdata

from lightning_lyap._checks import check_count

ROUNDING = 1e-12  # of a coefficient that is zero, and of 1 - r^2 where it is one
LEVELS = (0.025, 0.975)


@dataclass(frozen=True)
class Association:
    """A coefficient over some runs.

    Attributes:
        value: In ``[-1, 1]``, or None where it is not defined.
        interval: Ends of the 95 % bootstrap interval; None where fewer than half of the resamples
            have a coefficient.
    """

    value: float | None
    interval: tuple[float, float] | None


def pearson(x: ArrayLike, y: ArrayLike) -> Any:
    """Return Pearson's correlation, that of the values.

    Args:
        x: ``[..., n]``, n at least 2.
        y: ``[..., n]``.

    Returns:
        ``[...]``, float64; NaN where one of them is constant.

    Example:
        >>> round(float(pearson([1.0, 2.0, 3.0], [1.0, 3.0, 2.0])), 12)
        0.5
    """
    with warnings.catch_warnings():
        # Among 2000 resamples of a few runs some are constant as a rule; NaN says so.
        warnings.simplefilter("ignore", DegenerateDataWarning)
        r = pearsonr(x, y, axis=-1).statistic
    # A zero off by rounding would be printed as -0.00 or as +0.00 by chance.
    return np.where(np.abs(r) < ROUNDING, 0.0, r)


def spearman(x: ArrayLike, y: ArrayLike) -> Any:
    """Return Spearman's correlation, that of the ranks; equal values share the mean of theirs.

    Args:
        x: ``[..., n]``, n at least 2.
        y: ``[..., n]``.

    Returns:
        ``[...]``, float64; NaN where one of them is constant.

    Example:
        >>> round(float(spearman([1.0, 2.0, 30.0], [0.0, 9.0, 5.0])), 12)
        0.5
    """
    return pearson(rankdata(x, axis=-1), rankdata(y, axis=-1))


def partial_spearman(x: ArrayLike, y: ArrayLike, given: ArrayLike) -> Any:
    """Return what two quantities have in common beyond a third, on ranks.

    ``(r_xy - r_xg r_yg) / sqrt((1 - r_xg^2) (1 - r_yg^2))``: Pearson's correlation of the ranks'
    residuals after a linear regression on the ranks of the third.

    Args:
        x: ``[..., n]``, n at least 2.
        y: ``[..., n]``.
        given: The third, ``[..., n]``.

    Returns:
        ``[...]``, float64; NaN where one is constant, or the third orders the runs as x or y does.

    Example:
        >>> no_rank_in_common = partial_spearman([1, 2, 3, 4], [2, 1, 4, 3], [1, 2, 2, 1])
        >>> round(float(no_rank_in_common), 12)
        0.6
    """
    xy, xg, yg = spearman(x, y), spearman(x, given), spearman(y, given)
    free_x, free_y = 1 - xg**2, 1 - yg**2
    # Quotients of rounding errors, where nothing is left to correlate, would look like numbers.
    determined = np.minimum(free_x, free_y) < ROUNDING
    value = (xy - xg * yg) / np.sqrt(np.maximum(free_x * free_y, ROUNDING**2))
    return np.where(determined, math.nan, np.clip(value, -1, 1))


def associate(
    coefficient: Callable[..., Any],
    *samples: Sequence[float],
    num_resamples: int = 2000,
    seed: int = 0,
) -> Association:
    """Compute a coefficient and its 95 % interval by resampling runs (percentile bootstrap).

    Of normal samples of 10 to 40 runs the intervals held the true value in 91 to 98 % of cases;
    of 6 runs in 82 to 99 %.

    Args:
        coefficient: `pearson`, `spearman`, `partial_spearman`, or another function of such samples.
        *samples: What it takes, n finite numbers each.
        num_resamples: How many resamples.
        seed: Of the private generator that draws them.

    Returns:
        The coefficient; not defined with fewer runs than the quantities and one more, where it can
        only be -1 or 1.

    Raises:
        TypeError: If a number is no int.
        ValueError: If a number is out of range or the samples differ in length.

    Example:
        >>> associate(spearman, [1, 2, 3], [5, 5, 5])
        Association(value=None, interval=None)

    Reference:
        Efron (1979), Bootstrap methods: another look at the jackknife, Annals of Statistics 7.
    """
    check_count("num_resamples", num_resamples, 1)
    check_count("seed", seed, 0)
    lengths = [len(sample) for sample in samples]
    if len(set(lengths)) > 1:
        raise ValueError(f"Expected samples of the same runs, but got {lengths} numbers.")
    if lengths[0] <= len(samples):
        return Association(None, None)
    data = [np.asarray(sample, dtype=np.float64) for sample in samples]
    value = float(coefficient(*data))
    if math.isnan(value):
        return Association(None, None)
    # Not scipy's `bootstrap`: one resample without a coefficient makes its whole interval NaN, and
    # torch's generator keeps the intervals that were published before.
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(lengths[0], (num_resamples, lengths[0]), generator=generator).numpy()
    resampled = coefficient(*(sample[drawn] for sample in data))
    known = resampled[np.isfinite(resampled)]
    if 2 * known.size < num_resamples:
        return Association(value, None)
    low, high = np.quantile(known, LEVELS).tolist()
    return Association(value, (low, high))
