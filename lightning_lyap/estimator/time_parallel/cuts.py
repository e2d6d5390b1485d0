"""Where sequences are cut in time, and what carries the bases of the pieces."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_lyap.dynamics.base import State
from lightning_lyap.estimator.trajectories import Start, Trajectories
from lightning_lyap.qr.error_bounds import Factorization, Orthonormalization
from lightning_lyap.qr.reflectors import Basis, dense


@dataclass(frozen=True, eq=False)
class ChunkTable:
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
    def of(lengths: Tensor, steps: int) -> "ChunkTable":
        """Cut sequences.

        Args:
            lengths: Steps counted of each, ``[B]``, on the CPU.
            steps: Of a chunk.

        Returns:
            The table.

        Example:
            >>> ChunkTable.of(torch.tensor([5, 2]), 2).ends
            tensor([2, 2, 1, 2])
        """
        counts = (lengths + steps - 1).div(steps, rounding_mode="floor")
        sequence = torch.repeat_interleave(torch.arange(len(lengths), device="cpu"), counts)
        first = counts.cumsum(0) - counts
        number = torch.arange(len(sequence), device="cpu") - first[sequence]
        ends = (lengths[sequence] - number * steps).clamp(max=steps)
        return ChunkTable(sequence, number, ends, steps)

    @property
    def count(self) -> int:
        """Chunks of the longest sequence."""
        return int(self.number.max()) + 1

    def first_of_each(self, rows: Tensor) -> Tensor:
        """Return the first of the given chunks, ascending indices ``[r]``, of each sequence."""
        own = self.sequence[rows]
        return rows[own.diff(prepend=own.new_tensor([-1])) != 0]

    @property
    def last_of_each(self) -> Tensor:
        """The last chunk of each sequence, ``[B]``."""
        return (self.sequence.diff(append=self.sequence.new_tensor([-1])) != 0).nonzero()[:, 0]


class BasesAlongStates(Trajectories):
    """Trajectories along states that are known: only bases are carried.

    States would come out the same but for rounding, which a chaotic system blows up within a chunk:
    its end would then not be where the next one starts.

    Args:
        states: Before each step, tensors ``[l, r, ...]``.
        start: Drive, first states, bases and steps of the chunks.
        every: Steps between factorizations.
        like: Trajectories of the same system.
        last: Whether the last chunk of a sequence is among them.
    """

    def __init__(
        self, states: State, start: Start, every: int, like: Trajectories, last: bool
    ) -> None:
        super().__init__(like.system, start, 0, every, keep=True)
        self._states, self._step, self._last = states, 0, last
        # What was learned about these bases holds for the next chunks, too.
        self._cascade = like._cascade

    def _advance(self, drive: Tensor, running: Tensor | None) -> None:
        """Advance the bases by one step; see `Trajectories`."""
        self.state = tuple(tensor[self._step] for tensor in self._states)
        self._step += 1
        super()._advance(drive, running)

    def _is_last(self, stop: int) -> bool:
        """See `Trajectories`; chunks go on, but for the last ones."""
        return self._last and super()._is_last(stop)

    def _close_block(self, start: tuple[State, Basis], stop: int, result: Factorization) -> None:
        """Close a block, and have chunks checked that go on where others end within it.

        A short last chunk stands beside all others, and would keep them from being checked.
        """
        first, before = self._done, self.sums
        moved, whole = self._running(first), self._running(stop - 1)
        super()._close_block(start, stop, result)
        if moved is None and whole is not None:
            state, basis = tuple(tensor[whole] for tensor in start[0]), dense(start[1])[whole]
            log_stretch = self.sums - before
            parts = (dense(result.basis), log_stretch, result.resolved, result.rounding_error)
            seen = Orthonormalization(*(part[whole] for part in parts))
            self.inspector.see((state, basis), self._drive[first:stop, whole], seen)
