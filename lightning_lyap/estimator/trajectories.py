"""Trajectories with their bases of tangent vectors, carried from factorization to factorization."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_lyap._device import upload
from lightning_lyap.certificate.along_the_run import Inspector
from lightning_lyap.dynamics.base import DynamicalSystem, State
from lightning_lyap.estimator.schedule import Schedule
from lightning_lyap.qr.error_bounds import Factorization
from lightning_lyap.qr.householder import reflector_qr
from lightning_lyap.qr.orthonormalize import Cascade, factorize_blocks, orthonormalize, pays_on
from lightning_lyap.qr.reflectors import Basis, dense, pays_for
from lightning_lyap.statistics.batch_means import StretchBins

Progress = Callable[[int, int], None]
# Factorizations of a `Cascade` between two questions whether they hold, which wait for the device.
SPAN = 128


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
        system: DynamicalSystem,
        state: State,
        basis: Tensor,
        ends: Tensor,
        warmup_steps: int,
        schedule: Schedule,
        keep: bool,
    ) -> None:
        self.system = system
        self._ends = ends
        self._shortest = int(ends.min())
        self._warmup_steps = warmup_steps
        self._schedule = schedule
        self._keep = keep
        self._done = 0
        self.state = state
        self._basis: Basis = basis
        shape = (basis.shape[0], basis.shape[2] * system.num_blocks)
        self.sums = torch.zeros(shape, dtype=torch.float64, device=basis.device)
        self.rounding = torch.zeros_like(self.sums)
        self.resolved = torch.ones(shape, dtype=torch.bool, device=basis.device)
        self.bins = StretchBins()
        self.stretches: list[Tensor] = []
        self.block_ends: list[int] = []
        self.redone = 0
        self.inspector = Inspector(system)
        self._cascade = Cascade() if pays_on(basis.device) else None
        self._compact = system.takes_reflectors and pays_for(basis, system.num_blocks)
        # Rows of the sequences that were running last, and their number.
        self._rows, self._num_rows = upload(torch.arange(0, device="cpu"), basis.device), 0

    @property
    def basis(self) -> Tensor:
        """Basis after the last step, ``[B, N, k]``."""
        return dense(self._basis)

    @property
    def shape(self) -> torch.Size:
        """Shape of the basis, ``[B, N, k]``."""
        return self._basis.shape

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

        With a schedule that doesn't look at the factorizations nothing waits for the device but, on
        CUDA, a question after every `SPAN` blocks, and at the end, whether these hold.

        Args:
            drive: ``[T, B, ...]``.
            until: The step to stop at, warm-up included.
            report: Called with the number of steps done after every step.
        """
        report = None if report is None else _forward_only(report, self._done)
        while self._done < until:
            mark = None if self._cascade is None or self._schedule.looks else self._mark()
            for _ in range(SPAN):
                if self._done < until:
                    self._go_block(drive, until, report)
            if mark is not None and self._cascade is not None and not self._cascade.holds():
                vars(self).update(mark)

    def _go_block(self, drive: Tensor, until: int, report: Callable[[int], None] | None) -> None:
        """Go on by a block, or not at all if it turns out to be too long.

        Args:
            drive: ``[T, B, ...]``.
            until: The step to stop at, warm-up included.
            report: Called with the number of steps done after every step.
        """
        boundary = self._warmup_steps if self._done < self._warmup_steps else until
        stop = min(self._done + self._schedule.propose(), boundary)
        start = self.state, self._basis
        for t in range(self._done, stop):
            self._advance(drive[t], self._running(t))
            if report is not None:
                report(t + 1)
        moved = self._running(self._done)
        result = self._factorize(moved)
        counted = stop > self._warmup_steps
        if result is None:
            self.state, self._basis = start
        elif self._schedule.accepts(stop - self._done, result, counted):
            self._close_block(start, drive, stop, result)
        else:
            self.state, self._basis = start
            self.redone += 1

    def _factorize(self, moved: Tensor | None) -> Factorization | None:
        """Factorize the bases at the end of a block.

        Args:
            moved: Indices of the sequences that moved, or None for all.

        Returns:
            The factorization of those; None if the schedule looks at it and it does not hold.
        """
        basis = self.basis if moved is None else self.basis[moved]
        if self._compact and moved is None:
            return factorize_blocks(self.system.num_blocks, basis, reflector_qr)
        if self._cascade is None:
            return factorize_blocks(self.system.num_blocks, basis, orthonormalize)
        result = factorize_blocks(self.system.num_blocks, basis, self._cascade)
        return result if not self._schedule.looks or self._cascade.holds() else None

    def _mark(self) -> dict[str, Any]:
        """Remember everything as it is now."""
        own = {name: list(getattr(self, name)) for name in ("stretches", "block_ends")}
        copies = {name: getattr(self, name).copy() for name in ("bins", "inspector")}
        return vars(self) | own | copies

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
        if t < self._shortest:
            return None
        running = self._ends > t
        count = int(running.sum())
        if count == len(running):
            return None
        # Sequences end and don't start again: as many are the same ones.
        if count != self._num_rows:
            self._rows = upload(running.nonzero()[:, 0], self.sums.device)
            self._num_rows = count
        return self._rows

    def _advance(self, drive: Tensor, running: Tensor | None) -> None:
        """Advance the running sequences by one step.

        Args:
            drive: ``[B, ...]``.
            running: Indices of the running sequences, or None for all.
        """
        if running is None:
            self.state, self._basis = self.system.step_with_basis(drive, self.state, self._basis)
            return
        basis, part = self.basis, tuple(tensor[running] for tensor in self.state)
        part, moved = self.system.step_with_basis(drive[running], part, basis[running])
        self.state = _replaced(self.state, running, part)
        self._basis = basis.index_copy(0, running, moved)

    def _advance_state(self, drive: Tensor, running: Tensor | None) -> None:
        """Advance the states of the running sequences alone by one step.

        Args:
            drive: ``[B, ...]``.
            running: Indices of the running sequences, or None for all.
        """
        if running is None:
            self.state = self.system.step(drive, self.state)[0]
            return
        part = tuple(tensor[running] for tensor in self.state)
        self.state = _replaced(self.state, running, self.system.step(drive[running], part)[0])

    def _close_block(
        self, start: tuple[State, Basis], drive: Tensor, stop: int, result: Factorization
    ) -> None:
        """Take the orthonormal bases of those that moved in a block, and count their stretches.

        Args:
            start: State and basis at the start of the block.
            drive: ``[T, B, ...]``.
            stop: Steps done with this block, warm-up included.
            result: The factorization of the sequences that moved.
        """
        moved = self._running(self._done)
        whole = moved is None and self._running(stop - 1) is None
        counted = stop > self._warmup_steps
        steps, before = drive[self._done : stop], self.sums
        self._done = stop
        self._basis = (
            result.basis if moved is None else self.basis.index_copy(0, moved, dense(result.basis))
        )
        if counted:
            self._count(result, moved)
        if whole:
            seen = result._replace(log_stretch=self.sums - before) if counted else result
            self.inspector.look(start, steps, seen, last=self._ends_with(stop))

    def _ends_with(self, stop: int) -> bool:
        """Tell whether a run ends with a step, so that its last block is checked."""
        return stop == self.num_steps

    def _count(self, result: Factorization, moved: Tensor | None) -> None:
        """Add the stretches of a block.

        Args:
            result: The factorization of the sequences that moved.
            moved: Their indices, or None for all.
        """

        def everywhere(part: Tensor, rest: float) -> Tensor:
            if moved is None:
                return part
            return part.new_full(self.sums.shape, rest).index_copy(0, moved, part)

        self.rounding = self.rounding + everywhere(result.rounding_error, 0)
        self.resolved = self.resolved & everywhere(result.resolved, True)
        self._add(everywhere(result.log_stretch, 0))

    def _add(self, log_stretch: Tensor) -> None:
        """Add the stretches of the block that ends with the last step.

        Args:
            log_stretch: ``[B, C]``, nats, float64; zero for sequences that had ended.
        """
        self.sums = self.sums + log_stretch
        self.block_ends.append(self._done - self._warmup_steps)
        self.bins.add(log_stretch, self.block_ends[-1])
        if self._keep:
            self.stretches.append(log_stretch)


def _replaced(state: State, rows: Tensor, part: State) -> State:
    """Replace some rows of a state.

    Args:
        state: Tensors ``[B, ...]``.
        rows: ``[b]``.
        part: What to put there, ``[b, ...]`` each.

    Returns:
        Tensors ``[B, ...]``.
    """
    return tuple(old.index_copy(0, rows, new) for old, new in zip(state, part, strict=True))


def _forward_only(report: Callable[[int], None], done: int) -> Callable[[int], None]:
    """Report each step once, however often it is done.

    Args:
        report: Called with the number of steps done.
        done: Steps reported before.

    Returns:
        A function like it.
    """

    def once(now: int) -> None:
        nonlocal done
        if now > done:
            done = now
            report(now)

    return once
