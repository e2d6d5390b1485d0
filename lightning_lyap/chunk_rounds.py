"""Chunks of sequences side by side, round after round, until each starts where the last one ends.

See `time_chunks` for what it is good for and why it is right.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_lyap.certificate import Inspector
from lightning_lyap.dynamics.base import State, num_blocks
from lightning_lyap.estimate import TimeChunks
from lightning_lyap.interval import TOLERANCES, FixedInterval
from lightning_lyap.trajectories import Trajectories
from lightning_lyap.upload import upload

Report = Callable[[int], None]

# Rounds in which all chunks that are off run at once: so many times the arithmetic of a plain run
# at most. The first finds bases, the second stretches; each further one is for gaps so small that
# bases need one more chunk to forget where they came from.
ROUNDS = 4
# Angles that are let pass, as a part of what `AutoInterval` promises for exponents: 1e-4 in float32
# and 1e-7 in float64. Bases an angle a apart differ by about ``c a`` nats in all their stretches to
# come, for they turn into each other; c is of the size of one over the sine of the angle between
# directions of different exponents, 1 for normal Jacobians. Over chunks of l steps exponents are
# off by ``c a / l``: for l = 10 a hundredth of the promise with c = 1, all of it with c = 100.
PART = 0.1


@dataclass(frozen=True, eq=False)
class Cuts:
    """Where sequences are cut: a row for each chunk, those of a sequence one after the other.

    Attributes:
        sequence: Index of the chunk's sequence, ``[R]``, int64; all of it is on the CPU.
        number: The chunk's number among those of its sequence, ``[R]``.
        ends: Its steps, ``[R]``; fewer in the last one of a sequence.
        steps: Of a whole chunk.
    """

    sequence: Tensor
    number: Tensor
    ends: Tensor
    steps: int

    @staticmethod
    def of(lengths: Tensor, steps: int) -> "Cuts":
        """Cut sequences.

        Args:
            lengths: Steps counted of each, ``[B]``, on the CPU.
            steps: Of a chunk.

        Returns:
            The cuts.

        Example:
            >>> Cuts.of(torch.tensor([5, 2]), 2).ends
            tensor([2, 2, 1, 2])
        """
        counts = (lengths + steps - 1).div(steps, rounding_mode="floor")
        sequence = torch.repeat_interleave(torch.arange(len(lengths), device="cpu"), counts)
        first = counts.cumsum(0) - counts
        number = torch.arange(len(sequence), device="cpu") - first[sequence]
        ends = (lengths[sequence] - number * steps).clamp(max=steps)
        return Cuts(sequence, number, ends, steps)

    @property
    def count(self) -> int:
        """Chunks of the longest sequence."""
        return int(self.number.max()) + 1

    def first_of_each(self, rows: Tensor) -> Tensor:
        """Take the first of the given chunks of each sequence.

        Args:
            rows: Ascending indices, ``[r]``.

        Returns:
            Some of them.
        """
        own = self.sequence[rows]
        return rows[own.diff(prepend=own.new_tensor([-1])) != 0]

    @property
    def last_of_each(self) -> Tensor:
        """The last chunk of each sequence, ``[B]``."""
        return (self.sequence.diff(append=self.sequence.new_tensor([-1])) != 0).nonzero()[:, 0]


class Along(Trajectories):
    """Trajectories along states that are known: only bases are carried.

    States would come out the same but for rounding, which a chaotic system blows up within a chunk:
    its end would then not be where the next one starts.

    Args:
        states: Before each step, tensors ``[l, r, ...]``.
        basis: ``[r, N, k]``.
        ends: Steps of each chunk, ``[r]``, on the CPU.
        every: Steps between factorizations.
        like: Trajectories of the same system.
    """

    def __init__(
        self, states: State, basis: Tensor, ends: Tensor, every: int, like: Trajectories
    ) -> None:
        start = tuple(tensor[0] for tensor in states)
        super().__init__(like.system, start, basis, ends, 0, FixedInterval(every), keep=True)
        self._states, self._step = states, 0
        # What was learned about these bases holds for the next chunks, too.
        self._cascade = like._cascade

    def _advance(self, drive: Tensor, running: Tensor | None) -> None:
        """Advance the bases by one step; see `Trajectories`."""
        self.state = tuple(tensor[self._step] for tensor in self._states)
        self._step += 1
        super()._advance(drive, running)


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
        ends = self.cuts.ends[rows]
        sequence, number = self._up(self.cuts.sequence[rows]), self._up(self.cuts.number[rows])
        span = torch.arange(int(ends.max()), device=sequence.device).unsqueeze(1)
        # Steps beyond the end of a short chunk are there, but not taken.
        times = (number * self.cuts.steps + span).clamp(max=len(self._drive) - 1)
        states = tuple(tensor[times, sequence] for tensor in self._states)
        where = self._up(rows)
        run = Along(states, self._starts[where], ends, self._every, self._like)
        run.inspector = self.inspector.copy()
        run.go(self._drive[times, sequence], len(span), reports(len(span)))
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
            the chunk before have relative to it, ``[R, N, k]``; 0 and 1 for the first chunks. Bases
            that are lost (NaN) are as one.
        """
        rows, before = (self._up(one) for one in self._pairs())
        blocks = (num_blocks(self._like.system), -1)
        start, end = (
            part.nan_to_num(0.0, 0.0, 0.0).unflatten(1, blocks)
            for part in (self._starts[rows], self._ends[before])
        )
        overlap = (start * end).sum(2, keepdim=True)
        sines = (start - overlap * end).double().square().sum((2, 3)).amax(1).sqrt()
        angles = sines.new_zeros(len(self._starts))
        angles[rows] = sines.clamp(max=1).asin()
        signs = torch.ones_like(self._starts)
        signs[rows] = overlap.sign().expand_as(start).flatten(1, 2)
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

    def _pairs(self) -> tuple[Tensor, Tensor]:
        """Return the chunks that are not the first ones, and those before them, ``[r]`` each."""
        rows = self.cuts.number.nonzero()[:, 0]
        return rows, rows - 1

    def _up(self, index: Tensor) -> Tensor:
        """Bring indices to where the bases are."""
        return upload(index, self._starts.device)


def settle(chunks: Chunks, reports: Callable[[int], Report]) -> TimeChunks:
    """Run chunks until each starts from what the one before it ends with, to within the tolerance.

    Where `ROUNDS` are not enough, the first chunk of each sequence that is off is run alone until
    none is: from there on that is the plain run, cut in pieces, of at most as many steps.

    Args:
        chunks: At their first starts.
        reports: Takes a number of steps and returns what to call after each of them.

    Returns:
        How it went.
    """
    tolerance = PART * TOLERANCES[chunks.dtype]
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
