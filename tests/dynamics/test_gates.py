"""Both ways to weigh and add gate matrices, and the switch between them."""

import pytest
import torch
from torch import nn

from lightning_lyap.dynamics import gates
from lightning_lyap.dynamics.gates import (
    Gates,
    GateWeights,
    mix_dense,
    mix_gates,
    mix_matrix_free,
    prefers_dense,
)
from tests.compare import assert_near
from tests.plain import plain_spectrum


@pytest.mark.grid(every=5)
@pytest.mark.parametrize("block", [1, 500, gates.BLOCK])
@pytest.mark.parametrize("num_gates", [1, 3, 4])
@pytest.mark.parametrize(("size", "inner", "count"), [(5, 3, 1), (7, 7, 7), (2, 9, 4), (3, 60, 50)])
def test_both_ways_are_the_weighted_sum(
    num_gates: int,
    size: int,
    inner: int,
    count: int,
    block: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gates, "BLOCK", block)
    weight = torch.randn(num_gates, size, inner, dtype=torch.float64)
    coefficients = torch.randn(3, num_gates, size, dtype=torch.float64)
    tangent = torch.randn(3, inner, count, dtype=torch.float64)
    expected = torch.einsum("bgh,ghd,bdk->bhk", coefficients, weight, tangent)
    for mix in (mix_dense, mix_matrix_free, mix_gates):
        mixed = mix(GateWeights(weight.flatten(0, 1), num_gates)[:], coefficients, tangent)
        assert_near(mixed, expected, 1e-12)
        assert mixed.mT.is_contiguous()


@pytest.mark.parametrize("count", [3, 60])
def test_a_diagonal_is_added_row_by_row(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "BLOCK", 2 * 3 * 7 * 8)  # two rows of all three sequences
    weight = torch.randn(2, 7, 7, dtype=torch.float64)
    coefficients, diagonal = (torch.randn(3, *s, 7, dtype=torch.float64) for s in ([2], []))
    tangent = torch.randn(3, 7, count, dtype=torch.float64)
    expected = torch.einsum("bgh,ghd,bdk->bhk", coefficients, weight, tangent)
    expected = expected + diagonal.unsqueeze(-1) * tangent
    mixed = mix_dense(GateWeights(weight.flatten(0, 1), 2)[:], coefficients, tangent, diagonal)
    assert_near(mixed, expected, 1e-12)


def test_the_operands_are_left_alone() -> None:
    operands = torch.randn(15, 4), torch.randn(2, 3, 5), torch.randn(2, 4, 2)
    before = [tensor.clone() for tensor in operands]
    weight = GateWeights(operands[0], 3)[:]
    mix_dense(weight, *operands[1:])
    mix_matrix_free(weight, *operands[1:])
    assert all(torch.equal(a, b) for a, b in zip(operands, before, strict=True))
    assert torch.equal(weight.columns, weight.rows.permute(2, 0, 1))


