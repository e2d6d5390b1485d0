"""The cascade of Cholesky factorizations, on the CPU: the same numbers as by reflections."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gpu_accuracy import CASES, Case, compare
from lightning_lyap import (
    SpectrumEstimate,
    certificate,
    lyapunov_spectrum,
    orthonormal,
    trajectories,
)
from lightning_lyap import cholesky as cholesky_module
from lightning_lyap.cholesky import FAST_FLOAT64, cholesky_qr, working_dtype
from lightning_lyap.householder import householder_qr
from lightning_lyap.orthonormal import PASSES, Cascade, orthonormalize
from lightning_lyap.rounding import Orthonormalization
from tests.cells import INPUT_SIZE, KINDS, build
from tests.compare import assert_near

F32, F64 = torch.float32, torch.float64
CPU = torch.device("cpu")


@pytest.fixture
def cascade(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Use the cascade on the CPU; yield the level after each question whether it holds."""
    levels: list[int] = []
    own = Cascade.holds

    def holds(self: Cascade) -> bool:
        held = own(self)
        levels.append(self.level)
        return held

    monkeypatch.setattr(Cascade, "holds", holds)
    for module in (orthonormal, trajectories):
        monkeypatch.setattr(module, "pays_on", lambda device: True)
    return levels


@pytest.fixture(params=[4, 64], ids=["narrow", "wide"])
def panels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(cholesky_module, "PANEL", request.param)
    return request.param


def reference(basis: Tensor) -> Orthonormalization:
    return householder_qr(basis.double())


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
    """Errors of resolved stretches by arithmetic in the basis's own type, in units of bounds."""
    cascade = Cascade()
    result = cascade(basis)
    while not cascade.holds():
        result = cascade(basis)
    known = result.resolved & (result.rounding_error > 0)
    error = (result.log_stretch - reference(basis).log_stretch).abs()
    return (error / result.rounding_error)[known]


