"""The cascade, on the CPU: it goes on until it holds, and a run asks as seldom as it can."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gpu_accuracy import Case
from lightning_lyap import SpectrumEstimate, lyapunov_spectrum
from lightning_lyap.certificate import along_the_run
from lightning_lyap.estimator import trajectories
from lightning_lyap.qr import orthonormalize as orthonormal
from lightning_lyap.qr.cholesky import FIRST_PANEL_WIDTH, cholesky_qr
from lightning_lyap.qr.householder import householder_qr
from lightning_lyap.qr.orthonormalize import PASSES, Cascade, orthonormalize
from tests.cells import INPUT_SIZE, KINDS, build
from tests.compare import assert_near
from tests.factoring import by_cascade, reference

F32, F64 = torch.float32, torch.float64


def choose(patch: pytest.MonkeyPatch, *, cascade: bool) -> None:
    """Use the cascade on the CPU, or reflections."""
    for module in (orthonormal, trajectories):
        patch.setattr(module, "cascade_is_faster_on", lambda device: cascade)


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
    choose(monkeypatch, cascade=True)
    return levels


class TestFailure:
    def hard(self, lowest: float = -60) -> Tensor:
        """Make a batch of which one matrix needs more than one pass."""
        basis = torch.randn(3, 20, 20, dtype=F64)
        basis[1] = Case("rows", lowest, F64).basis(1, 20)[0]
        return basis

    def close(self) -> Tensor:
        """Make a batch of which one matrix has two columns that are nearly the same."""
        basis = torch.randn(2, 20, 16, dtype=F64)
        basis[1, :, 10] = basis[1, :, 0] + 1e-9 * basis[1, :, 10]
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

    def test_takes_narrower_panels_before_more_passes(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Columns close to those of other panels hold; of the same panel they don't."""
        monkeypatch.setattr(orthonormal, "PANEL_WIDTH", 4)
        basis = self.close()
        cascade, result = by_cascade(basis)
        assert (cascade.panel_width, cascade.level) == (4, 0)
        assert_near(result.log_stretch, reference(basis).log_stretch, 1e-6)

    def test_narrower_panels_of_few_columns_are_the_same(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(orthonormal, "PANEL_WIDTH", 16)
        cascade, _ = by_cascade(self.close())
        assert (cascade.panel_width, cascade.level) == (FIRST_PANEL_WIDTH, 1)

    def test_one_failure_among_several_is_kept(self) -> None:
        cascade = Cascade()
        for basis in (self.hard()[:1], self.hard(), self.hard()[2:]):
            cascade(basis)
        assert not cascade.holds()
        assert cascade.holds()

    def test_ends_with_reflections_for_what_still_fails(self) -> None:
        basis = self.hard(-300)
        cascade, result = by_cascade(basis)
        assert cascade.level == len(PASSES)
        right = householder_qr(basis[1:2])
        for got, expected in zip(result[:4], right[:4], strict=True):
            assert torch.equal(got[1], expected[0])
        for got, expected in zip(result[:4], cholesky_qr(basis, PASSES[-1])[0][:4], strict=True):
            assert torch.equal(got[[0, 2]], expected[[0, 2]])

    def test_public_function_asks_until_it_holds(self, cascade: list[int]) -> None:
        result = orthonormalize(self.hard())
        assert cascade == [1, 2, 2]
        assert_near(result.basis.mT @ result.basis, torch.eye(20).double().expand(3, -1, -1), 1e-13)


def measured(kind: str, **settings: Any) -> SpectrumEstimate:
    torch.manual_seed(0)
    module, x = build(kind, num_layers=2), torch.randn(3, 24, INPUT_SIZE, dtype=F64)
    return lyapunov_spectrum(module, x, **settings)


@pytest.mark.grid(every=3)
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
    choose(monkeypatch, cascade=False)
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
        monkeypatch.setattr(trajectories, "BLOCKS_PER_QUESTION", 16)
        cascade.clear()
        estimate = self.run()
        assert cascade == [0, 0, 0]
        assert torch.equal(whole.exponents, estimate.exponents)

    def test_does_again_what_did_not_hold(
        self, cascade: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(trajectories, "BLOCKS_PER_QUESTION", 4)
        steps: list[int] = []
        estimate = self.run(3, progress=lambda done, total: steps.append(done))
        assert cascade[:2] == [1, 1]
        assert estimate.block_ends.tolist() == [*range(3, 40, 3), 40]
        assert steps == list(range(1, 41))
        assert estimate.certificate.num_factorizations == 14
        assert estimate.certificate.num_redone == 0
        choose(monkeypatch, cascade=False)
        right = self.run(3)
        known = right.resolved
        assert_near(estimate.exponents[known], right.exponents[known], 1e-6)
        assert estimate.log_stretches is not None
        assert estimate.log_stretches.shape == (14, 2, 4)

    def test_an_automatic_interval_sees_nothing_that_does_not_hold(
        self, cascade: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        estimate = self.run("auto")
        choose(monkeypatch, cascade=False)
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
    """Lengths stay on the CPU: nothing waits for the device but a flag for each try."""
    go, reads = trajectories.Trajectories.go, Reads()

    def watched(*arguments: Any) -> None:
        with reads:
            go(*arguments)

    def vector(size: int, *rest: Any) -> Tensor:
        return torch.eye(size, 1, dtype=F64)

    monkeypatch.setattr(trajectories.Trajectories, "go", watched)
    monkeypatch.setattr(along_the_run, "random_orthonormal_basis", vector)
    estimate = measured(kind, orthonormalize_every=2)
    assert estimate.certificate.checks.keys() >= {"tangent_map", "orthogonality"}
    assert set(reads.types) == {torch.bool}
    assert reads.types.count(torch.bool) == len(cascade) <= len(PASSES) + 1
