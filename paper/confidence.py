"""95 % intervals of what a few networks or sequences say."""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_lyap.statistics.confidence import t_quantile

FLOAT = NDArray[np.float64]


def interval(values: FLOAT) -> tuple[float, float]:
    """Compute the 95 % interval of a mean (Student's t).

    Args:
        values: ``[n]``.

    Returns:
        Its ends; infinite for a single value.
    """
    if values.size < 2:
        return -math.inf, math.inf
    t = t_quantile(torch.tensor([values.size - 1.0], dtype=torch.float64)).item()
    half = t * values.std(ddof=1) / math.sqrt(values.size)
    return float(values.mean() - half), float(values.mean() + half)


def jackknife(statistic: Callable[[FLOAT], float], values: FLOAT) -> tuple[float, float]:
    """Compute the 95 % interval of a positive statistic by leaving out one sequence after another.

    Args:
        statistic: Of ``[B, K]``; its logarithm is what the interval is computed of.
        values: ``[B, K]``.

    Returns:
        Its ends; those of everything, 0 and infinity, for fewer than three sequences.

    Reference:
        Tukey (1958), Bias and confidence in not-quite large samples: pseudo-values.
    """
    count = len(values)
    if count < 3:
        return 0.0, np.inf
    whole = np.log(statistic(values))
    rest = [np.log(statistic(np.delete(values, i, axis=0))) for i in range(count)]
    low, high = np.exp(interval(count * whole - (count - 1) * np.array(rest)))
    return float(low), float(high)
