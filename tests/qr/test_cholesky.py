"""Repeated Cholesky factorizations, on the CPU: the same numbers as by reflections."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from gpu_accuracy import CASES, Case, compare
from lightning_lyap.qr import cholesky as cholesky_module
from lightning_lyap.qr.cholesky import FAST_FLOAT64, cholesky_qr, working_dtype
from lightning_lyap.qr.orthonormalize import PASSES
from tests.compare import assert_near
from tests.factoring import assert_bounds_hold, by_cascade, error_ratios, reference

F32, F64 = torch.float32, torch.float64
CPU = torch.device("cpu")


@pytest.fixture(params=[4, 64], ids=["narrow", "wide"])
def panels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(cholesky_module, "PANEL_WIDTH", request.param)
    return request.param


@pytest.mark.grid(every=5)
@pytest.mark.usefixtures("panels")
@pytest.mark.parametrize("passes", PASSES)
@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize(("size", "count"), [(1, 1), (5, 5), (9, 4), (70, 67), (64, 64), (6, 1)])
def test_is_a_factorization(size: int, count: int, dtype: torch.dtype, passes: int) -> None:
    basis = torch.randn(3, size, count, dtype=dtype)
    result, failed = cholesky_qr(basis, passes)
    q, tolerance = result.basis, 200 * torch.finfo(dtype).eps
    assert not bool(failed.any())
    assert q.dtype == dtype
    assert result.log_stretch.dtype == result.rounding_error.dtype == F64
    assert_near(q.mT @ q, torch.eye(count, dtype=dtype).expand(3, -1, -1), tolerance)
    r = q.mT @ basis
    assert float(r.tril(-1).abs().max()) < tolerance
    assert_near(q @ r, basis, tolerance)
    assert_near(r.diagonal(dim1=-2, dim2=-1).double(), result.log_stretch.exp(), tolerance)
    assert bool((result.log_stretch - reference(basis).log_stretch).abs().max() < 1e-9)


@pytest.mark.grid(every=5)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_hard_cases_are_orthonormal_and_right(case: Case) -> None:
    """Up to conditions of 1e6 and 1e14, and rows that differ by up to e^-150.

    In float64 the reference has errors of its own; bounds of graded rows are known to be less sure.
    """
    found = compare(case, 100, CPU)
    assert found["orthogonality"] < (1e-5 if case.dtype == F32 else 1e-13)
    assert found["in_bounds"] < (10 if case.kind != "rows" else 100)
    assert found["resolved"] == f"{found['resolved_by_reflections']}/400"
    assert found["zeros"] == found["zeros_by_reflections"]
    # Condition of 1e6, float32: every stretch is resolved, and right to 1e-9.
    if case in (Case("singular values", -13.8, F32), Case("rows", -30, F32)):
        assert found["resolved"] == "400/400"
        assert found["largest_difference"] < 1e-9


def ratios(basis: Tensor) -> Tensor:
    """Errors of the cascade in units of their bounds; float64 knows them."""
    return error_ratios(by_cascade(basis)[1], reference(basis))


@pytest.mark.grid(every=3)
@pytest.mark.usefixtures("panels")
@pytest.mark.parametrize("kind", ["singular values", "columns"])
@pytest.mark.parametrize("lowest", [0, -4, -10, -20])
def test_bounds_hold_where_float64_is_slow(
    kind: str, lowest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gram matrices in float32: errors are those of any float32 factorization."""
    monkeypatch.setattr(cholesky_module, "working_dtype", lambda basis: basis.dtype)
    found = torch.cat([ratios(Case(kind, lowest, F32).basis(20, n)) for n in (4, 10, 32)])
    assert_bounds_hold(found, count=300, median=0.01)


def test_float64_is_chosen_where_it_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    assert working_dtype(torch.zeros(1)) == F64

    class OnCard:
        is_cuda, device, dtype = True, "cuda:0", F32

    given: Any = OnCard()
    for capability, expected in ((next(iter(FAST_FLOAT64)), F64), ((8, 6), F32), ((12, 0), F32)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, own=capability: own)
        assert working_dtype(given) == expected


class TestLostDirections:
    def test_zeros_go_behind_the_others(self) -> None:
        basis = torch.zeros(2, 3, 3, dtype=F64)
        basis[0, 0, 1], basis[0, 1, 2] = 1.0, 2.0
        basis[1] = torch.eye(3)
        result, failed = cholesky_qr(basis)
        assert result.log_stretch[0].tolist() == [0.0, math.log(2), -math.inf]
        assert result.resolved.tolist() == [[True, True, False], [True] * 3]
        assert result.rounding_error[0, 2] == 0
        assert not bool(failed.any())
        assert_near(result.basis.mT @ result.basis, torch.eye(3).double().expand(2, -1, -1), 1e-14)

    def test_all_lost_is_replaced_as_by_reflections(self) -> None:
        result, failed = cholesky_qr(torch.zeros(2, 4, 4))
        assert torch.equal(result.basis, torch.eye(4).expand(2, -1, -1))
        assert bool((result.log_stretch == -math.inf).all())
        assert not bool(failed.any() | result.resolved.any())

    @pytest.mark.parametrize("dtype", [F32, F64])
    def test_silent_units_cost_as_many_exponents(self, dtype: torch.dtype) -> None:
        """Rows of zeros: the rank is known before, and the other stretches are not touched."""
        basis = torch.randn(4, 30, 30, dtype=dtype)
        basis[:, 5:15] = 0.0
        result, failed = cholesky_qr(basis)
        assert not bool(failed.any())
        exact = reference(basis)
        assert bool((result.log_stretch[:, 20:] == -math.inf).all())
        assert_near(result.log_stretch[:, :20], exact.log_stretch[:, :20], 1e-9)
        assert_near(
            result.basis[..., :20].double(), exact.basis[..., :20], 1e3 * torch.finfo(dtype).eps
        )

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_a_sequence_that_is_not_finite_spoils_no_other(self, bad: float) -> None:
        basis = torch.randn(3, 8, 8, dtype=F64)
        expected = cholesky_qr(basis)[0]
        basis[1, 2, 5] = bad
        result, failed = cholesky_qr(basis)
        assert bool(result.log_stretch[1].isnan().all())
        assert not bool(failed.any() | result.resolved[1].any())
        for b in (0, 2):
            assert torch.equal(result.basis[b], expected.basis[b])
            assert torch.equal(result.log_stretch[b], expected.log_stretch[b])
