"""Statistics of a Lyapunov spectrum. Exponents are in nats per step, ``[..., K]``, any order."""

import math
from dataclasses import asdict, dataclass

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


@dataclass(frozen=True)
class SpectrumMeasures:
    """The statistics of one spectrum, plain numbers.

    ``mean``, ``variance``, ``min`` and ``std_over_sequences`` are taken over the resolved
    exponents, those that stand out from rounding noise; ``num_unresolved`` counts the others.
    ``mean_all`` and ``variance_all`` are taken over all finite exponents, those lost in noise
    included; what is ``-inf``, a direction mapped to exactly zero, is in neither of the two
    versions. Both are the same where ``num_unresolved`` counts nothing but such directions.

    Attributes:
        max: Largest exponent, nats per step.
        mean: Mean of the resolved exponents, nats per step.
        mean_all: Mean of all finite exponents, nats per step.
        variance: Variance over the resolved exponents, (nats per step)^2.
        variance_all: Variance over all finite exponents, (nats per step)^2.
        min: Smallest exponent, nats per step.
        std_over_sequences: Standard deviation over sequences, averaged over the exponents, nats
            per step.
        num_positive: Number of exponents above zero.
        kaplan_yorke_dimension: See the function of that name.
        kolmogorov_sinai_entropy: See the function of that name; nats per step.
        num_unresolved: Number of exponents lost in rounding noise, or ``-inf``.
        dimension_is_lower_bound: Whether K < N and too few exponents are known to say where
            volumes stop growing.
        entropy_is_lower_bound: Whether K < N and more positive exponents may follow; the same
            holds for ``num_positive``.
    """

    max: float
    mean: float
    mean_all: float
    variance: float
    variance_all: float
    min: float
    std_over_sequences: float
    num_positive: int
    kaplan_yorke_dimension: float
    kolmogorov_sinai_entropy: float
    num_unresolved: int
    dimension_is_lower_bound: bool
    entropy_is_lower_bound: bool

    def scalars(self) -> dict[str, float]:
        """Return the numbers by name, without the two flags."""
        return {
            name: float(value)
            for name, value in asdict(self).items()
            if not name.endswith("is_lower_bound")
        }


def measure_spectrum(
    exponents: Tensor, std: Tensor, resolved: Tensor, tangent_size: int
) -> SpectrumMeasures:
    """Compute all statistics of a spectrum.

    Args:
        exponents: ``[K]``, descending, nats per step.
        std: Standard deviation over sequences, ``[K]``, nats per step.
        resolved: Which exponents stand out from rounding noise, ``[K]``, bool.
        tangent_size: N, to tell a complete spectrum from a partial one.

    Returns:
        The statistics.

    Example:
        >>> complete = torch.tensor([0.5, -1.0])
        >>> measure_spectrum(complete, torch.zeros(2), torch.ones(2, dtype=torch.bool), 2).mean
        -0.25
    """
    known, finite = exponents[resolved], exponents[exponents.isfinite()]
    partial = exponents.shape[0] < tangent_size
    return SpectrumMeasures(
        max=exponents.max().item(),
        mean=known.mean().item(),
        mean_all=finite.mean().item(),
        variance=_variance(known),
        variance_all=_variance(finite),
        min=known.min().item() if known.numel() else math.nan,
        std_over_sequences=std[resolved].mean().item(),
        num_positive=int(num_positive_exponents(exponents).item()),
        kaplan_yorke_dimension=kaplan_yorke_dimension(exponents).item(),
        kolmogorov_sinai_entropy=kolmogorov_sinai_entropy(exponents).item(),
        num_unresolved=int((~resolved).sum().item()),
        dimension_is_lower_bound=partial and exponents.sum().item() >= 0,
        entropy_is_lower_bound=partial and exponents.min().item() > 0,
    )


def _variance(exponents: Tensor) -> float:
    """Return the variance over exponents, ``[n]``; NaN over none, without torch's warning."""
    return exponents.var(correction=0).item() if exponents.numel() else math.nan