@pytest.mark.usefixtures("panels")
@pytest.mark.parametrize("kind", ["singular values", "columns"])
@pytest.mark.parametrize("lowest", [0, -4, -10, -20])
def test_bounds_hold_where_float64_is_slow(
    kind: str, lowest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gram matrices in float32: errors are those of any float32 factorization."""
    monkeypatch.setattr(cholesky_module, "working_dtype", lambda basis: basis.dtype)
    found = torch.cat([ratios(Case(kind, lowest, F32).basis(20, n)) for n in (4, 10, 32)])
    assert found.numel() > 300
    assert float((found > 1).float().mean()) < 0.01
    assert float(found.max()) < 10
    assert float(found.median()) > 0.01


def test_float64_is_chosen_where_it_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    assert working_dtype(torch.zeros(1)) == F64

    class OnCard:
        is_cuda, device, dtype = True, "cuda:0", F32

    given: Any = OnCard()
    for capability, expected in ((next(iter(FAST_FLOAT64)), F64), ((8, 6), F32), ((12, 0), F32)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, own=capability: own)
        assert working_dtype(given) == expected


class TestFailure:
    def hard(self, lowest: float = -60) -> Tensor:
        """Make a batch of which one matrix needs more than one pass."""
        basis = torch.randn(3, 20, 20, dtype=F64)
        basis[1] = Case("rows", lowest, F64).basis(1, 20)[0]
        return basis

    def test_is_found_for_each_matrix(self) -> None:
        basis = self.hard()
        result, failed = cholesky_qr(basis)
        assert failed.tolist() == [False, True, False]
        for b in (0, 2):
            alone = cholesky_qr(basis[b : b + 1])[0]
            assert_near(result.log_stretch[b], alone.log_stretch[0], 1e-13)
        assert not bool(cholesky_qr(basis, 4)[1].any())

    def test_goes_from_level_to_level(self) -> None:
        cascade, basis = Cascade(), self.hard()
        asked = []
        for _ in range(4):
            result = cascade(basis)
            asked.append((cascade.holds(), cascade.level))
        assert asked == [(False, 1), (False, 2), (True, 2), (True, 2)]
        torch.testing.assert_close(
            result.log_stretch, reference(basis).log_stretch, rtol=0, atol=1e-9
        )

    def test_one_failure_among_several_is_kept(self) -> None:
        cascade = Cascade()
        for basis in (self.hard()[:1], self.hard(), self.hard()[2:]):
            cascade(basis)
        assert not cascade.holds()
        assert cascade.holds()

    def test_ends_with_reflections_for_what_still_fails(self) -> None:
        basis = self.hard(-300)
        cascade = Cascade()
        result = cascade(basis)
        while not cascade.holds():
            result = cascade(basis)
        assert cascade.level == len(PASSES)
        right = householder_qr(basis[1:2])
        for got, expected in zip(result, right, strict=True):
            assert torch.equal(got[1], expected[0])
        for got, expected in zip(result, cholesky_qr(basis, PASSES[-1])[0], strict=True):
            assert torch.equal(got[[0, 2]], expected[[0, 2]])

    def test_public_function_asks_until_it_holds(self, cascade: list[int]) -> None:
        result = orthonormalize(self.hard())
        assert cascade == [1, 2, 2]
        assert_near(result.basis.mT @ result.basis, torch.eye(20).double().expand(3, -1, -1), 1e-13)


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


def measured(kind: str, **settings: Any) -> SpectrumEstimate:
    torch.manual_seed(0)
    module, x = build(kind, num_layers=2), torch.randn(3, 24, INPUT_SIZE, dtype=F64)
    return lyapunov_spectrum(module, x, **settings)


@pytest.mark.parametrize(("kind", "state"), KINDS)
@pytest.mark.parametrize(
    "settings",
    [{}, {"lengths": [24, 7, 15], "warmup_steps": 3}, {"num_exponents": 3}, {"layers": "union"}],
    ids=["plain", "ragged", "partial", "union"],
)
def test_spectra_are_those_by_reflections(
    kind: str,
    state: str,
    settings: dict[str, Any],
    cascade: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a relu network directions get lost: what replaces them takes time to find its place."""
    got = measured(kind, state=state, orthonormalize_every=2, **settings)
    assert len(cascade) > 0
    for module in (orthonormal, trajectories):
        monkeypatch.setattr(module, "pays_on", lambda device: False)
    expected = measured(kind, state=state, orthonormalize_every=2, **settings)
    known = expected.resolved
    assert got.resolved.tolist() == known.tolist()
    tolerance = 0.05 if kind == "relu" else 1e-7
    assert_near(got.exponents[known], expected.exponents[known], tolerance)
    assert got.block_ends.tolist() == expected.block_ends.tolist()
    assert got.certificate.passed
    assert got.certificate.num_factorizations == expected.certificate.num_factorizations


class TestRun:
    """A run asks once, and does again what did not hold."""

    def run(self, every: Any = 1, **settings: Any) -> SpectrumEstimate:
        """Measure a linear map whose second direction shrinks by e^-8 in each step."""
        turn = torch.linalg.qr(
            torch.randn(4, 4, generator=torch.Generator().manual_seed(1)).double()
        ).Q
        matrix = turn @ torch.tensor([0.0, -1.0, -8.0, -9.0], dtype=F64).exp().diag() @ turn.mT
        return lyapunov_spectrum(
            lambda x, s: (s @ matrix.mT) * (1 + x),
            torch.zeros(2, 40, 1, dtype=F64),
            initial_state=torch.ones(2, 4, dtype=F64),
            orthonormalize_every=every,
            keep_log_stretches=True,
            **settings,
        )

    def test_asks_once_at_the_end(self, cascade: list[int]) -> None:
        estimate = self.run()
        assert cascade == [0]
        assert_near(estimate.exponents[:1], torch.zeros(1, dtype=F64), 0.1)

    def test_asks_after_each_span(
        self, cascade: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = self.run()
        monkeypatch.setattr(trajectories, "SPAN", 16)
        cascade.clear()
        estimate = self.run()
        assert cascade == [0, 0, 0]
        assert torch.equal(whole.exponents, estimate.exponents)

    def test_does_again_what_did_not_hold(
        self, cascade: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(trajectories, "SPAN", 4)
        steps: list[int] = []
        estimate = self.run(3, progress=lambda done, total: steps.append(done))
        assert cascade[:2] == [1, 1]
        assert estimate.block_ends.tolist() == [*range(3, 40, 3), 40]
        assert steps == list(range(1, 41))
        assert estimate.certificate.num_factorizations == 14
        assert estimate.certificate.num_redone == 0
        for module in (orthonormal, trajectories):
            monkeypatch.setattr(module, "pays_on", lambda device: False)
        right = self.run(3)
        known = right.resolved
        assert_near(estimate.exponents[known], right.exponents[known], 1e-6)
        assert estimate.log_stretches is not None
        assert estimate.log_stretches.shape == (14, 2, 4)

    def test_an_automatic_interval_sees_nothing_that_does_not_hold(
        self, cascade: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        estimate = self.run("auto")
        for module in (orthonormal, trajectories):
            monkeypatch.setattr(module, "pays_on", lambda device: False)
        right = self.run("auto")
        assert len(cascade) > 0
        assert estimate.block_ends.tolist() == right.block_ends.tolist()
        assert_near(estimate.exponents, right.exponents, 1e-6)


class Reads(TorchDispatchMode):
    """Lists the types of the numbers that are read from tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.types: list[torch.dtype] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            self.types.append(args[0].dtype)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["lstm", "gru", "relu"])
def test_nothing_but_lengths_is_read_inside_the_loop(
    kind: str, cascade: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lengths, int64, stay on the CPU: nothing waits for the device but a flag for each try."""
    go, reads = trajectories.Trajectories.go, Reads()

    def watched(*arguments: Any) -> None:
        with reads:
            go(*arguments)

    def vector(size: int, *rest: Any) -> Tensor:
        return torch.eye(size, 1, dtype=F64)

    monkeypatch.setattr(trajectories.Trajectories, "go", watched)
    monkeypatch.setattr(certificate, "random_orthonormal_basis", vector)
    estimate = measured(kind, orthonormalize_every=2)
    assert estimate.certificate.checks.keys() >= {"tangent_map", "orthogonality"}
    assert set(reads.types) == {torch.int64, torch.bool}
    assert reads.types.count(torch.bool) == len(cascade) <= len(PASSES) + 1
