"""Chunks of sequences side by side, round after round, until each starts where the last one ends.

See `trajectories` beside it for what it is good for and why it is right.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lightning_lyap._device import OnStep, upload
from lightning_lyap.certificate.along_the_run import Inspector
from lightning_lyap.dynamics.base import State
from lightning_lyap.estimator.result import TimeChunks
from lightning_lyap.estimator.time_parallel.cuts import BasesAlongStates, ChunkTable
from lightning_lyap.estimator.trajectories import Start, Trajectories
from lightning_lyap.qr.orthonormalize import factorize_blocks, orthonormalize
from lightning_lyap.qr.reflectors import dense

Parts: TypeAlias = Callable[[int], OnStep]
# Rounds in which all chunks that are off run at once: so many times the arithmetic of a plain run
# at most. Without products of Jacobians the first finds bases and the second stretches; the third
# is for gaps so small that bases need one more chunk to forget where they came from.
ROUNDS = 3
# Steps after which products are scaled: Jacobians may stretch by exp(10) a step in float32.
SCALED_EVERY = 8


class Chunks:
    """All chunks of some sequences: what each started from, ended with and measured.

    Args:
        like: The trajectories before the first chunk.
        table: Where they are cut.
        drive: ``[n, B, ...]``.
        states: Before each step, tensors ``[n, B, ...]``.
        every: Steps between factorizations.

    Attributes:
        table: Where they are cut.
        stretches: Log-stretches, ``[chunks, blocks, B, C]``, float64; zero where there is no block.
        rounding: Bounds of their errors added up, ``[chunks, B, C]``.
        resolved: Whether all of them stood out from rounding noise, ``[chunks, B, C]``, bool.
        labels: Where each vector at the end of a chunk stood at its start, ``[chunks, B, C]``.
        inspector: That of the trajectories, which went on along chunks that count.
    """

    def __init__(
        self, like: Trajectories, table: ChunkTable, drive: Tensor, states: State, every: int
    ) -> None:
        self.table = table
        self.inspector = like.inspector
        self._like, self._drive, self._states, self._every = like, drive, states, every
        own = like.basis
        self._starts = own[upload(table.sequence, own.device)]
        self._ends = self._starts.clone()
        shape = (table.count, len(own), like.sums.shape[1])
        self.stretches = like.sums.new_zeros(shape[0], table.steps // every, *shape[1:])
        self.rounding = like.sums.new_zeros(shape)
        self.resolved = like.resolved.new_ones(shape)
        self.labels = like.labels.new_zeros(shape) + torch.arange(shape[2]).to(own.device)

    def run(self, rows: Tensor, next_part: Parts) -> Inspector:
        """Carry the bases of some chunks, ``[r]``, from their starts to their ends.

        Args:
            rows: Which, ``[r]``.
            next_part: See `HalvingProgress.next_part`.

        Returns:
            What went along with the bases to check some of the blocks.
        """
        ends, where = self.table.ends[rows], self._up(rows)
        sequence, number = self._up(self.table.sequence[rows]), self._up(self.table.number[rows])
        drive, states = self._laid_out(rows)
        last = bool(torch.isin(self.table.last_of_each, rows).any())
        start = Start(drive, tuple(tensor[0] for tensor in states), self._starts[where], ends)
        run = BasesAlongStates(states, start, self._every, self._like, last)
        run.inspector = self.inspector.copy()
        run.go(len(drive), next_part(len(drive)))
        self._ends[where] = run.basis
        measured = torch.stack(run.stretches, dim=1)
        self.stretches[number, : measured.shape[1], sequence] = measured
        self.rounding[number, sequence] = run.rounding
        self.resolved[number, sequence] = run.resolved
        self.labels[number, sequence] = run.labels
        return run.inspector

    def joints(self) -> tuple[Tensor, Tensor]:
        """Compare what each chunk started from with what the one before it ended with.

        Each principal angle between the spans of the first vectors of two bases, however many, has
        a sine of at most ``sqrt(sum_i sin^2 a_i)``, with a_i the angle between their i-th vectors.

        Returns:
            That bound of the angles, ``[R]``, radians, float64, and the signs that the vectors of
            the chunk before have relative to it, ``[R, N, k]``; 0 and 1 for the first chunks. Two
            bases that are lost (NaN) are as one, and far from all others.
        """
        rows, before = (self._up(one) for one in self._pairs())
        blocks = (self._like.system.num_blocks, -1)
        start, end = self._starts[rows], self._ends[before]
        lost = start.isnan().flatten(1).any(1) & end.isnan().flatten(1).any(1)
        same = lost | (start == end).flatten(1).all(1)  # as after a restart, whatever is rounded
        start = normalize(start.double().unflatten(1, blocks), dim=2)
        end = normalize(end.double().unflatten(1, blocks), dim=2)
        overlap = (start * end).sum(2, keepdim=True)
        sines = (start - overlap * end).square().sum((2, 3)).amax(1).sqrt()
        sines = sines.masked_fill(same, 0.0).nan_to_num(1.0)  # lost on one side alone: off
        angles = sines.new_zeros(len(self._starts))
        angles[rows] = sines.clamp(max=1).asin()
        signs = torch.ones_like(self._starts)
        signs[rows] = overlap.sign().expand_as(start).flatten(1, 2).to(signs)
        return angles, signs

    def off(self, tolerance: float) -> Tensor:
        """Return which chunks are off what the one before them ends with: indices, on the CPU."""
        return (self.joints()[0] > tolerance).cpu().nonzero()[:, 0]

    def restart(self, rows: Tensor) -> None:
        """Let chunks, no first ones of a sequence, start from the end of the one before them."""
        self._starts[self._up(rows)] = self._ends[self._up(rows - 1)]

    def last_basis(self) -> Tensor:
        """Return the bases that the sequences end with, ``[B, N, k]``, signs as in a plain run."""
        last, signs = self._up(self.table.last_of_each), self.joints()[1]
        basis = self._ends[last]
        turned = basis.new_ones(self.table.count, *basis.shape)
        turned[self._up(self.table.number), self._up(self.table.sequence)] = signs
        return basis * turned.prod(0)

    def propagate(self, next_part: Parts) -> None:
        """Guess all starts: the Jacobians of a chunk, multiplied, take its start to its end.

        That needs no gaps, but all N columns, and loses the vectors that grow less than the leading
        one by more than the digits there are. A start that is lost stays as it is.

        Args:
            next_part: See `HalvingProgress.next_part`.
        """
        rows = self._pairs()[1]
        moves = self._products(rows, next_part(self.table.steps))
        for number in range(self.table.count - 1):
            own = self.table.number[rows] == number
            at, to = self._up(own.nonzero()[:, 0]), self._up(rows[own])
            start = self._starts[to].unflatten(1, (moves.shape[1], -1))
            end = (moves[at] @ start).flatten(1, 2)
            end = dense(factorize_blocks(self._like.system.num_blocks, end, orthonormalize).basis)
            known = end.isfinite().all(1, keepdim=True).all(2, keepdim=True)
            self._starts[to + 1] = torch.where(known, end, self._starts[to + 1])

    def _products(self, rows: Tensor, on_step: OnStep) -> Tensor:
        """Return the Jacobians of whole chunks multiplied, up to a factor.

        ``[r, M, N / M, N / M]``, for each of the M blocks of the tangent space.
        """
        drive, states = self._laid_out(rows)
        system, blocks = self._like.system, self._like.system.num_blocks
        size = system.tangent_size // blocks
        unit = torch.eye(size, dtype=self._starts.dtype, device=drive.device)
        product = unit.repeat(blocks, 1).expand(len(rows), -1, -1)
        for t, step in enumerate(drive):
            product = system.step(step, tuple(tensor[t] for tensor in states))[1](product)
            if t % SCALED_EVERY == 0:
                parts = product.unflatten(1, (blocks, size))
                largest = parts.abs().amax((2, 3), keepdim=True)
                product = (parts / largest).flatten(1, 2)
            on_step(t + 1)
        return product.unflatten(1, (blocks, size))

    def _laid_out(self, rows: Tensor) -> tuple[Tensor, State]:
        """Return drive and states of some chunks side by side, tensors ``[l, r, ...]``.

        Of as many steps as the longest one has; those beyond the end of a shorter one are not to be
        taken.
        """
        sequence, number = self._up(self.table.sequence[rows]), self._up(self.table.number[rows])
        span = torch.arange(int(self.table.ends[rows].max()), device=sequence.device)
        times = (number * self.table.steps + span.unsqueeze(1)).clamp(max=len(self._drive) - 1)
        states = tuple(tensor[times, sequence] for tensor in self._states)
        return self._drive[times, sequence], states

    def _pairs(self) -> tuple[Tensor, Tensor]:
        """Return the chunks that are not the first ones, and those before them, ``[r]`` each."""
        rows = self.table.number.nonzero()[:, 0]
        return rows, rows - 1

    def _up(self, index: Tensor) -> Tensor:
        """Bring indices to where the bases are."""
        return upload(index, self._starts.device)


def run_rounds(chunks: Chunks, tolerance: float, next_part: Parts) -> TimeChunks:
    """Run chunks until each starts from what the one before it ends with, to within the tolerance.

    Where `ROUNDS` are not enough, the first chunk of each sequence that is off is run alone until
    none is: from there on that is the plain run, cut in pieces, of at most as many steps.

    Args:
        chunks: At their first starts.
        tolerance: Angle that may be left, radians.
        next_part: See `HalvingProgress.next_part`.

    Returns:
        How it went.
    """
    rows, rounds, finished = torch.arange(len(chunks.table.ends), device="cpu"), 0, 0
    while len(rows):
        inspector = chunks.run(rows, next_part)
        rows = chunks.off(tolerance)
        rounds += 1
        if rounds > 1 or not len(rows):
            chunks.inspector = inspector
        if rounds >= ROUNDS:
            rows = chunks.table.first_of_each(rows)
            finished = len(rows) if rounds == ROUNDS else finished
        chunks.restart(rows)
    return TimeChunks(
        count=chunks.table.count,
        steps=chunks.table.steps,
        rounds=min(rounds, ROUNDS),
        angle=chunks.joints()[0].max().item(),
        num_finished_plainly=finished,
    )