@pytest.mark.parametrize("dense", [True, False])
def test_the_switch_decides(dense: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    monkeypatch.setattr(gates, "prefers_dense", lambda num_gates, size, num_vectors: dense)
    monkeypatch.setattr(gates, "mix_dense", lambda *_: taken.append("dense"))
    monkeypatch.setattr(gates, "mix_matrix_free", lambda *_: taken.append("matrix-free"))
    mix_gates(GateWeights(torch.zeros(6, 2), 3)[:], torch.zeros(1, 3, 2), torch.zeros(1, 2, 1))
    assert taken == ["dense" if dense else "matrix-free"]


@pytest.mark.parametrize(
    ("num_gates", "size", "first_dense"), [(4, 255, 7), (3, 255, 11), (4, 256, 14), (3, 256, 21)]
)
def test_where_the_switch_lies(num_gates: int, size: int, first_dense: int) -> None:
    assert not prefers_dense(num_gates, size, first_dense - 1)
    assert prefers_dense(num_gates, size, first_dense)
    assert not prefers_dense(1, size, 10_000)


def test_some_of_the_gates() -> None:
    weight = GateWeights(torch.randn(12, 5, dtype=torch.float64), 3)
    vectors = torch.randn(2, 6, 5, dtype=torch.float64)
    assert_near(weight[:].applied_to(vectors), vectors @ weight.rows.flatten(0, 1).mT, 1e-14)
    part = weight[1:]
    assert torch.equal(part.rows, weight.rows[1:])
    assert_near(part.applied_to(vectors), weight[:].applied_to(vectors)[..., 4:], 1e-14)


@pytest.mark.parametrize(("num_gates", "count"), [(4, 1), (4, 6), (3, 10), (1, 48)])
def test_few_vectors_are_multiplied_along_with_states(num_gates: int, count: int) -> None:
    """A full tangent space has more rows than the weights take: those of the state come first."""
    weight = GateWeights(torch.randn(num_gates * 5, 5, dtype=torch.float64), num_gates)[:]
    states = torch.randn(2, 5, dtype=torch.float64)
    tangent = torch.randn(2, 8, count, dtype=torch.float64)
    recurrent, products = weight.applied_along(states, tangent)
    assert_near(recurrent, weight.applied_to(states), 1e-14)
    assert products is not None
    assert_near(products, torch.einsum("ghd,bdk->bkgh", weight.rows, tangent[:, :5]), 1e-13)


@pytest.mark.parametrize(("num_gates", "count"), [(4, 7), (3, 11), (1, 49)])
def test_many_vectors_or_none_are_not(num_gates: int, count: int) -> None:
    weight = GateWeights(torch.randn(num_gates * 5, 5), num_gates)[:]
    states = torch.randn(2, 5)
    for tangent in (None, torch.randn(2, 5, count)):
        recurrent, products = weight.applied_along(states, tangent)
        assert torch.equal(recurrent, weight.applied_to(states))
        assert products is None


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_a_step_with_few_vectors_reads_recurrent_weights_once(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = getattr(nn, kind)(3, 9, batch_first=True)
    read: list[tuple[int, ...]] = []
    own = Gates.applied_to

    def count(gates: Gates, vectors: torch.Tensor) -> torch.Tensor:
        read.append(tuple(vectors.shape))
        return own(gates, vectors)

    monkeypatch.setattr(Gates, "applied_to", count)
    x, checked = torch.randn(2, 30, 3), [1, 2, 4, 8, 16, 30]
    estimate = plain_spectrum(network, x, num_exponents=2, state="hidden")
    assert estimate.certificate.num_factorizations == 30
    # Two sequences, a state and two vectors each; the certificate takes one of the steps again.
    assert read.count((2, 3, 9)) == 30 + 1
    assert (4, 9) not in read  # the vectors alone
    assert read.count((2 * len(checked), 2, 9)) == 1


def test_a_weight_that_changes_is_copied_again() -> None:
    shared = torch.randn(12, 5)
    weight = GateWeights(shared, 3)
    before = weight[:].columns
    assert weight[:].columns is not before
    assert weight[:].columns.data_ptr() == before.data_ptr()
    shared.mul_(2)
    assert torch.equal(weight[:].columns, 2 * before)
    assert torch.equal(weight[:].columns, weight.rows.permute(2, 0, 1))


def test_weights_made_in_inference_mode_are_taken() -> None:
    with torch.inference_mode():
        weight = GateWeights(torch.randn(12, 5, dtype=torch.float16).double(), 3)
        assert torch.equal(weight[:].columns, weight.rows.permute(2, 0, 1))
    assert torch.equal(weight[:].columns, weight.rows.permute(2, 0, 1))


def test_weights_of_inference_mode_can_be_differentiated_through_later() -> None:
    weight = GateWeights(torch.randn(12, 5), 3)
    with torch.inference_mode():
        assert not weight[:].columns.is_inference()
    vectors = torch.randn(2, 5, requires_grad=True)
    weight[:].applied_to(vectors).sum().backward()
    assert_near(vectors.grad, weight.rows.sum((0, 1)).expand(2, -1), 1e-5)
