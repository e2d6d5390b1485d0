"""Identities the estimator must obey whatever the network."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_lyap import SpectrumEstimate
from lightning_lyap.systems import linear_step, product_step
from tests.cells import F64, ONE_OF_EACH, Case, build, flatten_state, random_state, sequences
from tests.compare import assert_near
from tests.plain import plain_spectrum

SMOOTH = [c for c in ONE_OF_EACH if c.kind in ("tanh", "gru", "lstm")]


def by_column(estimate: SpectrumEstimate) -> Tensor:
    """Each sequence's exponents in the order of the basis vectors, ``[B, K]``."""
    unsorted = torch.empty_like(estimate.per_sequence)
    unsorted[:, estimate.order] = estimate.per_sequence
    return unsorted


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=str)
def test_batch_is_a_loop_over_sequences(case: Case) -> None:
    module, x = case.module(), sequences(4, 15)
    given = random_state(module, 4)
    batch = plain_spectrum(module, x, initial_state=given, state=case.state)
    for b in range(4):
        own = given[:, b : b + 1] if isinstance(given, Tensor) else [g[:, b : b + 1] for g in given]
        single = plain_spectrum(module, x[b : b + 1], initial_state=own, state=case.state)
        expected, got = by_column(single)[0], by_column(batch)[b]
        known = expected > -30 / 15  # relu kills directions: below lies rounding noise
        assert_near(got[known], expected[known])
    torch.testing.assert_close(
        batch.exponents, batch.per_sequence.mean(0), atol=1e-12, rtol=0, equal_nan=True
    )


def test_order_of_the_sequences_does_not_matter() -> None:
    module, x = build("gru"), sequences(5, 20)
    turn = torch.tensor([3, 0, 4, 1, 2])
    one, other = plain_spectrum(module, x), plain_spectrum(module, x[turn])
    assert_near(one.exponents, other.exponents)
    assert_near(one.std, other.std)
    assert_near(one.per_sequence[turn], other.per_sequence)


def test_mean_is_sorted_once_after_averaging() -> None:
    """Two sequences whose columns come in opposite order average to equal exponents."""
    inputs = torch.tensor([[1.0, 0, 0, 0.25], [0.25, 0, 0, 1]], dtype=F64)[:, None].repeat(1, 9, 1)
    estimate = plain_spectrum(product_step, inputs, initial_state=torch.zeros(2, 2, dtype=F64))
    torch.testing.assert_close(estimate.exponents, torch.full((2,), -math.log(2)).double())
    assert not bool((estimate.per_sequence.diff(dim=1) <= 0).all())


@pytest.mark.grid(every=5)
@pytest.mark.parametrize("every", [2, 3, 7, 100])
@pytest.mark.parametrize("num_exponents", [None, 3])
@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_interval_does_not_change_the_sums(
    case: Case, num_exponents: int | None, every: int
) -> None:
    """Also where it does not divide T = 20: the last, shorter block counts. K < N as well.

    Equal up to the precision left after `every` steps, hence few steps and leading exponents.
    """
    module, x = case.module(), sequences(2, 20)
    settings: dict[str, Any] = {"num_exponents": num_exponents, "state": case.state}
    one = plain_spectrum(module, x, **settings)
    other = plain_spectrum(module, x, orthonormalize_every=every, **settings)
    assert_near(other.exponents[:3], one.exponents[:3], 1e-8)
    assert other.block_ends.tolist() == [*range(every, 20, every), 20]
    assert bool(other.resolved[:3].all())


def test_interval_with_warmup_starts_anew_after_it() -> None:
    estimate = plain_spectrum(
        build("tanh"), sequences(1, 20), orthonormalize_every=4, warmup_steps=6
    )
    assert estimate.block_ends.tolist() == [4, 8, 12, 14]
    assert estimate.steps.tolist() == [14]


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_fewer_vectors_are_a_prefix_of_all(case: Case) -> None:
    """Exact from the same first vectors: QR never looks to the right."""
    module, x = case.module(), sequences(2, 30)
    whole = plain_spectrum(module, x, state=case.state)
    size = whole.tangent_size
    for count in (1, 3):
        first = torch.eye(size, dtype=F64)[:, :count].expand(2, -1, -1)
        part = plain_spectrum(module, x, state=case.state, initial_basis=first)
        assert_near(by_column(part), by_column(whole)[:, :count])
        assert part.tangent_size == size
        assert not part.is_complete


def test_random_vectors_find_the_leading_exponents() -> None:
    """After a warm-up that turns both bases into the same directions.

    They close in by the gap to the next exponent per step (about 0.1 here): e^-30 after 300.
    """
    module, x = build("tanh"), sequences(2, 400)
    whole = plain_spectrum(module, x, warmup_steps=300)
    gap = float((whole.exponents[:3] - whole.exponents[1:4]).min())
    assert gap > 0.05
    for seed in (0, 1):
        part = plain_spectrum(module, x, num_exponents=3, warmup_steps=300, seed=seed)
        assert_near(part.exponents, whole.exponents[:3], max(1e-9, math.exp(-250 * gap)))


