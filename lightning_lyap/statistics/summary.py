"""A spectrum summed up: its statistics with their intervals, and what they rest on."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_lyap.statistics.measures import (
    NO_ERROR,
    OF_POSITIVE,
    OF_THE_WHOLE,
    SpectrumMeasures,
    kaplan_yorke_dimension,
    num_positive_exponents,
    whole_spectrum_statistics,
)

# What a standard deviation, a mean, rests on: every exponent.
AVERAGES = ("mean", "mean_all", "variance", "variance_all", "std_over_sequences")


class _Known(NamedTuple):
    """The resolved exponents, descending, ``[n]`` each."""

    exponents: Tensor
    errors: Tensor
    margins: Tensor
    slack: Tensor
    moving: Tensor


def measure_spectrum(
    exponents: Tensor,
    std: Tensor,
    resolved: Tensor,
    tangent_size: int,
    *,
    settled: Tensor | None = None,
    standard_errors: Tensor | None = None,
    margins: Tensor | None = None,
    rounding_errors: Tensor | None = None,
    statistic_errors: Tensor | None = None,
) -> SpectrumMeasures:
    """Compute all statistics of a spectrum.

    Args:
        exponents: ``[K]``, descending, nats per step.
        std: Standard deviation over sequences, ``[K]``, nats per step.
        resolved: Which exponents stand out from rounding noise, ``[K]``, bool.
        tangent_size: N, to tell a complete spectrum from a partial one.
        settled: Which have settled, ``[K]``, bool; None for not known of any.
        standard_errors: Of the exponents, ``[K]``, nats per step; None for not known.
        margins: Half-widths of their 95 % intervals, ``[K]``, nats per step; None for not known.
        rounding_errors: Bounds of these, ``[K]``, nats per step; None for zero.
        statistic_errors: Standard error and half-width of the 95 % interval of each statistic of
            `OF_THE_WHOLE`, ``[S, 2]``; None for not known.

    Returns:
        The statistics.

    Example:
        >>> complete = torch.tensor([0.5, -1.0])
        >>> measure_spectrum(complete, torch.zeros(2), torch.ones(2, dtype=torch.bool), 2).mean
        -0.25
    """
    unknown = torch.full_like(exponents, math.nan)
    errors = unknown if standard_errors is None else standard_errors
    margins = unknown if margins is None else margins
    slack = margins if rounding_errors is None else margins + rounding_errors
    settled = torch.zeros_like(resolved) if settled is None else settled
    of_whole = torch.full((len(OF_THE_WHOLE), 2), math.nan)
    of_whole = of_whole if statistic_errors is None else statistic_errors
    fields = (exponents, errors, margins, slack, ~settled)
    known = _Known(*(each[resolved] for each in fields))
    ranked = exponents[resolved | exponents.isneginf()]
    noise = exponents[~resolved & ~exponents.isneginf()].nan_to_num(math.inf)
    highest_noise = noise.max().item() if noise.numel() else -math.inf
    turning = _turning_point(ranked)
    partial = exponents.shape[0] < tangent_size
    whole = whole_spectrum_statistics(exponents.unsqueeze(0), resolved)[0].tolist()
    values = dict(zip(OF_THE_WHOLE, whole, strict=True))
    return SpectrumMeasures(
        **values,
        max=_end(known.exponents, 0, -math.inf if bool(exponents.isneginf().all()) else math.nan),
        min=_end(known.exponents, -1, math.nan),
        std_over_sequences=std[resolved].mean().item(),
        num_positive=int((known.exponents - known.slack > 0).sum()),
        num_positive_estimates=int(num_positive_exponents(known.exponents)),
        num_unresolved=int((~resolved).sum()),
        num_unsettled=int(known.moving.sum()),
        dimension_is_lower_bound=bool(noise.numel() or partial)
        if turning is None
        else highest_noise > turning,
        entropy_is_lower_bound=highest_noise > 0 or (partial and exponents.min().item() > 0),
        standard_errors=dict(zip(OF_THE_WHOLE, of_whole[:, 0].tolist(), strict=True))
        | {"max": _end(known.errors, 0, math.nan), "min": _end(known.errors, -1, math.nan)}
        | dict.fromkeys(("std_over_sequences", *OF_POSITIVE[:2]), math.nan),
        intervals=_intervals(values, known, ranked, of_whole[:, 1].tolist(), tangent_size),
        unsettled=_unsettled(known, turning),
    )


def _end(values: Tensor, index: int, otherwise: float) -> float:
    """Return the first or the last of some values, ``[n]``, or something else if there is none."""
    return values[index].item() if values.numel() else otherwise


def _turning_point(ranked: Tensor) -> float | None:
    """Return the one of ``[n]``, descending, at which their sum turns negative, if there is one."""
    turned = int((ranked.cpu().cumsum(0) >= 0).sum())
    return ranked[turned].item() if turned < len(ranked) else None


def _intervals(
    values: dict[str, float],
    known: _Known,
    ranked: Tensor,
    margins: list[float],
    tangent_size: int,
) -> dict[str, tuple[float, float]]:
    """Return the 95 % intervals by name; ``margins`` are those of `OF_THE_WHOLE`."""
    intervals = {
        name: (value - margin, value + margin)
        for (name, value), margin in zip(values.items(), margins, strict=True)
    }
    for name in ("variance", "variance_all", *OF_THE_WHOLE[-2:]):
        low, high = intervals[name]
        intervals[name] = (max(low, 0.0) if low == low else low, high)
    # The dimension jumps from 0 to 1 where the largest exponent changes its sign; the entropy has
    # a corner there: how either varies with the samples says nothing of that.
    if known.exponents.numel() and abs(known.exponents[0].item()) <= known.margins[0].item():
        raised = ranked.clone()
        raised[0] += known.margins[0]
        for name, most in zip(
            OF_THE_WHOLE[-2:], (kaplan_yorke_dimension(raised), raised[0]), strict=True
        ):
            intervals[name] = (0.0, max(most.item(), intervals[name][1]))
    low, high = intervals["kaplan_yorke_dimension"]
    intervals["kaplan_yorke_dimension"] = (
        low,
        min(high, float(tangent_size)) if high == high else high,
    )
    for name, index in (("max", 0), ("min", -1)):
        value, margin = _end(known.exponents, index, math.nan), _end(known.margins, index, math.nan)
        intervals[name] = (value - margin, value + margin)
    certain = int((known.exponents - known.slack > 0).sum())
    possible = int((~(known.exponents + known.slack <= 0)).sum())
    intervals |= dict.fromkeys(OF_POSITIVE[:2], (float(certain), float(possible)))
    return intervals | {"std_over_sequences": NO_ERROR}


def _unsettled(known: _Known, turning: float | None) -> frozenset[str]:
    """Return the names of the statistics that rest on exponents that have not settled."""
    moving, lowest = known.moving, -math.inf if turning is None else turning
    near_zero_or_above = ~(known.exponents + known.slack <= 0)
    rests = {
        "max": moving[:1],
        "min": moving[-1:],
        **dict.fromkeys(AVERAGES, moving),
        **dict.fromkeys(OF_POSITIVE, moving[near_zero_or_above]),
        "kaplan_yorke_dimension": moving[known.exponents >= lowest],
    }
    return frozenset(name for name, which in rests.items() if bool(which.any()))
