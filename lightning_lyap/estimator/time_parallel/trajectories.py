r"""Parallel over time: chunks of a sequence are carried side by side, as if they were sequences.

A step needs the one before it in two ways: its state, and its basis. The states alone are cheap and
are computed in order. The basis that a chunk of the steps ends with is found in one of two ways.
The Jacobians of the chunk, multiplied, take any start to its end, so that chain of products gives
all starts; that takes N columns and is for small systems. Else bases are left to forget where they
came from: carried along the same states they turn into each other like ``exp(-gap t)``, where
neighbouring exponents are a gap apart.

Either way every chunk is then run from its start, and run again from what the chunk before it ends
with until both are the same. That is the run over all the steps, and nothing else is: after r
rounds the first r chunks are right whatever they started from.

Reference:
    Lions, Maday, Turinici (2001), Comptes Rendus de l'Academie des Sciences 332, 661-668: rounds
    over chunks of time. Ershov and Potapov (1998), Physica D 118,
    167-198: the rate at which bases forget.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lightning_lyap._checks import check_count
from lightning_lyap.dynamics.base import DynamicalSystem, State
from lightning_lyap.estimator.batching import Group
from lightning_lyap.estimator.result import TimeChunks
from lightning_lyap.estimator.schedule import FixedInterval
from lightning_lyap.estimator.time_parallel.chunks import Chunks, Report, settle
from lightning_lyap.estimator.time_parallel.cuts import Cuts
from lightning_lyap.estimator.time_parallel.plan import ChunkPlan
from lightning_lyap.estimator.trajectories import Trajectories


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
        plan: How to run in chunks.

    Attributes:
        chunks: How they came out.
    """

    def __init__(
        self,
        system: DynamicalSystem,
        state: State,
        basis: Tensor,
        ends: Tensor,
        warmup_steps: int,
        keep: bool,
        plan: ChunkPlan,
    ) -> None:
        schedule = FixedInterval(plan.every)
        super().__init__(system, state, basis, ends, warmup_steps, schedule, keep)
        self._plan = plan
        self.chunks = TimeChunks(
            count=1, steps=plan.steps, rounds=1, angle=0.0, num_finished_plainly=0
        )

    def go(self, drive: Tensor, until: int, report: Report | None) -> None:
        """Go to the end.

        Args:
            drive: ``[T, B, ...]``.
            until: Steps of the longest sequence, warm-up included.
            report: Called with numbers of steps done; see `Reports`.
        """
        if until - self._warmup_steps <= self._plan.steps:
            super().go(drive, until, report)
            return
        super().go(drive, self._warmup_steps, report)
        reports = Reports(report, self._warmup_steps, until)
        states = self._states(drive, until, reports.half(until - self._warmup_steps))
        cuts = Cuts.of(self._ends - self._warmup_steps, self._plan.steps)
        chunks = Chunks(self, cuts, drive[self._warmup_steps : until], states, self._plan.every)
        if self._plan.products:
            chunks.propagate(reports.half)
        self.chunks = settle(chunks, self._plan.angle, reports.half)
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
                self._done = min(self._done + self._plan.every, until)
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
