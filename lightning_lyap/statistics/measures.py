"""Statistics of a Lyapunov spectrum. Exponents are in nats per step, ``[..., K]``, any order."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor


def kaplan_yorke_dimension(exponents: Tensor) -> Tensor:
    """Interpolate the dimension at which volumes stop growing.

    ``D = j + (lambda_1 + ... + lambda_j) / |lambda_{j+1}|`` with the largest j whose sum is not
    negative; 0 if the largest exponent is negative. If the sum of all K given exponents is not
    negative the result is K: the dimension itself when K = N, a lower bound when K < N.

    Args:
        exponents: ``[..., K]``, nats per step.

    Returns:
        ``[...]``, dimensionless.

    Example:
        >>> kaplan_yorke_dimension(torch.tensor([0.5, -1.0]))
        tensor(1.5000)

    Reference:
        Kaplan and Yorke (1979), Chaotic behavior of multidimensional difference equations.
    """
    ordered = exponents.sort(dim=-1, descending=True).values
    # On the CPU: cumulated sums of CUDA are refused where algorithms must be deterministic.
    sums = ordered.cpu().cumsum(-1).to(ordered.device)
    whole = (sums >= 0).sum(-1, keepdim=True)
    last = (whole - 1).clamp(min=0)
    following = whole.clamp(max=exponents.shape[-1] - 1)
    rest = sums.gather(-1, last) / ordered.gather(-1, following).abs()
    interpolated = (whole > 0) & (whole < exponents.shape[-1])
    dimension = whole + torch.where(interpolated, rest, 0.0)
    dimension = torch.where(exponents.isnan().any(-1, keepdim=True), math.nan, dimension)
    return dimension.squeeze(-1)


def kolmogorov_sinai_entropy(exponents: Tensor) -> Tensor:
    """Add the positive exponents (Pesin): an upper bound of the entropy, equal to it for SRB.

    Args:
        exponents: ``[..., K]``, nats per step. With K < N and a positive last exponent the sum
            is a lower bound of the full sum.

    Returns:
        ``[...]``, nats per step.

    Example:
        >>> kolmogorov_sinai_entropy(torch.tensor([0.5, 0.25, -1.0]))
        tensor(0.7500)

    Reference:
        Pesin (1977), Russian Mathematical Surveys 32, 55-114.
    """
    return exponents.clamp(min=0).sum(-1)


def num_positive_exponents(exponents: Tensor) -> Tensor:
    """Count the exponents above zero.

    Args:
        exponents: ``[..., K]``, nats per step.

    Returns:
        ``[...]``, int64. A lower bound when K < N and the last exponent is positive.

    Example:
        >>> num_positive_exponents(torch.tensor([0.5, 0.0, -1.0]))
        tensor(1)
    """
    return (exponents > 0).sum(-1)


# Statistics of the whole spectrum, in the order of `whole_spectrum_statistics`.
OF_THE_WHOLE = (
    "mean",
    "mean_all",
    "variance",
    "variance_all",
    "kaplan_yorke_dimension",
    "kolmogorov_sinai_entropy",
)
NO_ERROR = (math.nan, math.nan)


@dataclass(frozen=True)
class SpectrumMeasures:
    """The statistics of one spectrum, plain numbers; printed, each with its interval.

    Exponents that don't stand out from rounding noise take part in no statistic but ``mean_all``
    and ``variance_all``, which are taken over all finite exponents; ``num_unresolved`` counts
    them. What is ``-inf``, a direction mapped to exactly zero, is in no average, and is known to
    lie below everything. Where nothing is resolved a statistic is NaN, a count 0.

    Attributes:
        max: Largest resolved exponent, nats per step; ``-inf`` where all are.
        mean: Mean of the resolved exponents, nats per step.
        mean_all: Mean of all finite exponents, nats per step.
        variance: Variance over the resolved exponents, (nats per step)^2.
        variance_all: Variance over all finite exponents, (nats per step)^2.
        min: Smallest resolved exponent, nats per step.
        std_over_sequences: Standard deviation over sequences, averaged over the exponents, nats
            per step.
        num_positive: Number of exponents that are above zero by more than their margin and the
            bound of their rounding error.
        num_positive_estimates: Number of exponents whose value is above zero. Those of a flow or a
            limit cycle that are zero in truth are, every other time.
        kaplan_yorke_dimension: See the function of that name.
        kolmogorov_sinai_entropy: See the function of that name; nats per step.
        num_unresolved: Number of exponents lost in rounding noise, or ``-inf``.
        num_unsettled: Number of resolved exponents that have not settled, or of which that is not
            known.
        dimension_is_lower_bound: Whether too few exponents are known to say where volumes stop
            growing: because K < N, or because noise stands where they might.
        entropy_is_lower_bound: Whether more positive exponents may follow the K < N or hide in
            noise; the same holds for the numbers of positive ones.
        standard_errors: By the name of the statistic; NaN where not known, as of counts.
        intervals: Both ends of the 95 % interval, by the name of the statistic; NaN where not
            known. Of both numbers of positive exponents: how many lie above zero by more than their
            margin, and how many could. Where the largest exponent could have the other sign,
            dimension and entropy include what they would be then.
        unsettled: Names of the statistics that rest on exponents that have not settled: their
            intervals don't cover where these are going.
    """

    max: float
    mean: float
    mean_all: float
    variance: float
    variance_all: float
    min: float
    std_over_sequences: float
    num_positive: int
    num_positive_estimates: int
    kaplan_yorke_dimension: float
    kolmogorov_sinai_entropy: float
    num_unresolved: int
    num_unsettled: int
    dimension_is_lower_bound: bool
    entropy_is_lower_bound: bool
    standard_errors: Mapping[str, float] = field(default_factory=dict, compare=False)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict, compare=False)
    unsettled: frozenset[str] = frozenset()

    def scalars(self) -> dict[str, float]:
        """Return the numbers by name, without the flags."""
        return {name: float(getattr(self, name)) for name in STATISTICS}

    def __str__(self) -> str:
        """Return a line for each number that is known: value, interval, what limits it."""
        width = max(map(len, STATISTICS))
        known = {name: x for name, x in self.scalars().items() if not math.isnan(x)}
        return "\n".join(
            f"{name:<{width}}  {_number(x)}{self._interval(name)}{self._limits(name)}"
            for name, x in known.items()
        )

    def _interval(self, name: str) -> str:
        """Return the interval of a statistic in words, empty where there is none."""
        low, high = self.intervals.get(name, NO_ERROR)
        return "" if math.isnan(low) else f"  [{_number(low)}, {_number(high)}]"

    def _limits(self, name: str) -> str:
        """Return what limits a statistic in words, empty where nothing does."""
        open_dimension = name == "kaplan_yorke_dimension" and self.dimension_is_lower_bound
        open_sum = name in OF_POSITIVE and self.entropy_is_lower_bound
        bound = "  lower bound" if open_dimension or open_sum else ""
        return bound + ("  not settled" if name in self.unsettled else "")


STATISTICS = tuple(each.name for each in fields(SpectrumMeasures) if each.type in (float, int))
OF_POSITIVE = ("num_positive", "num_positive_estimates", "kolmogorov_sinai_entropy")


def whole_spectrum_statistics(exponents: Tensor, resolved: Tensor) -> Tensor:
    """Compute the statistics that all exponents enter together, those named `OF_THE_WHOLE`.

    Args:
        exponents: ``[..., K]``, nats per step.
        resolved: Which of them stand out from rounding noise, ``[K]``, bool.

    Returns:
        ``[..., S]``; NaN where no exponent is resolved.
    """
    known = exponents[..., resolved]
    finite = exponents[..., exponents.isfinite().flatten(0, -2).all(0)]
    ranked = exponents[..., resolved | exponents.isneginf().flatten(0, -2).any(0)]
    return torch.stack(
        [
            known.mean(-1),
            finite.mean(-1),
            _variance(known),
            _variance(finite),
            kaplan_yorke_dimension(ranked) if ranked.shape[-1] else ranked.mean(-1),
            kolmogorov_sinai_entropy(ranked) if ranked.shape[-1] else ranked.mean(-1),
        ],
        dim=-1,
    )


def _variance(exponents: Tensor) -> Tensor:
    """Return the variance over exponents, ``[..., n]``; NaN over none, without torch's warning."""
    return exponents.var(-1, correction=0) if exponents.shape[-1] else exponents.mean(-1)


def _number(value: float) -> str:
    """Return a number in words, short."""
    return f"{value:.6g}"
