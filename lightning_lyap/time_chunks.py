r"""Parallel over time: chunks of a sequence are carried side by side, as if they were sequences.

A step needs the one before it in two ways: its state, and its basis. The states alone are cheap and
are computed in order. Bases forget where they came from: carried along the same states they turn
into each other like ``exp(-gap t)``, where neighbouring exponents are a gap apart. So every chunk
of the steps starts from any basis, and then again from that with which the chunk before it ended,
until all chunks start from what the ones before them end with. That is the run over all the steps,
and nothing else is: after r rounds the first r chunks are right whatever the gaps.

Reference:
    Lions, Maday, Turinici (2001), Comptes Rendus de l'Academie des Sciences 332, 661-668: rounds
    over chunks of time, here without a coarse map. Ershov and Potapov (1998), Physica D 118,
    167-198: the rate at which bases forget.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lightning_lyap.checks import check_count
from lightning_lyap.chunk_rounds import Chunks, Cuts, Report, settle
from lightning_lyap.dynamics import Dynamics
from lightning_lyap.dynamics.base import State, num_blocks
from lightning_lyap.estimate import TimeChunks
from lightning_lyap.groups import Group
from lightning_lyap.interval import FixedInterval
from lightning_lyap.memory import chunks_that_fit
from lightning_lyap.trajectories import Trajectories

# How often states, drive and log-stretches of all steps are kept at most, copies for the rounds and
# what waits to be checked included.
STATES, DRIVES, STRETCHES = 6, 4, 5


def check_time_chunks(value: Any, target_stderr: float | None, every: Any) -> int:
    """Check the number of chunks, and that it goes with the other settings.

    Args:
        value: The number asked for.
        target_stderr: Standard error to reach, or None.
        every: Steps between factorizations, or ``"auto"``.

    Returns:
        The number.

    Raises:
        TypeError: If it is no int.
        ValueError: If it is too small, or does not go with another setting.
    """
    count = check_count("time_chunks", value, 1)
    if count > 1 and target_stderr is not None:
        raise ValueError(
            f"Expected `time_chunks` of 1 with `target_stderr`, but got {count}: a run in chunks "
            "has no errors on its way. Leave out one of them."
        )
    if count > 1 and every == "auto":
        raise ValueError(
            f"Expected `time_chunks` of 1 with `orthonormalize_every='auto'`, but got {count}: "
            "each automatic interval follows from those before it. Give a number of steps, or "
            "leave out `time_chunks`."
        )
    return count


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


def fit_chunks(
    system: Dynamics,
    start: tuple[State, Tensor, Tensor],
    num_steps: int,
    every: int,
    count: int,
) -> tuple[int | None, int]:
    """Choose how many sequences to run at the same time, and the length of their chunks.

    Args:
        system: The dynamics.
        start: States, tensors ``[B, ...]``, bases, ``[B, N, k]``, and drive, ``[T, B, ...]``.
        num_steps: Steps counted of the longest sequence.
        every: Steps between factorizations.
        count: Chunks asked for.

    Returns:
        Sequences, None for any number; and steps of a chunk, so that it fits into the memory.
    """
    state, basis, drive = start
    moved, driving = sum(tensor[0].numel() for tensor in state), drive[:1, :1].numel()
    columns = basis.shape[2] * num_blocks(system)
    stretches = -(-num_steps // every) * columns * torch.float64.itemsize
    kept = num_steps * (STATES * moved + DRIVES * driving) * system.dtype.itemsize
    most, count = chunks_that_fit(system, basis.shape[2], kept + STRETCHES * stretches, count)
    return most, chunk_steps(num_steps, count, every)


def joint_chunks(groups: Sequence[Group]) -> TimeChunks | None:
    """Say how the chunks of several groups came out together.

    Args:
        groups: At their end.

    Returns:
        None where they were run without.
    """
    parts = [share for group in groups for share in group.shares]
    own = [part.chunks for part in parts if isinstance(part, ChunkedTrajectories)]
    if not own:
        return None
    return TimeChunks(
        count=max(one.count for one in own),
        steps=max(one.steps for one in own),
        rounds=max(one.rounds for one in own),
        angle=max(one.angle for one in own),
        num_finished_plainly=sum(one.num_finished_plainly for one in own),
    )


class ChunkedTrajectories(Trajectories):
    """Trajectories whose steps are cut into chunks that run side by side, after the warm-up.

    Args:
        system: The dynamics.
        state: Tensors ``[B, ...]``.
        basis: ``[B, N, k]``.
        ends: Length of each sequence, ``[B]``, on the CPU.
        warmup_steps: Steps that are not counted.
        keep: Whether to keep the log-stretches of every block.
        every: Steps between factorizations.
        steps: Of a chunk; see `chunk_steps`.

    Attributes:
        chunks: How they came out.
    """

    def __init__(
        self,
        system: Dynamics,
        state: State,
        basis: Tensor,
        ends: Tensor,
        warmup_steps: int,
        keep: bool,
        every: int,
        steps: int,
    ) -> None:
        super().__init__(system, state, basis, ends, warmup_steps, FixedInterval(every), keep)
        self._every, self._chunk_steps = every, steps
        self.chunks = TimeChunks(count=1, steps=steps, rounds=1, angle=0.0, num_finished_plainly=0)

    def go(self, drive: Tensor, until: int, report: Report | None) -> None:
        """Go to the end.

        Args:
            drive: ``[T, B, ...]``.
            until: Steps of the longest sequence, warm-up included.
            report: Called with numbers of steps done; see `Reports`.
        """
        if until - self._warmup_steps <= self._chunk_steps:
            super().go(drive, until, report)
            return
        super().go(drive, self._warmup_steps, report)
        reports = Reports(report, self._warmup_steps, until)
        states = self._states(drive, until, reports.half(until - self._warmup_steps))
        cuts = Cuts.of(self._ends - self._warmup_steps, self._chunk_steps)
        chunks = Chunks(self, cuts, drive[self._warmup_steps : until], states, self._every)
        self.chunks = settle(chunks, reports.half)
        self._take(chunks, until)
        reports.reach(until)

    def _states(self, drive: Tensor, until: int, report: Report) -> State:
        """Advance the states alone, as a plain run does.

        Args:
            drive: ``[T, B, ...]``.
            until: The step to stop at, warm-up included.
            report: Called with the number of steps done after every step.

        Returns:
            States before each step, tensors ``[until - warmup, B, ...]``; sequences that have ended
            stay where they are.
        """
        states = []
        for t in range(self._warmup_steps, until):
            states.append(self.state)
            self._advance_state(drive[t], self._running(t))
            report(len(states))
        return tuple(torch.stack(tensors) for tensors in zip(*states, strict=True))

    def _advance_state(self, drive: Tensor, running: Tensor | None) -> None:
        """Advance the states of the running sequences by one step.

        Args:
            drive: ``[B, ...]``.
            running: Indices of the running sequences, or None for all.
        """
        if running is None:
            self.state = self.system.step(drive, self.state)[0]
            return
        part = tuple(tensor[running] for tensor in self.state)
        part = self.system.step(drive[running], part)[0]
        pairs = zip(self.state, part, strict=True)
        self.state = tuple(whole.index_copy(0, running, new) for whole, new in pairs)

    def _take(self, chunks: Chunks, until: int) -> None:
        """Take what the chunks measured, block by block in the order of time.

        Args:
            chunks: At their end.
            until: The step they end at, warm-up included.
        """
        self.inspector = chunks.inspector
        self._basis = chunks.last_basis()
        self.rounding = self.rounding + chunks.rounding.sum(0)
        self.resolved = self.resolved & chunks.resolved.all(0)
        for log_stretch in chunks.stretches.flatten(0, 1):
            if self._done < until:
                self._done = min(self._done + self._every, until)
                self._add(log_stretch)


class Reports:
    """Reports every step once, though nobody knows how many rounds there will be.

    Each part of the work, such as the states or a round, takes half of the steps that are left.

    Args:
        report: Called with the number of steps done.
        done: Steps that were reported.
        total: Steps in all.

    Example:
        >>> told = []
        >>> reports = Reports(told.append, 1, 9)
        >>> reports.half(2)(1)
        >>> told
        [2, 3]
    """

    def __init__(self, report: Report | None, done: int, total: int) -> None:
        self._report, self._done, self._total = report, done, total

    def half(self, steps: int) -> Report:
        """Begin a part of the work.

        Args:
            steps: Of that part.

        Returns:
            What to call with the number of them that are done.
        """
        return partial(self._within, self._done, (self._total - self._done) / 2 / steps)

    def reach(self, done: int) -> None:
        """Report the steps up to one that were not reported before.

        Args:
            done: The last one.
        """
        while self._report is not None and self._done < done:
            self._done += 1
            self._report(self._done)

    def _within(self, begin: int, each: float, done: int) -> None:
        """Report within a part.

        Args:
            begin: Steps reported before it.
            each: Steps to report for one of its own.
            done: Its own steps so far.
        """
        self.reach(begin + int(each * done))
