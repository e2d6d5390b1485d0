"""Factorizations beside a reference in float64, and their errors beside their bounds."""

from torch import Tensor

from lightning_lyap.qr.error_bounds import Orthonormalization
from lightning_lyap.qr.householder import householder_qr
from lightning_lyap.qr.orthonormalize import Cascade


def reference(basis: Tensor) -> Orthonormalization:
    return householder_qr(basis.double())


def by_cascade(basis: Tensor) -> tuple[Cascade, Orthonormalization]:
    """Factorize by a cascade of its own until it holds."""
    cascade = Cascade()
    result = cascade(basis)
    while not cascade.holds():
        result = cascade(basis)
    return cascade, result


def error_ratios(got: Orthonormalization, exact: Orthonormalization) -> Tensor:
    """Errors of resolved stretches, in units of their bounds."""
    known = got.resolved & (got.rounding_error > 0)
    return ((got.log_stretch - exact.log_stretch).abs() / got.rounding_error)[known]


def assert_bounds_hold(ratios: Tensor, *, count: int, median: float) -> None:
    """Fail unless more errors than a count are within their bounds, and not far below them."""
    assert ratios.numel() > count
    assert float((ratios > 1).float().mean()) < 0.01
    assert float(ratios.max()) < 10
    assert float(ratios.median()) > median
