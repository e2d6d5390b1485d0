"""Rows of very different size, as saturated units make them, keep the accuracy of theirs."""

from collections.abc import Iterator

import pytest
import torch

from lightning_lyap.qr.orthonormalize import orthonormalize
from tests.compare import assert_near


def test_graded_rows_keep_their_stretches() -> None:
    """Rows of size 1 to e^-40, as saturated units make them, in float32.

    ``R = D Q`` has no diagonal in closed form, so float64 is the reference: it resolves e^-36.
    """
    rows = torch.linspace(0, -40, 8, dtype=torch.float64)[torch.tensor([3, 0, 7, 5, 1, 6, 2, 4])]
    basis = rows.exp().unsqueeze(-1) * torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64)).Q
    single, double = orthonormalize(basis.float()[None]), orthonormalize(basis[None])
    assert bool(single.resolved.all())
    assert_near(single.log_stretch, double.log_stretch, 1e-3)
    assert float(single.log_stretch.sum()) == pytest.approx(float(rows.sum()), abs=1e-3)


def graded(dtype: torch.dtype, lowest: float = -60.0) -> torch.Tensor:
    """Rows of a well-conditioned matrix scaled from 1 down to ``exp(lowest)``, in mixed order."""
    scales = torch.linspace(0, lowest, 30, dtype=torch.float64).exp()[torch.randperm(30)]
    return (scales.unsqueeze(1) * torch.linalg.qr(torch.randn(30, 30).double()).Q)[None].to(dtype)


@pytest.fixture(params=[False, True], ids=["denormals", "flushed"])
def flush(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run with denormal numbers as they are, and flushed to zero, as training may set it."""
    torch.set_flush_denormal(request.param)
    yield
    torch.set_flush_denormal(False)


@pytest.mark.usefixtures("flush")
@pytest.mark.parametrize("lowest", [-20, -40, -60, -80])
def test_rows_of_very_different_size_keep_their_accuracy(lowest: float) -> None:
    """Float32 finds stretches of -80 nats, where plain QR returns noise nats above them."""
    exact = graded(torch.float64, lowest).float().double()
    single, double = orthonormalize(exact.float()), orthonormalize(exact)
    assert float(double.log_stretch.min()) < lowest + 5
    assert bool(single.resolved.all())
    # Relative errors of some 1e-7 times the condition of the unscaled rows.
    torch.testing.assert_close(single.log_stretch, double.log_stretch, rtol=0, atol=1e-3)
    plain = torch.linalg.qr(exact.float()).R.diagonal(dim1=-2, dim2=-1).abs().log().double()
    assert float((plain - double.log_stretch).abs().max()) > (1 if lowest < -20 else 0.01)


def test_large_entries_are_resolved() -> None:
    _, log_stretch, resolved, *_ = orthonormalize(torch.diag(torch.tensor([1e20, 1.0, 1e19]))[None])
    expected = torch.tensor([1e20, 1.0, 1e19]).double().log()
    torch.testing.assert_close(log_stretch[0], expected, rtol=1e-6, atol=1e-6)
    assert bool(resolved.all())


def test_moderately_different_rows_stay_accurate_in_place() -> None:
    """Just below the factor from which rows are sorted: errors of ``1e3 eps``, as documented."""
    exact = graded(torch.float64, -6.9).float().double()
    single, double = orthonormalize(exact.float()), orthonormalize(exact)
    torch.testing.assert_close(single.log_stretch, double.log_stretch, rtol=0, atol=3e-4)
    assert bool(single.resolved.all())


@pytest.mark.parametrize("count", [30, 7])
def test_order_of_the_rows_changes_nothing_but_theirs(count: int) -> None:
    basis = graded(torch.float64)[..., :count]
    order = torch.randperm(30)
    one, other = orthonormalize(basis), orthonormalize(basis[:, order])
    torch.testing.assert_close(one.log_stretch, other.log_stretch, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(one.basis[:, order], other.basis, rtol=1e-6, atol=1e-9)


def test_what_is_left_of_a_cancellation_is_not_resolved() -> None:
    """Rows that are equal but for 1e-9: float32 has lost the difference, float64 has it."""
    row = torch.randn(6, dtype=torch.float64)
    basis = torch.randn(1, 6, 6, dtype=torch.float64)
    basis[0, 1] = row
    basis[0, 4] = row * (1 + 1e-9 * torch.randn(6).double())
    single, double = orthonormalize(basis.float()), orthonormalize(basis)
    assert single.resolved[0].tolist() == [True] * 5 + [False]
    assert bool(double.resolved.all())
    torch.testing.assert_close(
        single.log_stretch[:, :5], double.log_stretch[:, :5], rtol=0, atol=1e-4
    )
