"""How strongly two quantities go together over runs: coefficients and their bootstrap intervals.

Samples are ``[..., n]``, one number a run; leading dimensions are resamples. What is not defined,
because a quantity is the same in all runs or determined by another, is NaN in tensors and None in
results.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_lyap._checks import check_count

Coefficient = Callable[..., Tensor]
DETERMINED = 1e-12  # of 1 - r^2: rounding of a coefficient that is one
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


def ranks(values: Tensor) -> Tensor:
    """Number values by size, from 1; equal ones share the mean of their numbers.

    Args:
        values: ``[..., n]``.

    Returns:
        ``[..., n]``, float64.

    Example:
        >>> ranks(torch.tensor([3.0, 1.0, 3.0, 2.0]))
        tensor([3.5000, 1.0000, 3.5000, 2.0000], dtype=torch.float64)
    """
    values = values.contiguous()
    ordered = values.sort(-1).values
    below = torch.searchsorted(ordered, values)
    return (below + torch.searchsorted(ordered, values, right=True) + 1).double() / 2


def pearson(x: Tensor, y: Tensor) -> Tensor:
    """Compute Pearson's correlation, that of the values.

    Args:
        x: ``[..., n]``.
        y: ``[..., n]``.

    Returns:
        ``[...]``, float64; NaN where one of them is constant.

    Example:
        >>> pearson(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 3.0, 2.0]))
        tensor(0.5000, dtype=torch.float64)
    """
    constant = (x.amax(-1) == x.amin(-1)) | (y.amax(-1) == y.amin(-1))
    x, y = (v.double() - v.double().mean(-1, keepdim=True) for v in (x, y))
    x, y = (v / v.norm(dim=-1, keepdim=True) for v in (x, y))
    return torch.where(constant, math.nan, (x * y).sum(-1).clamp(-1, 1))


def spearman(x: Tensor, y: Tensor) -> Tensor:
    """Compute Spearman's correlation, that of the ranks.

    Args:
        x: ``[..., n]``.
        y: ``[..., n]``.

    Returns:
        ``[...]``, float64; NaN where one of them is constant.

    Example:
        >>> spearman(torch.tensor([1.0, 2.0, 30.0]), torch.tensor([0.0, 9.0, 5.0]))
        tensor(0.5000, dtype=torch.float64)
    """
    return pearson(ranks(x), ranks(y))


def partial_spearman(x: Tensor, y: Tensor, given: Tensor) -> Tensor:
    """Compute what two quantities have in common beyond a third, on ranks.

    ``(r_xy - r_xg r_yg) / sqrt((1 - r_xg^2) (1 - r_yg^2))``: Pearson's correlation of the ranks'
    residuals after a linear regression on the ranks of the third.

    Args:
        x: ``[..., n]``.
        y: ``[..., n]``.
        given: The third, ``[..., n]``.

    Returns:
        ``[...]``, float64; NaN where one is constant, or the third orders the runs as x or y does.

    Example:
        >>> x, y = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([2.0, 1.0, 4.0, 3.0])
        >>> partial_spearman(x, y, torch.tensor([1.0, 2.0, 2.0, 1.0]))  # no rank in common
        tensor(0.6000, dtype=torch.float64)
    """
    xy, xg, yg = spearman(x, y), spearman(x, given), spearman(y, given)
    free = (1 - xg.square()) * (1 - yg.square())
    determined = torch.minimum(1 - xg.square(), 1 - yg.square()) < DETERMINED
    value = (xy - xg * yg) / free.clamp(min=DETERMINED**2).sqrt()
    return torch.where(determined, math.nan, value.clamp(-1, 1))


def associate(
    coefficient: Coefficient, *samples: Sequence[float], num_resamples: int = 2000, seed: int = 0
) -> Association:
    """Compute a coefficient and its 95 % interval by resampling runs (percentile bootstrap).

    Of normal samples of 10 to 40 runs the intervals held the true value in 91 to 98 % of cases;
    of 6 runs in 82 to 99 %.

    Args:
        coefficient: `pearson`, `spearman` or `partial_spearman`.
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
    data = torch.tensor([[float(value) for value in sample] for sample in samples]).double()
    value = coefficient(*data).item()
    if math.isnan(value):
        return Association(None, None)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(lengths[0], (num_resamples, lengths[0]), generator=generator)
    resampled = coefficient(*(sample[drawn] for sample in data))
    known = resampled[resampled.isfinite()]
    if 2 * known.numel() < num_resamples:
        return Association(value, None)
    low, high = known.quantile(known.new_tensor(LEVELS)).tolist()
    return Association(value, (low, high))
