"""How many of the sequences are other ones: those that repeat, and windows that overlap.

A sequence that starts from the same state and receives the same inputs as another is the same
computation, and says nothing new. Windows of one recording that share a part of their steps say
that part twice. Steps are compared by 64-bit hashes of their inputs, sorted: the cost is that of a
few steps of the network.

What is the same at the same time but started elsewhere is no overlap: many starts for one input are
a choice, and the spread is that over starts. Neither are inputs that repeat within a sequence,
constant or periodic ones, with which different starts are all there is.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# Numbers that are hashed at once, so that this takes tens of MB.
ENTRIES_AT_ONCE = 2**21
# Steps in a row that must be the same: few where hardly a step of a sequence comes again, as of
# real numbers; many for symbols, whose words come again: half a line of text.
RUN_OF_NUMBERS, RUN_OF_SYMBOLS, SHORTEST_OF_SYMBOLS = 4, 32, 8
ALL_DIFFERENT = 0.95


class Overlap(NamedTuple):
    """What sequences have in common.

    Attributes:
        distinct: Which sequences are no repetition of an earlier one, ``[B]``, bool.
        shared: Sum over the other distinct sequences of the part of its counted steps that each
            shares with a distinct one, ``[B]``, float64; of different lengths, the geometric mean
            of both parts.
    """

    distinct: Tensor
    shared: Tensor

    def of(self, rows: slice) -> "Overlap":
        """Return the same of some of the sequences."""
        return Overlap(self.distinct[rows], self.shared[rows])


@torch.no_grad()
def find_overlap(
    inputs: Tensor, states: Sequence[Tensor], ends: Tensor, warmup_steps: int | Tensor
) -> Overlap:
    """Compare sequences.

    Args:
        inputs: ``[B, T, I]``.
        states: What they start from, tensors ``[B, ...]``.
        ends: Length of each sequence, warm-up included, ``[B]``.
        warmup_steps: Steps of each that are not counted, one number or ``[B]``: what is the same
            there alone is no overlap.

    Returns:
        What they have in common, on the CPU.

    Example:
        >>> recording = torch.arange(30.0).reshape(30, 1)
        >>> windows = torch.stack([recording[:20], recording[10:], recording[:20]])
        >>> found = find_overlap(windows, [], torch.tensor([20, 20, 20]), 0)
        >>> found.distinct.tolist(), found.shared.tolist()
        ([True, True, False], [0.5, 0.5, 0.0])
    """
    batch, steps = inputs.shape[:2]
    distinct = torch.ones(batch, dtype=torch.bool, device="cpu")
    if batch == 1:
        return Overlap(distinct, torch.zeros(1, dtype=torch.float64, device="cpu"))
    ends, time = ends.cpu(), torch.arange(steps, device="cpu")
    begins = torch.as_tensor(warmup_steps, device="cpu").expand(batch)
    symbols, start = _hashes(inputs), torch.zeros(batch, dtype=torch.int64, device="cpu")
    for factor, state in zip(_random_odd(len(states)).tolist(), states, strict=True):
        start = start + _hashes(state.reshape(batch, -1)) * factor
    so_far = start.unsqueeze(1) + (symbols * _random_odd(steps)).cumsum(1)
    last = so_far.gather(1, ends.unsqueeze(1) - 1).squeeze(1) + ends * _random_odd(1)
    distinct = _first_of_each(last)
    counted = (time >= begins.unsqueeze(1)) & (time < ends.unsqueeze(1))
    counted &= distinct.unsqueeze(1)
    weights = (ends - begins).double().rsqrt().unsqueeze(1).expand(-1, steps)
    piece = _piece_of(symbols, counted)
    return Overlap(
        distinct,
        _shared_from_the_start(so_far, weights, counted, piece)
        + _shared_at_other_times(symbols, weights, counted, piece),
    )


def _random_odd(count: int) -> Tensor:
    """Return odd numbers, ``[count]``, int64, always the same."""
    drawn = torch.Generator().manual_seed(count)
    return torch.randint(-(2**62), 2**62, (count,), generator=drawn, device="cpu") * 2 + 1


def _hashes(rows: Tensor) -> Tensor:
    """Return a hash of each vector of numbers, ``[B, ..., C]``: ``[B, ...]``, int64, on the CPU."""
    factors = _random_odd(rows.shape[-1]).to(rows.device)
    at_once = max(1, ENTRIES_AT_ONCE // max(rows.shape[-1], 1))
    row_size = max(1, rows[0].numel() // max(rows.shape[-1], 1))
    parts = [
        part
        for some in rows.split(max(1, at_once // row_size))
        for part in some.flatten(0, -2).split(at_once)
    ]
    mixed = torch.cat([(_bits(part) * factors).sum(-1).cpu() for part in parts])
    for shift in (32, 29):
        mixed = (mixed ^ (mixed >> shift)) * int(_random_odd(shift)[0])
    return mixed.reshape(rows.shape[:-1])


def _bits(numbers: Tensor) -> Tensor:
    """Return the bits of numbers as whole ones; adding zero makes -0 and 0 the same."""
    if numbers.dtype == torch.float64:
        return (numbers + 0.0).view(torch.int64)
    return (numbers.float() + 0.0).view(torch.int32).long()


def _first_of_each(keys: Tensor) -> Tensor:
    """Return where a key, ``[B]``, stands for the first time, ``[B]``, bool."""
    unique, inverse = keys.unique(return_inverse=True)
    index = torch.arange(len(keys), device="cpu")
    first = torch.full_like(unique, len(keys)).scatter_reduce(0, inverse, index, "amin")
    return first[inverse] == index


def _shared(keys: Tensor, weights: Tensor, used: Tensor) -> Tensor:
    """Add up, by row, the products of weights of equal keys in different rows.

    All are ``[B, T]``, the result is ``[B]``; a key stands at most once in a row.
    """
    _, inverse = keys[used].unique(return_inverse=True)
    own = weights[used]
    total = own.new_zeros(int(inverse.max()) + 1 if len(inverse) else 0).index_add(0, inverse, own)
    result = torch.zeros_like(weights)
    result[used] = own * (total[inverse] - own)
    return result.sum(1)


def _piece_of(symbols: Tensor, counted: Tensor) -> int:
    """Return how many steps, ``[B, T]``, must be the same in a row to be no chance."""
    steps = max(int(counted.sum(1).max()), 1)
    if float(_once_in_row(symbols, counted).sum()) >= ALL_DIFFERENT * float(counted.sum()):
        return min(RUN_OF_NUMBERS, steps)
    return max(SHORTEST_OF_SYMBOLS, min(RUN_OF_SYMBOLS, steps // 4))


def _shared_from_the_start(so_far: Tensor, weights: Tensor, counted: Tensor, piece: int) -> Tensor:
    """Add up, by row, the steps up to which another row was the same computation, weighed.

    If these are a piece at least: where its last step is the same, so are those before it. All are
    ``[B, T]``, the result is ``[B]``.
    """
    if so_far.shape[1] < piece:
        return weights.new_zeros(len(weights))
    time = torch.arange(so_far.shape[1], device="cpu")
    keys = so_far + time * _random_odd(1)
    after = counted & (time >= piece)
    before = counted[:, :piece].sum(1, keepdim=True)
    last = slice(piece - 1, piece)
    at_last = _shared(keys[:, last], weights[:, last] * before.sqrt(), before > 0)
    return _shared(keys, weights, after) + at_last


def _shared_at_other_times(symbols: Tensor, weights: Tensor, counted: Tensor, piece: int) -> Tensor:
    """Add up, by row, the steps in runs that stand in another row at another time, weighed.

    A run of n steps has n - k + 1 pieces of k steps and n - k of one more: so the two numbers tell
    the steps. All are ``[B, T]``, the result is ``[B]``.
    """
    of_pieces = [_pieces_shared(symbols, weights, counted, each) for each in (piece, piece + 1)]
    return (piece * of_pieces[0] - (piece - 1) * of_pieces[1]).clamp(min=0)


def _pieces_shared(symbols: Tensor, weights: Tensor, counted: Tensor, size: int) -> Tensor:
    """Add up, by row, the pieces of some steps that stand in another row at another time."""
    count = symbols.shape[1] - size + 1
    if count < 1:
        return weights.new_zeros(len(weights))
    factors = _random_odd(size).tolist()
    keys, used = torch.zeros_like(symbols[:, :count]), counted[:, :count]
    for offset, factor in enumerate(factors):
        keys = keys + symbols[:, offset : offset + count] * factor
        used = used & counted[:, offset : offset + count]
    used, weights = _once_in_row(keys, used), weights[:, :count]
    at_time = torch.arange(count, device="cpu") * _random_odd(1)
    return _shared(keys, weights, used) - _shared(keys + at_time, weights, used)


def _once_in_row(keys: Tensor, used: Tensor) -> Tensor:
    """Return which of the keys used, ``[B, T]``, stand once in their row."""
    rows = torch.arange(len(keys), device="cpu").unsqueeze(1) * _random_odd(1)
    _, inverse, counts = (keys + rows)[used].unique(return_inverse=True, return_counts=True)
    once = torch.zeros_like(used)
    once[used] = counts[inverse] == 1
    return once
