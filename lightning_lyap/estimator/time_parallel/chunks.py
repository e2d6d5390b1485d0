"""Chunks of sequences side by side, round after round, until each starts where the last one ends.

See `time_chunks` for what it is good for and why it is right.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lightning_lyap._device import upload
from lightning_lyap.certificate.along_the_run import Inspector
from lightning_lyap.dynamics.base import State
from lightning_lyap.estimator.result import TimeChunks
from lightning_lyap.estimator.time_parallel.cuts import Along, Cuts
from lightning_lyap.estimator.trajectories import Trajectories
from lightning_lyap.qr.orthonormalize import factorize_blocks, orthonormalize
from lightning_lyap.qr.reflectors import dense

Report = Callable[[int], None]
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
        cuts: Where they are cut.
        drive: ``[n, B, ...]``.
        states: Before each step, tensors ``[n, B, ...]``.
        every: Steps between factorizations.

    Attributes:
        cuts: Where they are cut.
        stretches: Log-stretches, ``[chunks, blocks, B, C]``, float64; zero where there is no block.
        rounding: Bounds of their errors added up, ``[chunks, B, C]``.
        resolved: Whether all of them stood out from rounding noise, ``[chunks, B, C]``, bool.
        inspector: That of the trajectories, which went on along chunks that count.
    """

    def __init__(
        self, like: Trajectories, cuts: Cuts, drive: Tensor, states: State, every: int
    ) -> None:
        self.cuts = cuts
        self.inspector = like.inspector
        self._like, self._drive, self._states, self._every = like, drive, states, every
        own = like.basis
        self._starts = own[upload(cuts.sequence, own.device)]
        self._ends = self._starts.clone()
        shape = (cuts.count, len(own), like.sums.shape[1])
        self.stretches = like.sums.new_zeros(shape[0], cuts.steps // every, *shape[1:])
        self.rounding = like.sums.new_zeros(shape)
        self.resolved = like.resolved.new_ones(shape)

    @property
    def dtype(self) -> torch.dtype:
        """Of the bases."""
        return self._starts.dtype

    def run(self, rows: Tensor, reports: Callable[[int], Report]) -> Inspector:
        """Carry the bases of some chunks from their starts to their ends.

        Args:
            rows: Which, ``[r]``.
            reports: Takes a number of steps and returns what to call after each of them.

        Returns:
            What went along with the bases to check some of the blocks.
        """
        ends, where = self.cuts.ends[rows], self._up(rows)
        sequence, number = self._up(self.cuts.sequence[rows]), self._up(self.cuts.number[rows])
        drive, states = self._laid_out(rows)
        last = bool(torch.isin(self.cuts.last_of_each, rows).any())
        run = Along(states, self._starts[where], ends, self._every, self._like, last)
        run.inspector = self.inspector.copy()
        run.go(drive, len(drive), reports(len(drive)))
        self._ends[where] = run.basis
        measured = torch.stack(run.stretches, dim=1)
        self.stretches[number, : measured.shape[1], sequence] = measured
        self.rounding[number, sequence] = run.rounding
        self.resolved[number, sequence] = run.resolved
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
        """Tell which chunks did not start from what the one before them ended with.

        Args:
            tolerance: Angle that is let pass, radians.

        Returns:
            Ascending indices, on the CPU.
        """
        return (self.joints()[0] > tolerance).cpu().nonzero()[:, 0]

    def restart(self, rows: Tensor) -> None:
        """Let chunks start from what the one before them ended with.

        Args:
            rows: Which; no first chunk of a sequence.
        """
        self._starts[self._up(rows)] = self._ends[self._up(rows - 1)]

    def last_basis(self) -> Tensor:
        """Return the bases that the sequences end with, ``[B, N, k]``, signs as in a plain run."""
        last, signs = self._up(self.cuts.last_of_each), self.joints()[1]
        basis = self._ends[last]
        turned = basis.new_ones(self.cuts.count, *basis.shape)
        turned[self._up(self.cuts.number), self._up(self.cuts.sequence)] = signs
        return basis * turned.prod(0)

    def propagate(self, reports: Callable[[int], Report]) -> None:
        """Guess all starts: the Jacobians of a chunk, multiplied, take its start to its end.

        That needs no gaps, but all N columns, and loses the vectors that grow less than the leading
        one by more than the digits there are. A start that is lost stays as it is.

        Args:
            reports: Takes a number of steps and returns what to call after each of them.
        """
        rows = self._pairs()[1]
        moves = self._products(rows, reports(self.cuts.steps))
        for number in range(self.cuts.count - 1):
            own = self.cuts.number[rows] == number
            at, to = self._up(own.nonzero()[:, 0]), self._up(rows[own])
            start = self._starts[to].unflatten(1, (moves.shape[1], -1))
            end = (moves[at] @ start).flatten(1, 2)
            end = dense(factorize_blocks(self._like.system.num_blocks, end, orthonormalize).basis)
            known = end.isfinite().all(1, keepdim=True).all(2, keepdim=True)
            self._starts[to + 1] = torch.where(known, end, self._starts[to + 1])

    def _products(self, rows: Tensor, report: Report) -> Tensor:
        """Multiply the Jacobians of whole chunks, up to a factor.

        Args:
            rows: Which, ``[r]``.
            report: Called with the number of steps done after every step.

        Returns:
            ``[r, M, N / M, N / M]``, for each of the M blocks of the tangent space.
        """
        drive, states = self._laid_out(rows)
        system, blocks = self._like.system, self._like.system.num_blocks
        size = system.tangent_size // blocks
        unit = torch.eye(size, dtype=self.dtype, device=drive.device)
        product = unit.repeat(blocks, 1).expand(len(rows), -1, -1)
        for t, step in enumerate(drive):
            product = system.step(step, tuple(tensor[t] for tensor in states))[1](product)
            if t % SCALED_EVERY == 0:
                parts = product.unflatten(1, (blocks, size))
                largest = parts.abs().amax((2, 3), keepdim=True)
                product = (parts / largest).flatten(1, 2)
            report(t + 1)
        return product.unflatten(1, (blocks, size))

    def _laid_out(self, rows: Tensor) -> tuple[Tensor, State]:
        """Lay drive and states of some chunks out side by side.

        Args:
            rows: Which, ``[r]``.

        Returns:
            Tensors ``[l, r, ...]``, with l the steps of the longest one; steps beyond the end of a
            shorter one are there, but not to be taken.
        """
        sequence, number = self._up(self.cuts.sequence[rows]), self._up(self.cuts.number[rows])
        span = torch.arange(int(self.cuts.ends[rows].max()), device=sequence.device)
        times = (number * self.cuts.steps + span.unsqueeze(1)).clamp(max=len(self._drive) - 1)
        states = tuple(tensor[times, sequence] for tensor in self._states)
        return self._drive[times, sequence], states

    def _pairs(self) -> tuple[Tensor, Tensor]:
        """Return the chunks that are not the first ones, and those before them, ``[r]`` each."""
        rows = self.cuts.number.nonzero()[:, 0]
        return rows, rows - 1

    def _up(self, index: Tensor) -> Tensor:
        """Bring indices to where the bases are."""
        return upload(index, self._starts.device)


def settle(chunks: Chunks, tolerance: float, reports: Callable[[int], Report]) -> TimeChunks:
    """Run chunks until each starts from what the one before it ends with, to within the tolerance.

    Where `ROUNDS` are not enough, the first chunk of each sequence that is off is run alone until
    none is: from there on that is the plain run, cut in pieces, of at most as many steps.

    Args:
        chunks: At their first starts.
        tolerance: Angle that is let pass, radians.
        reports: Takes a number of steps and returns what to call after each of them.

    Returns:
        How it went.
    """
    rows, rounds, finished = torch.arange(len(chunks.cuts.ends), device="cpu"), 0, 0
    while len(rows):
        inspector = chunks.run(rows, reports)
        rows = chunks.off(tolerance)
        rounds += 1
        if rounds > 1 or not len(rows):
            chunks.inspector = inspector
        if rounds >= ROUNDS:
            rows = chunks.cuts.first_of_each(rows)
            finished = len(rows) if rounds == ROUNDS else finished
        chunks.restart(rows)
    return TimeChunks(
        count=chunks.cuts.count,
        steps=chunks.cuts.steps,
        rounds=min(rounds, ROUNDS),
        angle=chunks.joints()[0].max().item(),
        num_finished_plainly=finished,
    )
