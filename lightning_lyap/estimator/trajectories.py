"""Trajectories with their bases of tangent vectors, carried from factorization to factorization."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_lyap._device import OnStep, upload
from lightning_lyap.certificate.along_the_run import Inspector
from lightning_lyap.dynamics.base import DynamicalSystem, State
from lightning_lyap.estimator.result import TimeChunks
from lightning_lyap.estimator.schedule import Interval, schedule_for
from lightning_lyap.estimator.turning import CoupledTurning, Turning
from lightning_lyap.qr.error_bounds import Factorization
from lightning_lyap.qr.householder import reflector_qr
from lightning_lyap.qr.orthonormalize import (
    Cascade,
    cascade_is_faster_on,
    factorize_blocks,
    orthonormalize,
)
from lightning_lyap.qr.reflectors import Basis, better_as_reflectors, dense
from lightning_lyap.statistics.batch_means import StretchBins
from lightning_lyap.statistics.overlap import Overlap

# Blocks between two questions whether the factorizations of a `Cascade` hold: each waits for the
# device, and an answer no costs all blocks since the last one.
BLOCKS_PER_QUESTION = 128


class Start(NamedTuple):
    """What sequences start from, and what drives them.

    Attributes:
        drive: ``[T, B, ...]``.
        state: Tensors ``[B, ...]``.
        basis: ``[B, N, k]``.
        ends: Length of each sequence, ``[B]``, on the CPU.
    """

    drive: Tensor
    state: State
    basis: Tensor
    ends: Tensor

    def of(self, rows: slice) -> "Start":
        """Return the same of some of the sequences."""
        state = tuple(tensor[rows] for tensor in self.state)
        return Start(self.drive[:, rows], state, self.basis[rows], self.ends[rows])


class Trajectories:
    """Trajectories, their bases and the stretches measured so far.

    Args:
        system: The dynamics.
        start: Where they start; C columns of stretches follow, C = k times the number of blocks.
        warmup_steps: Steps that are not counted.
        every: Steps between factorizations, or ``"auto"``.
        keep: Whether to keep the log-stretches of every block.

    Attributes:
        shape: Shape of the basis, ``[B, N, k]``.
        num_steps: Steps of the longest sequence, warm-up included.
        warmup_steps: As given.
        schedule: When to factorize.
        state: State after the last step.
        sums: Log-stretches added up, ``[B, C]``, float64, nats.
        rounding: Bounds of their errors added up, ``[B, C]``, float64, nats.
        resolved: Whether all stretches stood out from their rounding noise, ``[B, C]``, bool.
        bins: The log-stretches over time, for their error.
        stretches: Log-stretches of each block, ``[B, C]`` each, if kept.
        block_ends: Steps counted after each block.
        labels: Which of the vectors at the start each one is now, ``[B, C]``.
        redone: Factorizations that were taken back.
        inspector: What checks some of the blocks.
        chunks: How the chunks of time came out; None without.
        overlap: What the sequences have in common with others; None for nothing.
    """

    chunks: TimeChunks | None = None
    overlap: Overlap | None = None

    def __init__(
        self, system: DynamicalSystem, start: Start, warmup_steps: int, every: Interval, keep: bool
    ) -> None:
        self._drive, self.state, basis, self._ends = start
        self._basis: Basis = basis
        self.system = system
        self.shape = basis.shape
        self.num_steps, self._shortest = int(self._ends.max()), int(self._ends.min())
        self.warmup_steps = warmup_steps
        self._keep = keep
        self._done = 0
        shape = (basis.shape[0], basis.shape[2] * system.num_blocks)
        self.schedule = schedule_for(every, shape[1], system.tangent_size, system.dtype)
        self.sums = torch.zeros(shape, dtype=torch.float64, device=basis.device)
        self.rounding = torch.zeros_like(self.sums)
        self.resolved = torch.ones(shape, dtype=torch.bool, device=basis.device)
        self.bins = StretchBins()
        self.stretches: list[Tensor] = []
        self.block_ends: list[int] = []
        self.redone = 0
        self.inspector = Inspector(system)
        order = torch.arange(shape[1], device="cpu")
        self.labels, self._in_order = upload(order, basis.device).expand(shape), True
        self._turning = Turning(shape, system.num_blocks, basis.device)
        coupled = system.couples_layers and shape[1] > 1
        self._coupled = CoupledTurning(shape, basis.device) if coupled else None
        self._cascade = Cascade() if cascade_is_faster_on(basis.device) else None
        compact = better_as_reflectors(basis, system.num_blocks)
        self._compact = compact and system.takes_reflectors
        # Rows of the sequences that were running last, and their number.
        self._rows, self._num_rows = upload(torch.arange(0, device="cpu"), basis.device), 0

    @property
    def basis(self) -> Tensor:
        """Basis after the last step, ``[B, N, k]``."""
        return dense(self._basis)

    @property
    def turned(self) -> Tensor:
        """Bounds of what turning has done to the sums, ``[B, C]``, float64, nats."""
        turned = self._turning.bounds(self.basis)
        if self._coupled is None:
            return turned
        return torch.maximum(turned, turned.scatter(1, self.labels, self._coupled.bounds()))

    @property
    def steps(self) -> Tensor:
        """Steps counted of each sequence so far, ``[B]``, int64."""
        steps = self._ends.clamp(max=self._done) - self.warmup_steps
        return steps.clamp(min=0).to(self.sums.device)

    def stops(self, first: int) -> list[int]:
        """Return steps after ``first`` counted ones, twice as many and so on, before the end."""
        stops, counted = [], first
        while self.warmup_steps + counted < self.num_steps:
            stops.append(self.warmup_steps + counted)
            counted *= 2
        return stops

    def go(self, until: int, on_step: OnStep | None) -> None:
        """Go on, block by block.

        With a schedule that doesn't read the factorizations nothing waits for the device but, on
        CUDA, the question after every `BLOCKS_PER_QUESTION` blocks, and at the end, whether they
        hold.

        Args:
            until: The step to stop at, warm-up included.
            on_step: Called with the number of steps done after every step.
        """
        on_step = None if on_step is None else _each_step_once(on_step, self._done)
        while self._done < until:
            before = None if self._cascade is None or self.schedule.reads_results else self._copy()
            for _ in range(BLOCKS_PER_QUESTION):
                if self._done < until:
                    self._go_block(until, on_step)
            if before is not None and self._cascade is not None and not self._cascade.holds():
                vars(self).update(before)

    def _copy(self) -> dict[str, Any]:
        """Return all attributes as they are now; what changes in place is copied."""
        changing = ["stretches", "block_ends", "bins", "inspector", "_turning"]
        changing += [] if self._coupled is None else ["_coupled"]
        return vars(self) | {name: getattr(self, name).copy() for name in changing}

    def _go_block(self, until: int, on_step: OnStep | None) -> None:
        """Go on by a block, or not at all if it turns out to be too long."""
        boundary = self.warmup_steps if self._done < self.warmup_steps else until
        stop = min(self._done + self.schedule.propose(), boundary)
        start = self.state, self._basis
        for t in range(self._done, stop):
            self._advance(self._drive[t], self._running(t))
            if on_step is not None:
                on_step(t + 1)
        result = self._factorize(self._running(self._done))
        counted = stop > self.warmup_steps
        if result is not None and self.schedule.accepts(stop - self._done, result, counted):
            self._close_block(start, stop, result)
            return
        self.state, self._basis = start
        self.redone += result is not None  # what did not hold was no fault of the interval

    def _factorize(self, moved: Tensor | None) -> Factorization | None:
        """Factorize the bases of the sequences that moved (None: all) at the end of a block.

        None if the schedule reads the result and it does not hold.
        """
        basis = self.basis if moved is None else self.basis[moved]
        if self._compact and moved is None:
            return factorize_blocks(self.system.num_blocks, basis, reflector_qr)
        if self._cascade is None:
            return factorize_blocks(self.system.num_blocks, basis, orthonormalize)
        result = factorize_blocks(self.system.num_blocks, basis, self._cascade)
        return result if not self.schedule.reads_results or self._cascade.holds() else None

    def _running(self, t: int) -> Tensor | None:
        """Return the indices of the sequences that have a step t, ``[b]``; None means all."""
        if t < self._shortest:
            return None
        running = self._ends > t
        count = int(running.sum())
        if count == len(running):
            return None
        # Sequences only ever end: an equal count means the same sequences.
        if count != self._num_rows:
            self._rows = upload(running.nonzero()[:, 0], self.sums.device)
            self._num_rows = count
        return self._rows

    def _advance(self, drive: Tensor, running: Tensor | None) -> None:
        """Advance the running sequences (None: all) by one step; ``drive`` is ``[B, ...]``."""
        if running is None:
            self.state, self._basis = self.system.step_with_basis(drive, self.state, self._basis)
            return
        basis, part = self.basis, tuple(tensor[running] for tensor in self.state)
        part, moved = self.system.step_with_basis(drive[running], part, basis[running])
        self.state = _replaced(self.state, running, part)
        self._basis = basis.index_copy(0, running, moved)

    def _advance_state(self, drive: Tensor, running: Tensor | None) -> None:
        """Advance the states of the running sequences alone; see `_advance`."""
        if running is None:
            self.state = self.system.step(drive, self.state)[0]
            return
        part = tuple(tensor[running] for tensor in self.state)
        self.state = _replaced(self.state, running, self.system.step(drive[running], part)[0])

    def _close_block(self, start: tuple[State, Basis], stop: int, result: Factorization) -> None:
        """Take the factorization of those that moved since the start, and count their stretches."""
        moved = self._running(self._done)
        whole = moved is None and self._running(stop - 1) is None
        counted = stop > self.warmup_steps
        if result.columns is not None:
            self._follow(result.columns, moved)
        steps, before = self._drive[self._done : stop], self.sums
        self._done = stop
        self._basis = (
            result.basis if moved is None else self.basis.index_copy(0, moved, dense(result.basis))
        )
        if self._coupled is not None:
            self._coupled.see(result, moved, counted)
        self._count(result, moved, counted)
        if whole:
            # The stretches as they were counted: the sum rule then checks the counting, too.
            seen = result._replace(log_stretch=self.sums - before) if counted else result
            self.inspector.see(start, steps, seen, last=self._is_last(stop))

    def _is_last(self, stop: int) -> bool:
        """Return whether a run ends with a step, so that its last block is checked."""
        return stop == self.num_steps

    def _follow(self, columns: Tensor, moved: Tensor | None) -> None:
        """Keep track of which vector is which, when those of the moved sequences are reordered."""
        if moved is None:
            self.labels = self.labels.gather(1, columns)
        else:
            self.labels = self.labels.index_copy(0, moved, self.labels[moved].gather(1, columns))
        self._in_order = False

    def _count(self, result: Factorization, moved: Tensor | None, counted: bool) -> None:
        """Add the stretches of a block, of the sequences that moved (None: all)."""

        def everywhere(part: Tensor, rest: float) -> Tensor:
            if moved is not None:
                part = part.new_full(self.sums.shape, rest).index_copy(0, moved, part)
            return part if self._in_order else part.scatter(1, self.labels, part)

        log_stretch, error = (
            everywhere(part, 0) for part in (result.log_stretch, result.rounding_error)
        )
        if not counted:
            self._turning.see(log_stretch, error, counted)
            return
        self.rounding = self.rounding + error
        self.resolved = self.resolved & everywhere(result.resolved, True)
        self._add(log_stretch, error)

    def _add(self, log_stretch: Tensor, error: Tensor) -> None:
        """Add ``[B, C]`` of the block that ends with the last step; zero for ended sequences."""
        self._turning.see(log_stretch, error, True)
        self.sums = self.sums + log_stretch
        self.block_ends.append(self._done - self.warmup_steps)
        self.bins.add(log_stretch, self.block_ends[-1])
        if self._keep:
            self.stretches.append(log_stretch)


def _replaced(state: State, rows: Tensor, part: State) -> State:
    """Return a state, tensors ``[B, ...]``, with other rows ``[b]``, tensors ``[b, ...]``."""
    return tuple(old.index_copy(0, rows, new) for old, new in zip(state, part, strict=True))


def _each_step_once(on_step: OnStep, done: int) -> OnStep:
    """Return a function that reports each step after ``done`` once, however often it is taken."""

    def once(now: int) -> None:
        nonlocal done
        if now > done:
            done = now
            on_step(now)

    return once
