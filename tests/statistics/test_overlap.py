"""What sequences have in common is found, and nothing else is."""

import time

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from lightning_lyap.statistics.overlap import Overlap, find_overlap

F64 = torch.float64


def found(inputs: Tensor, start: Tensor | None = None, warmup_steps: int = 0) -> Overlap:
    batch, steps = inputs.shape[:2]
    states = [torch.zeros(batch, 3) if start is None else start]
    return find_overlap(inputs, states, torch.full((batch,), steps), warmup_steps)


def windows(recording: Tensor, length: int, shift: int) -> Tensor:
    """All windows of a recording, ``[T, I]``, that begin a shift apart."""
    return recording.unfold(0, length, shift).movedim(-1, 1)


RECORDINGS = {
    "numbers": torch.randn(190, 3, generator=torch.Generator().manual_seed(0)),
    "double": torch.randn(190, 3, generator=torch.Generator().manual_seed(0), dtype=F64),
    "symbols": one_hot(
        torch.randint(0, 5, (190,), generator=torch.Generator().manual_seed(0)), 5
    ).float(),
}


@pytest.mark.parametrize("kind", RECORDINGS)
@pytest.mark.parametrize("warmup_steps", [0, 50])
def test_windows_of_a_recording_share_what_they_have_in_common(
    kind: str, warmup_steps: int
) -> None:
    """Pairs i and j of 10 windows share 1 - 10 |i - j| / n of their n counted steps.

    Of symbols runs of 25 steps and more are seen, 12 after a warm-up.
    """
    overlap = found(windows(RECORDINGS[kind], 100, 10), warmup_steps=warmup_steps)
    counted = 100 - warmup_steps
    shortest = {25: 25, 12: 12}[counted // 4] if kind == "symbols" else 1
    apart = 10 * (torch.arange(10).unsqueeze(0) - torch.arange(10).unsqueeze(1)).abs()
    common = (counted - apart) * (counted - apart >= shortest) * (apart > 0)
    torch.testing.assert_close(overlap.shared, common.sum(1).to(F64) / counted)
    assert bool(overlap.distinct.all())


def test_the_same_inputs_from_the_same_start_are_one_sequence() -> None:
    x = torch.randn(3, 20, 2)[[0, 1, 0, 2, 1]]
    overlap = found(x)
    assert overlap.distinct.tolist() == [True, True, False, True, False]
    assert overlap.shared.tolist() == [0.0] * 5


@pytest.mark.parametrize("inputs", [torch.ones(4, 9, 2), torch.zeros(4, 9, 0)], ids=str)
def test_constant_inputs_are_one_sequence_or_as_many_as_there_are_starts(inputs: Tensor) -> None:
    assert found(inputs).distinct.tolist() == [True, False, False, False]
    overlap = found(inputs, torch.randn(4, 3))
    assert bool(overlap.distinct.all())
    assert overlap.shared.tolist() == [0.0] * 4


def test_periodic_inputs_from_other_starts_are_no_overlap() -> None:
    wave = torch.arange(120.0).remainder(10).unsqueeze(-1)
    overlap = found(windows(wave, 100, 5), torch.randn(5, 3))
    assert overlap.shared.tolist() == [0.0] * 5


def test_one_input_from_many_starts_is_a_choice() -> None:
    x = torch.randn(1, 50, 2).expand(4, -1, -1)
    overlap = found(x, torch.randn(4, 3))
    assert bool(overlap.distinct.all())
    assert overlap.shared.tolist() == [0.0] * 4


def test_a_sequence_that_goes_on_as_a_shorter_one_shares_it() -> None:
    """25 of 100 steps: all of the shorter, a quarter of the longer one; 1/2 between them."""
    x = torch.randn(1, 100, 2).expand(2, -1, -1)
    overlap = find_overlap(x, [torch.zeros(2, 3)], torch.tensor([100, 25]), 0)
    assert bool(overlap.distinct.all())
    torch.testing.assert_close(overlap.shared, torch.tensor([0.5, 0.5], dtype=F64))


def test_padding_and_the_sign_of_zero_make_no_difference() -> None:
    x = torch.randn(1, 20, 2).repeat(2, 1, 1)
    x[0, 3, 1], x[1, 3, 1] = 0.0, -0.0
    x[1, 15:] = 7.0
    overlap = find_overlap(x, [], torch.tensor([15, 15]), 0)
    assert overlap.distinct.tolist() == [True, False]


@pytest.mark.parametrize("alphabet", [2, 30])
def test_symbols_meet_by_chance_alone(alphabet: int) -> None:
    x = one_hot(torch.randint(0, alphabet, (40, 200)), alphabet).float()
    assert float(found(x).shared.max()) == 0


def test_words_that_come_again_are_no_overlap() -> None:
    """Of 50 words of four letters; 25 steps in a row are more than five of them."""
    words = one_hot(torch.randint(0, 20, (50, 4)), 20).float()
    x = words[torch.randint(0, 50, (20, 25))].flatten(1, 2)
    assert float(found(x).shared.max()) == 0


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_shortest_sequences(steps: int) -> None:
    x = torch.randn(3, steps, 2)
    assert found(x).shared.tolist() == [0.0] * 3
    assert found(x[[0, 0]]).distinct.tolist() == [True, False]


def test_rows_are_those_of_the_whole() -> None:
    overlap = found(windows(RECORDINGS["numbers"], 100, 30))
    assert torch.equal(overlap.of(slice(1, 3)).shared, overlap.shared[1:3])


def test_random_generators_stay_as_they_are() -> None:
    before = torch.get_rng_state()
    found(torch.randn(2, 5, 1, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_it_costs_next_to_nothing() -> None:
    """Ten sequences of a thousand steps of 1024 numbers: 0.15 s on one core, a run is minutes."""
    x = torch.randn(10, 1000, 1024)
    start = time.perf_counter()
    found(x)
    assert time.perf_counter() - start < 3
