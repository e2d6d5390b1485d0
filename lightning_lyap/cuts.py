"""Where to cut sequences in time, and what carries the bases of the pieces."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_lyap.dynamics import Dynamics
from lightning_lyap.dynamics.base import State, num_blocks
from lightning_lyap.interval import TOLERANCES, FixedInterval
from lightning_lyap.memory import chunks_that_fit
from lightning_lyap.reflectors import Basis, dense
from lightning_lyap.rounding import Factorization, Orthonormalization
from lightning_lyap.trajectories import Trajectories

# What angles between chunks may do to exponents, as a part of what `AutoInterval` promises: 1e-4
# nats per step in float32, 1e-7 in float64. Bases an angle a apart stretch by about ``c a`` nats
# more or less until they have forgotten it: over chunks of l steps that moves an exponent by
# ``c a / l``. If they never forget, the angles of C chunks add up, to ``c a C / (2 l)``. So an
# angle of that size may pass, or ``2 l / C`` of it where that is less. c is about one over the sine
# of the angles between directions of different exponents, 1 for normal Jacobians: the promise is
# kept up to 10. Angles that rounding alone makes between two bases pass in any case: a plain run
# has them at every factorization.
PART = 0.1
# Up to which size of ``B N^3`` products of Jacobians cost less than they save: a core of a CPU
# takes as long for them as for a plain run with K = 1 from 8e6 on (GRU and LSTM, float32). A GPU
# computes more in the time of a step; how much more was not measured.
MOST_WORK = {"cpu": 4e6, "cuda": 1e8}
# How often states, drive and log-stretches of all steps are kept at most, copies for the rounds and
# what waits to be checked included.
STATES, DRIVES, STRETCHES = 6, 4, 5


def chunk_steps(num_steps: int, count: int, every: int) -> int:
    """Choose the length of chunks: equal, and made up of whole blocks.

    Args:
        num_steps: Steps counted of the longest sequence.
        count: Chunks asked for.
        every: Steps between factorizations.

    Returns:
        Steps: the fewest with which there are no more chunks than that.

    Example:
        >>> chunk_steps(100, 3, 1), chunk_steps(100, 3, 10), chunk_steps(100, 1000, 10)
        (34, 40, 10)
    """
    return -(-num_steps // (count * every)) * every


@dataclass(frozen=True)
class ChunkPlan:
    """How to run in chunks.

    Attributes:
        every: Steps between factorizations.
        steps: Of a chunk.
        products: Whether products of Jacobians give the starts.
        angle: That is let pass between the end of a chunk and the start of the next, radians.
    """

    every: int
    steps: int
    products: bool
    angle: float


def plan_chunks(
    system: Dynamics,
    start: tuple[State, Tensor, Tensor],
    num_steps: int,
    every: int,
    count: int,
) -> tuple[int | None, ChunkPlan]:
    """Choose how to run in chunks, and how many sequences at the same time, by cost and memory.

    Args:
        system: The dynamics.
        start: States, tensors ``[B, ...]``, bases, ``[B, N, k]``, and drive, ``[T, B, ...]``.
        num_steps: Steps counted of the longest sequence.
        every: Steps between factorizations.
        count: Chunks asked for.

    Returns:
        Sequences, None for any number; and the plan.
    """
    state, basis, drive = start
    batch_size, size, vectors = basis.shape
    width = size // num_blocks(system)
    products = batch_size * size * width**2 <= MOST_WORK.get(basis.device.type, 0)
    moved, driving = sum(tensor[0].numel() for tensor in state), drive[:1, :1].numel()
    stretches = -(-num_steps // every) * vectors * num_blocks(system) * torch.float64.itemsize
    kept = num_steps * (STATES * moved + DRIVES * driving) * system.dtype.itemsize
    columns = width if products else vectors
    most, count = chunks_that_fit(system, columns, kept + STRETCHES * stretches, count)
    steps = chunk_steps(num_steps, count, every)
    share = min(1.0, 2 * steps**2 / num_steps)
    rounded = torch.finfo(system.dtype).eps * (width * vectors) ** 0.5
    angle = max(PART * TOLERANCES[system.dtype] * share, rounded)
    return most, ChunkPlan(every, steps, products, angle)


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
        last: Whether the last chunk of a sequence is among them.
    """

    def __init__(
        self,
        states: State,
        basis: Tensor,
        ends: Tensor,
        every: int,
        like: Trajectories,
        last: bool,
    ) -> None:
        start = tuple(tensor[0] for tensor in states)
        super().__init__(like.system, start, basis, ends, 0, FixedInterval(every), keep=True)
        self._states, self._step, self._last = states, 0, last
        # What was learned about these bases holds for the next chunks, too.
        self._cascade = like._cascade

    def _advance(self, drive: Tensor, running: Tensor | None) -> None:
        """Advance the bases by one step; see `Trajectories`."""
        self.state = tuple(tensor[self._step] for tensor in self._states)
        self._step += 1
        super()._advance(drive, running)

    def _ends_with(self, stop: int) -> bool:
        """See `Trajectories`; chunks go on, but for the last ones."""
        return self._last and super()._ends_with(stop)

    def _close_block(
        self, start: tuple[State, Basis], drive: Tensor, stop: int, result: Factorization
    ) -> None:
        """Close a block, and have chunks checked that go on where others end within it.

        A short last chunk stands beside all others, and would keep them from being checked.

        Args:
            start: State and basis at the start of the block.
            drive: ``[l, r, ...]``.
            stop: Steps done with this block.
            result: The factorization of the chunks that moved.
        """
        first, before = self._done, self.sums
        moved, whole = self._running(first), self._running(stop - 1)
        super()._close_block(start, drive, stop, result)
        if moved is None and whole is not None:
            state, basis = (tuple(tensor[whole] for tensor in start[0]), dense(start[1])[whole])
            parts = (
                dense(result.basis),
                self.sums - before,
                result.resolved,
                result.rounding_error,
            )
            seen = Orthonormalization(*(part[whole] for part in parts))
            self.inspector.look((state, basis), drive[first:stop, whole], seen)
