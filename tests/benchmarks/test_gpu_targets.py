"""The targets on a GPU, measured with toy sizes on the CPU."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gpu_accuracy import loss_of_orthogonality
from lightning_lyap import SpectrumEstimate
from lightning_lyap.qr.cholesky import cholesky_qr
from lightning_lyap.qr.orthonormalize import orthonormalize
from lightning_lyap.tasks import CharRNN
from performance import on_gpu, replayed
from performance.networks import characters
from performance.table import Bar, Row
from performance.timing import Spread
from performance.training import char_rnn, training_steps
from performance.twin import Twin, largest_difference
from tests.plain import plain_spectrum

CPU = torch.device("cpu")
TOY = on_gpu.Sizes(8, 3, 6, 2, 2, 2, (2, 5))


def verdicts(rows: list[Row]) -> list[str]:
    return [row.bar.verdict(row.found.median) for row in rows if row.bar is not None]


def of_words(rows: list[Row], words: str) -> list[Row]:
    found = [row for row in rows if words in row.what]
    assert found, words
    return found


def test_every_target_has_its_row_and_its_bar() -> None:
    result = on_gpu.measure(TOY, CPU)
    bars = [row.bar for row in result.rows]
    faster, seconds, part, right = (
        Bar(">=", 8.0),
        Bar("<", 0.5),
        Bar("<", 0.1),
        Bar("<=", 1e-4),
    )
    losses = [Bar("<=", 1e-5), Bar("<=", 1e-13)]
    timed = [faster, faster, seconds, part, seconds, part]
    assert bars == [*timed, right, right, None, None, None, *losses]
    assert len({row.what for row in result.rows}) == len(bars)
    assert [row.found.rounds for row in result.rows] == [4, 4, 2, 2, 2, 2, 1, 1, 1, 1, 1, 6, 6]
    assert "batches of 2 x 5 characters, 257 steps" in result.text
    assert "{" not in result.text
    assert verdicts(result.rows[6:]) == ["met"] * 4


class TestTimes:
    @pytest.fixture
    def times(self, monkeypatch: pytest.MonkeyPatch) -> list[list[float]]:
        rounds: list[list[float]] = []
        monkeypatch.setattr(on_gpu, "in_turn", lambda *given, **named: rounds)
        return rounds

    @pytest.mark.parametrize(("own", "verdict"), [(2.0, "met"), (2.1, "not met")])
    def test_torchs_factorization_is_divided_by_ours(
        self, own: float, verdict: str, times: list[list[float]]
    ) -> None:
        times[:] = [[16.0, own]]
        rows = on_gpu.factorizations(TOY, CPU)
        assert [row.found.median for row in rows] == [16.0 / own] * 2
        assert verdicts(rows) == [verdict] * 2

    def test_a_spectrum_is_divided_by_an_epoch(self, times: list[list[float]]) -> None:
        # An epoch of 257 steps, two of which take 0.04 seconds.
        times[:] = [[0.4, 0.6, 0.04]]
        rows = of_words(on_gpu.spectra(TOY, CPU), "spectrum, ")
        assert [row.found.median for row in rows] == pytest.approx(
            [0.4, 0.4 / 5.14, 0.6, 0.6 / 5.14]
        )
        assert verdicts(rows) == ["met", "met", "not met", "not met"]

    def test_what_is_timed_are_the_spectra_and_then_training(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[Any] = []

        def in_turn(calls: list[Callable[[], Any]], rounds: int, **named: Any) -> Any:
            seen.extend(call() for call in calls)
            return [[1.0] * len(calls)] * rounds

        monkeypatch.setattr(on_gpu, "in_turn", in_turn)
        on_gpu.spectra(TOY, CPU)
        every, auto, trained = seen
        assert trained is None
        assert (every.num_exponents, every.num_sequences) == (8, 3)
        assert every.block_ends.tolist() == [1, 2, 3, 4, 5, 6]
        assert len(auto.block_ends) < 6
        seen.clear()
        on_gpu.factorizations(TOY, CPU)
        for theirs, ours in (seen[:2], seen[2:]):
            q = theirs.Q * theirs.R.diagonal(dim1=1, dim2=2).sign().unsqueeze(1)
            torch.testing.assert_close(q, ours.basis)
        assert [part.basis.dtype for part in seen[1::2]] == [torch.float32, torch.float64]


class TestAgreement:
    @staticmethod
    def planted(size: float, sequence: int) -> Callable[..., SpectrumEstimate]:
        def measure(*given: Any, **named: Any) -> SpectrumEstimate:
            estimate = plain_spectrum(*given, **named)
            wrong = estimate.per_sequence.clone()
            wrong[sequence, 3] += size
            return replace(estimate, per_sequence=wrong)

        return measure

    @pytest.mark.parametrize(("size", "verdict"), [(1e-3, "not met"), (5e-5, "met")])
    def test_is_judged_by_the_worst_exponent_of_a_sequence(
        self, size: float, verdict: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(on_gpu, "lyapunov_spectrum", self.planted(size, 1))
        rows = on_gpu.spectra(TOY, CPU)
        compared = of_words(rows, "largest difference")
        assert verdicts(compared) == [verdict] * 2
        assert [row.found.median for row in compared] == pytest.approx([size] * 2, abs=2e-6)
        off = [row.difference for row in rows if row.difference is not None]
        assert off == pytest.approx([size] * 2, rel=0.5)

    def test_that_is_not_a_number_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(on_gpu, "lyapunov_spectrum", self.planted(math.nan, 0))
        assert verdicts(of_words(on_gpu.spectra(TOY, CPU), "difference")) == ["not met"] * 2

    def test_of_float64_is_that_of_float64(self) -> None:
        single, double = of_words(on_gpu.spectra(TOY, CPU), "difference")
        assert double.found.median < 1e-12 < single.found.median

    def test_tells_what_it_leaves_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def lossy(*given: Any, **named: Any) -> SpectrumEstimate:
            estimate = plain_spectrum(*given, **named)
            return replace(estimate, resolved=estimate.order < 5)

        monkeypatch.setattr(on_gpu, "lyapunov_spectrum", lossy)
        lost = of_words(on_gpu.spectra(TOY, CPU), "not resolved")
        assert [row.found.median for row in lost] == [3, 3, 3]

    def test_the_twin_takes_a_network_without_biases(self) -> None:
        lstm, inputs = char_rnn(5).rnn.double(), characters(2, 6).double()
        assert not lstm.bias
        estimate = plain_spectrum(lstm, inputs, state="hidden")
        assert largest_difference(estimate, Twin(lstm).exponents(inputs)) < 1e-10


class TestOrthogonality:
    @pytest.mark.parametrize(
        ("factor", "expected"),
        [
            (1 + 1e-3, ["not met", "not met"]),
            (1 + 1e-12, ["met", "not met"]),
            (math.nan, ["not met", "not met"]),
        ],
    )
    def test_of_a_broken_basis_is_lost(
        self, factor: float, expected: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        count = 0

        def broken(basis: Tensor) -> Any:
            nonlocal count
            count += 1
            result = orthonormalize(basis)
            # One column of one matrix, in the second of several cases.
            q = result.basis.clone()
            q[1, :, 2] *= factor if count % 6 == 2 else 1.0
            return result._replace(basis=q)

        monkeypatch.setattr(on_gpu, "orthonormalize", broken)
        assert verdicts(on_gpu.orthogonality(TOY, CPU)) == expected
        assert count == 12

    def test_is_that_of_bases_of_these_conditions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[Tensor] = []

        def watched(basis: Tensor) -> Any:
            seen.append(basis)
            return orthonormalize(basis)

        monkeypatch.setattr(on_gpu, "orthonormalize", watched)
        on_gpu.orthogonality(TOY, CPU)
        f32, f64 = torch.float32, torch.float64
        assert [basis.dtype for basis in seen] == [f32] * 6 + [f64] * 6
        conditions = [float(torch.linalg.cond(basis.double()).median()) for basis in seen]
        powers = [round(math.log10(condition), 1) for condition in conditions]
        assert powers == [2, 4, 6, 2, 4, 6, 6, 10, 14, 6, 10, 14]
        smallest_rows = [float(basis.abs().amax(-1).min()) for basis in seen]
        assert smallest_rows[5] < 1e-5 < 1e-3 < smallest_rows[2]

    def test_is_that_of_the_columns(self) -> None:
        q = torch.eye(4, dtype=torch.float64)[:, :2].expand(3, -1, -1).clone()
        assert loss_of_orthogonality(q) == 0
        q[2, 3, 1] = 0.5
        assert loss_of_orthogonality(q) == 0.25
        q[1, 1, 0] = -0.75
        assert loss_of_orthogonality(q) == 0.75


def test_the_worst_value_counts() -> None:
    assert on_gpu.worst([1.0, 3.0, 2.0]) == Spread(3.0, 1.0, 3.0, 3)
    assert math.isnan(on_gpu.worst([1.0, math.nan]).median)


def test_training_takes_as_many_steps_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[float] = []
    own = CharRNN.loss

    def loss(model: CharRNN, batch: tuple[Tensor, Tensor]) -> Tensor:
        assert [part.shape for part in batch] == [(2, 5), (2, 5)]
        assert torch.equal(batch[0][:, 1:], batch[1][:, :-1])
        found = own(model, batch)
        losses.append(found.item())
        return found

    monkeypatch.setattr(CharRNN, "loss", loss)
    train = training_steps(8, 40, CPU, 2, 5)
    with torch.no_grad():
        train()
    assert len(losses) == 40
    assert losses[-1] < losses[0] - 0.1


class TestReplayed:
    def test_has_the_same_numbers_without_bars(self, monkeypatch: pytest.MonkeyPatch) -> None:
        called: list[int] = []

        def method(basis: Tensor, passes: int = 1, **settings: Any) -> Any:
            called.append(len(basis))
            return cholesky_qr(basis, passes, **settings)

        monkeypatch.setattr(replayed, "Replayed", lambda: method)
        rows = replayed.measure(TOY, CPU).rows
        assert [row.bar for row in rows] == [None] * 6
        assert len(called) > 2 * 6
        differences = [row.difference for row in rows if row.difference is not None]
        assert len(differences) == 2
        assert all(0 < difference < 1e-3 for difference in differences)

    def test_times_what_it_replays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(basis: Tensor, passes: int = 1, **settings: Any) -> Any:
            raise ArithmeticError("replayed")

        monkeypatch.setattr(replayed, "Replayed", lambda: broken)
        with pytest.raises(ArithmeticError, match="replayed"):
            replayed.measure(TOY, CPU)