def test_decoupled_directions_are_found_with_fewer_vectors() -> None:
    """The first columns of the identity would see 0.1 and 0.2 alone."""
    estimate = plain_spectrum(
        linear_step(torch.diag(torch.tensor([0.1, 0.2, 0.9, 0.5], dtype=F64))),
        torch.zeros(1, 200, 0, dtype=F64),
        initial_state=torch.zeros(1, 4, dtype=F64),
        num_exponents=2,
        warmup_steps=100,
    )
    torch.testing.assert_close(estimate.exponents, torch.tensor([0.9, 0.5]).double().log())


@pytest.mark.grid(every=3)
@pytest.mark.parametrize("num_exponents", [None, 2])
@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_a_split_run_goes_on_where_it_ended(case: Case, num_exponents: int | None) -> None:
    module, x = case.module(), sequences(3, 25)
    settings: dict[str, Any] = {"state": case.state, "num_exponents": num_exponents}
    whole = plain_spectrum(module, x, **settings)
    first = plain_spectrum(module, x[:, :10], **settings)
    second = plain_spectrum(
        module,
        x[:, 10:],
        initial_state=first.final_state,
        initial_basis=first.final_basis,
        **settings,
    )
    joined = (10 * by_column(first) + 15 * by_column(second)) / 25
    assert_near(joined, by_column(whole))
    assert_near(second.final_state, whole.final_state)
    assert_near(second.final_basis, whole.final_basis, 1e-8)


@pytest.mark.parametrize("every", [1, 3])
def test_warmup_drops_the_first_stretches_and_keeps_state_and_basis(every: int) -> None:
    module, x = build("lstm"), sequences(2, 24)
    head = plain_spectrum(module, x[:, :9], orthonormalize_every=every)
    tail = plain_spectrum(
        module,
        x[:, 9:],
        initial_state=head.final_state,
        initial_basis=head.final_basis,
        orthonormalize_every=every,
    )
    warm = plain_spectrum(module, x, warmup_steps=9, orthonormalize_every=every)
    assert_near(warm.exponents, tail.exponents)
    assert_near(warm.margins, tail.margins, 1e-8)
    assert warm.steps.tolist() == [15, 15]
    assert float((warm.exponents - plain_spectrum(module, x).exponents).abs().max()) > 1e-3


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_warmup_orthonormalizes(scale: float) -> None:
    """Hundreds of steps that would take float32 to ``scale ** 400`` without factorizations."""
    estimate = plain_spectrum(
        linear_step(scale * torch.eye(3)),
        torch.zeros(1, 450, 0),
        initial_state=torch.zeros(1, 3),
        warmup_steps=400,
    )
    assert_near(estimate.exponents, torch.full((3,), math.log(scale)).double(), 1e-5)


@pytest.mark.grid(every=3)
@pytest.mark.parametrize("num_exponents", [None, 3])
@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_lengths_equal_single_sequences_and_padding_is_never_read(
    case: Case, every: int, num_exponents: int | None
) -> None:
    module, x = case.module(), sequences(4, 17)
    given = random_state(module, 4)
    lengths = [17, 6, 11, 7]
    for b, length in enumerate(lengths):
        x[b, length:] = math.nan
    settings: dict[str, Any] = {
        "state": case.state,
        "num_exponents": num_exponents,
        "orthonormalize_every": every,
        "warmup_steps": 5,
        "keep_log_stretches": True,
    }
    known = slice(None if every == 1 else 4)  # four steps leave the last ones to rounding
    together = plain_spectrum(module, x, initial_state=given, lengths=lengths, **settings)
    assert bool(together.valid.all())
    assert together.steps.tolist() == [12, 1, 6, 2]
    for b, length in enumerate(lengths):
        own = given[:, b : b + 1] if isinstance(given, Tensor) else [g[:, b : b + 1] for g in given]
        single = plain_spectrum(
            module,
            x[b : b + 1, :length],
            initial_state=own,
            **settings,
        )
        got, expected = by_column(together)[b], by_column(single)[0]
        assert_near(got[known], expected[known])
        got, expected = together.final_basis[b], single.final_basis[0]
        assert_near(got[:, known], expected[:, known])
        ends = flatten_state(together.final_state), flatten_state(single.final_state)
        for got, expected in zip(*ends, strict=True):
            assert_near(got[b], expected[0])
    assert_near(together.running_exponents()[-1], together.exponents)


def test_progress_is_reported_after_every_step() -> None:
    calls: list[tuple[int, int]] = []
    plain_spectrum(
        build("tanh"),
        sequences(2, 9),
        lengths=[5, 7],
        warmup_steps=2,
        orthonormalize_every=3,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(t, 7) for t in range(1, 8)]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("case", ONE_OF_EACH, ids=str)
def test_cuda_equals_cpu(case: Case) -> None:
    module, x = case.module(), sequences(3, 20)
    settings: dict[str, Any] = {"state": case.state, "lengths": [20, 13, 17], "num_exponents": 3}
    cpu = plain_spectrum(module, x, **settings)
    cuda = plain_spectrum(module.cuda(), x, **settings)
    assert cuda.exponents.device.type == cuda.final_basis.device.type == "cuda"
    assert_near(cuda.exponents.cpu(), cpu.exponents)
