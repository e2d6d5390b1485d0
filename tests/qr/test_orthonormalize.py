"""Orthonormalization: the factorization's defining properties, signs, and lost columns."""

import math

import pytest
import torch

from lightning_lyap.qr.householder import householder_qr, reflector_qr
from lightning_lyap.qr.orthonormalize import orthonormalize, random_orthonormal_basis
from tests.compare import assert_near


@pytest.mark.parametrize(("size", "count"), [(1, 1), (5, 5), (7, 3), (6, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_factorization(size: int, count: int, dtype: torch.dtype) -> None:
    basis = torch.randn(4, size, count, dtype=dtype)
    q, log_stretch, *_ = orthonormalize(basis)
    tolerance = 100 * torch.finfo(dtype).eps
    assert_near(q.mT @ q, torch.eye(count, dtype=dtype).expand(4, -1, -1), tolerance)
    r = q.mT @ basis
    assert_near(q @ r, basis, tolerance)
    assert float(r.tril(-1).abs().max()) < tolerance
    assert q.dtype == dtype
    assert log_stretch.dtype == torch.float64
    torch.testing.assert_close(
        log_stretch.exp().to(dtype), r.diagonal(dim1=-2, dim2=-1), atol=tolerance, rtol=tolerance
    )


def test_diagonal_is_positive_so_columns_keep_their_side() -> None:
    """Each q has a positive product with its own column: the factorization is unique."""
    basis = torch.randn(10, 6, 4, dtype=torch.float64)
    q, *_ = orthonormalize(basis)
    assert bool(((q * basis).sum(1) > 0).all())
    again, stretch, *_ = orthonormalize(q)
    assert_near(again, q, 1e-14)
    assert_near(stretch, torch.zeros_like(stretch), 1e-14)


def test_natural_logarithm() -> None:
    _, log_stretch, *_ = orthonormalize(torch.diag(torch.tensor([math.e, 1.0, 1 / math.e]))[None])
    torch.testing.assert_close(log_stretch[0], torch.tensor([1.0, 0, -1]).double())


def test_stretches_of_float32_bases_are_logged_in_float64() -> None:
    _, log_stretch, *_ = orthonormalize(torch.full((1, 1, 1), 3.0))
    assert float(log_stretch) == pytest.approx(math.log(3), abs=1e-15)


def test_sequences_are_factored_independently() -> None:
    basis = torch.randn(5, 6, 4, dtype=torch.float64)
    whole = orthonormalize(basis)
    for b in range(5):
        for part, all_of_it in zip(orthonormalize(basis[b : b + 1])[:4], whole[:4], strict=True):
            assert_near(part[0], all_of_it[b], 1e-14)


def test_zero_columns_go_behind_the_others() -> None:
    """What is left spans a plane with stretches 1 and 2; the lost column measures nothing."""
    basis = torch.zeros(2, 3, 3, dtype=torch.float64)
    basis[0, 0, 1], basis[0, 1, 2] = 1.0, 2.0
    basis[1] = torch.eye(3)
    q, log_stretch, *_ = orthonormalize(basis)
    assert log_stretch[0].tolist() == [0.0, math.log(2), -math.inf]
    assert log_stretch[1].tolist() == [0, 0, 0]
    identity = torch.eye(3, dtype=torch.float64).expand(2, -1, -1)
    assert_near(q.mT @ q, identity, 1e-14)


def test_columns_whose_squares_vanish_stay_where_they_are() -> None:
    basis = torch.diag(torch.tensor([1.0, 1e-25, 1.0]))[None]
    for factor in (householder_qr, reflector_qr):
        log_stretch = factor(basis).log_stretch[0].tolist()
        assert log_stretch == pytest.approx([0, math.log(1e-25), 0], abs=1e-6)


def test_a_lost_column_does_not_hide_the_others() -> None:
    """``[[0, 1], [0, 0]]`` stretches one direction by 1 and loses the other."""
    _, log_stretch, *_ = orthonormalize(torch.tensor([[[0.0, 1.0], [0.0, 0.0]]]))
    assert log_stretch[0].tolist() == [0, -math.inf]


def test_zero_columns_get_an_orthonormal_replacement_that_grows_again() -> None:
    q, log_stretch, *_ = orthonormalize(torch.zeros(2, 4, 3))
    assert bool((log_stretch == -math.inf).all())
    torch.testing.assert_close(q.mT @ q, torch.eye(3).expand(2, -1, -1))
    _, log_stretch, *_ = orthonormalize(2 * q)
    torch.testing.assert_close(log_stretch, torch.full((2, 3), math.log(2)).double())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_sequence_that_is_not_finite_spoils_no_other(bad: float) -> None:
    basis = torch.randn(3, 4, 4, dtype=torch.float64)
    expected = orthonormalize(basis)
    basis[1, 2, 0] = bad
    q, log_stretch, *_ = orthonormalize(basis)
    assert not bool(log_stretch[1].isfinite().all())
    for b in (0, 2):
        assert torch.equal(q[b], expected[0][b])
        assert torch.equal(log_stretch[b], expected[1][b])


@pytest.mark.parametrize("size", [4, 64, 256])
def test_rounding_noise_is_not_resolved(size: int) -> None:
    """Half the rank: the other half of the diagonal is noise, some ``sqrt(N) eps``.

    The margin lets one in fifty through at most; an exponent must pass at every factorization.
    """
    half = size // 2
    flat = torch.randn(5, size, half) @ torch.randn(5, half, size) / size
    resolved = orthonormalize(flat).resolved
    assert bool(resolved[:, : half - 1].all())
    assert float(resolved[:, half:].float().mean()) < 0.02


def test_zero_columns_are_not_resolved() -> None:
    assert orthonormalize(torch.eye(3)[None]).resolved.tolist() == [[True] * 3]
    assert not bool(orthonormalize(torch.zeros(1, 3, 3)).resolved.any())


def test_random_basis_is_orthonormal_seeded_and_private() -> None:
    before = torch.get_rng_state()
    cpu = torch.device("cpu")
    basis = random_orthonormal_basis(9, 4, 3, torch.float64, cpu)
    assert torch.equal(torch.get_rng_state(), before)
    assert_near(basis.mT @ basis, torch.eye(4).double(), 1e-14)
    assert torch.equal(basis, random_orthonormal_basis(9, 4, 3, torch.float64, cpu))
    assert not torch.equal(basis, random_orthonormal_basis(9, 4, 4, torch.float64, cpu))
    single = random_orthonormal_basis(9, 4, 3, torch.float32, cpu)
    assert torch.equal(single, basis.float())


def test_random_basis_is_uniformly_distributed() -> None:
    """The mean square of an entry is 1/N. 200 bases: its error is about sqrt(2)/N/sqrt(200)."""
    entries = torch.stack(
        [
            random_orthonormal_basis(5, 1, seed, torch.float64, torch.device("cpu"))[:, 0]
            for seed in range(200)
        ]
    )
    assert_near(entries.square().mean(0), torch.full((5,), 0.2).double(), 4 * 0.02)
    assert float(entries.mean(0).abs().max()) < 4 * (0.2 / 200) ** 0.5


def test_a_single_vector_ignores_the_default_device() -> None:
    vector = torch.tensor([[[0.0], [-2.0]], [[0.0], [0.0]]])
    with torch.device("meta"):
        result = orthonormalize(vector)
    assert result.basis[..., 0].tolist() == [[0.0, -1.0], [1.0, 0.0]]


def test_random_basis_ignores_the_default_device() -> None:
    with torch.device("meta"):
        basis = random_orthonormal_basis(4, 2, 0, torch.float64, torch.device("cpu"))
    assert basis.device.type == "cpu"
