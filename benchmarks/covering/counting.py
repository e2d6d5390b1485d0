"""How many of the replicates' intervals cover what a long run gives."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from covering.networks import SEQUENCES
from covering.replicates import STATISTICS

# How often an exponent must have been said to be settled for its own share to be shown.
FEW = 50


@dataclass(frozen=True)
class Coverage:
    """How a case came out; shares are NaN where they are of nothing.

    Attributes:
        resolved: Share of the exponents that are resolved in all sequences of a replicate.
        settled: Share of the exponents said to be settled.
        covered: Share of those that their interval covers.
        worst: The least share of a single exponent that is settled often enough.
        worst_index: Which, from 0; None if none is.
        bias: Its mean deviation, in mean margins.
        spread: Its standard deviation over replicates, in standard errors (their root mean square).
        largest: Share of the largest exponents said to be settled that are covered.
        statistics: Share of the intervals of each statistic that cover; without those not measured.
    """

    resolved: float
    settled: float
    covered: float
    worst: float
    worst_index: int | None
    bias: float
    spread: float
    largest: float
    statistics: dict[str, float]


def coverage(found: list[dict[str, Any]], truth: dict[str, Any], few: int = FEW) -> Coverage:
    """Count what is covered: deviations no larger than both margins, squared and added.

    Args:
        found: Of replicates.
        truth: The same of the long run; of its exponents the leading ones are taken.
        few: How often an exponent must be settled for a share of its own.

    Returns:
        The shares.
    """

    def stacked(name: str) -> Tensor:
        return torch.tensor([one[name] for one in found], dtype=torch.float64)

    exponents, margins = stacked("exponents"), stacked("margins")
    settled, errors = stacked("settled") > 0, stacked("standard_errors")
    count = exponents.shape[1]
    known, known_margins = (
        torch.tensor(truth[name][:count], dtype=torch.float64) for name in ("exponents", "margins")
    )
    off = exponents - known
    inside = (off.abs() <= (margins.square() + known_margins.square()).sqrt()) & settled
    times = settled.sum(0)
    shares = torch.where(times >= few, inside.sum(0) / times, math.nan)
    index = None if bool(shares.isnan().all()) else int(shares.nan_to_num(2.0).argmin())
    return Coverage(
        resolved=float(stacked("resolved").pow(SEQUENCES).mean()),
        settled=float(settled.double().mean()),
        covered=float(inside.sum() / times.sum()),
        worst=math.nan if index is None else float(shares[index]),
        worst_index=index,
        bias=math.nan if index is None else float(off[:, index].mean() / margins[:, index].mean()),
        spread=math.nan
        if index is None
        else float(off[:, index].std() / errors[:, index].square().mean().sqrt()),
        largest=float(inside[:, 0].sum() / times[0]),
        statistics={
            name: sum(_within(one["intervals"][name], truth["statistics"][name]) for one in found)
            / len(found)
            for name in STATISTICS
            if all(name in one["intervals"] for one in found)
        },
    )


def _within(interval: list[float], value: float) -> bool:
    """Return whether an interval holds a value; one of no width only to rounding."""
    return interval[0] - 1e-9 <= value <= interval[1] + 1e-9
