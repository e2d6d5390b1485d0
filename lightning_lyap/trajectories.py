"""Trajectories with their bases of tangent vectors, carried from factorization to factorization."""

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_lyap.certificate import Inspector
from lightning_lyap.contrasts import StretchBins
from lightning_lyap.dynamics import Dynamics
from lightning_lyap.dynamics.base import State, num_blocks
from lightning_lyap.interval import Schedule
from lightning_lyap.orthonormal import Orthonormalization, orthonormalize

Progress = Callable[[int, int], None]


class Trajectories:
    """Trajectories, their bases and the stretches measured so far.

    Args:
        system: The dynamics.
        state: Tensors ``[B, ...]``.
        basis: ``[B, N, k]``; C columns of stretches follow, C = k times the number of blocks.
        ends: Length of each sequence, ``[B]``, on the CPU.
        warmup_steps: Steps that are not counted.
        schedule: When to factorize.
        keep: Whether to keep the log-stretches of every block.

    Attributes:
        state: State after the last step.
        basis: Basis after the last step.
        sums: Log-stretches added up, ``[B, C]``, float64, nats.
        rounding: Bounds of their errors added up, ``[B, C]``, float64, nats.
        resolved: Whether all stretches stood out from their rounding noise, ``[B, C]``, bool.
        bins: The log-stretches over time, for their error.
        stretches: Log-stretches of each block, ``[B, C]`` each, if kept.
        block_ends: Steps counted after each block.
        redone: Factorizations that were taken back.
        inspector: What checks some of the blocks.
    """

    def __init__(
        self,
        system: Dynamics,
        state: State,
        basis: Tensor,
        ends: Tensor,
        warmup_steps: int,
        schedule: Schedule,
        keep: bool,
    ) -> None:
        self.system = system
        self._ends = ends
        self._warmup_steps = warmup_steps
        self._schedule = schedule
        self._keep = keep
        self._done = 0
        self.state = state
        self.basis = basis
        shape = (basis.shape[0], basis.shape[2] * num_blocks(system))
        self.sums = torch.zeros(shape, dtype=torch.float64, device=basis.device)
        self.rounding = torch.zeros_like(self.sums)
        self.resolved = torch.ones(shape, dtype=torch.bool, device=basis.device)
        self.bins = StretchBins()
        self.stretches: list[Tensor] = []
        self.block_ends: list[int] = []
        self.redone = 0
        self.inspector = Inspector(system)

    @property
    def num_steps(self) -> int:
        """Steps of the longest sequence, warm-up included."""
        return int(self._ends.max())

    def stops(self, first: int) -> list[int]:
        """Return where to look at a run on its way.

        Args:
            first: Steps counted before the first look.

        Returns:
            Steps, warm-up included, after that many counted ones, twice as many and so on, all
            before the end.
        """
        stops, counted = [], first
        while self._warmup_steps + counted < self.num_steps:
            stops.append(self._warmup_steps + counted)
            counted *= 2
        return stops

    def go(self, drive: Tensor, until: int, report: Callable[[int], None] | None) -> None:
        """Go on, block by block.

        Args:
            drive: ``[T, B, ...]``.
            until: The step to stop at, warm-up included.
            report: Called with the number of steps done after every step.
        """
        reported = self._done
        while self._done < until:
            boundary = self._warmup_steps if self._done < self._warmup_steps else until
            stop = min(self._done + self._schedule.propose(), boundary)
            start = self.state, self.basis
            for t in range(self._done, stop):
                self._advance(drive[t], self._running(t))
                if report is not None and t >= reported:
                    reported = t + 1
                    report(reported)
            if not self._close_block(start, drive, stop):
                self.state, self.basis = start
                self.redone += 1

    @property
    def steps(self) -> Tensor:
        """Steps counted of each sequence so far, ``[B]``, int64."""
        steps = self._ends.clamp(max=self._done) - self._warmup_steps
        return steps.clamp(min=0).to(self.sums.device)

    @property
    def tolerance(self) -> float | None:
        """What the schedule promises; see `Schedule.tolerance`."""
        return self._schedule.tolerance

    def _running(self, t: int) -> Tensor | None:
        """Return the indices of the sequences that have a step t, ``[b]``; None means all."""
        running = self._ends > t
        return None if running.all() else running.nonzero()[:, 0].to(self.basis.device)

    def _advance(self, drive: Tensor, running: Tensor | None) -> None:
        """Advance the running sequences by one step.

        Args:
            drive: ``[B, ...]``.
            running: Indices of the running sequences, or None for all.
        """
        if running is None:
            self.state, tangent = self.system.step(drive, self.state)
            self.basis = tangent(self.basis)
            return
        part = tuple(tensor[running] for tensor in self.state)
        part, tangent = self.system.step(drive[running], part)
        moved = tangent(self.basis[running])
        self.state = tuple(
            whole.index_copy(0, running, new) for whole, new in zip(self.state, part, strict=True)
        )
        self.basis = self.basis.index_copy(0, running, moved)

    def _close_block(self, start: tuple[State, Tensor], drive: Tensor, stop: int) -> bool:
        """Orthonormalize the bases that moved in this block and count their stretches.

        Args:
            start: State and basis at the start of the block.
            drive: ``[T, B, ...]``.
            stop: Steps done with this block, warm-up included.

        Returns:
            Whether the block holds; if not it is as if it had not been.
        """
        moved = self._running(self._done)
        result = factorize(self.system, self.basis if moved is None else self.basis[moved])
        counted = stop > self._warmup_steps
        if not self._schedule.accepts(stop - self._done, result, counted):
            return False
        whole = moved is None and self._running(stop - 1) is None
        steps, before = drive[self._done : stop], self.sums
        self._done = stop
        self.basis = (
            result.basis if moved is None else self.basis.index_copy(0, moved, result.basis)
        )
        if counted:
            self._count(result, moved)
        if whole:
            seen = result._replace(log_stretch=self.sums - before) if counted else result
            self.inspector.look(start, steps, seen, last=stop == int(self._ends.max()))
        return True

    def _count(self, result: Orthonormalization, moved: Tensor | None) -> None:
        """Add the stretches of a block.

        Args:
            result: The factorization of the sequences that moved.
            moved: Their indices, or None for all.
        """

        def everywhere(part: Tensor, rest: float) -> Tensor:
            if moved is None:
                return part
            return part.new_full(self.sums.shape, rest).index_copy(0, moved, part)

        log_stretch = everywhere(result.log_stretch, 0)
        self.sums = self.sums + log_stretch
        self.rounding = self.rounding + everywhere(result.rounding_error, 0)
        self.resolved = self.resolved & everywhere(result.resolved, True)
        self.block_ends.append(self._done - self._warmup_steps)
        self.bins.add(log_stretch, self.block_ends[-1])
        if self._keep:
            self.stretches.append(log_stretch)


def factorize(system: Dynamics, basis: Tensor) -> Orthonormalization:
    """Orthonormalize the basis of each block of the tangent space by itself.

    Args:
        system: The dynamics.
        basis: ``[B, N, k]``.

    Returns:
        Q, ``[B, N, k]``; the other fields are ``[B, C]``, block after block.
    """
    count = num_blocks(system)
    if count == 1:
        return orthonormalize(basis)
    batch_size, size, columns = basis.shape
    result = orthonormalize(basis.reshape(batch_size * count, size // count, columns))
    return Orthonormalization(
        result.basis.reshape(batch_size, size, columns),
        *(part.reshape(batch_size, count * columns) for part in result[1:]),
    )
