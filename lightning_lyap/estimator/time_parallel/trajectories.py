r"""Parallel over time: chunks of a sequence are carried side by side, as if they were sequences.

A step needs the one before it in two ways: its state, and its basis. The states alone are cheap and
are computed in order. The basis that a chunk of the steps ends with is found in one of two ways.
The Jacobians of the chunk, multiplied, take any start to its end, so that chain of products gives
all starts; that takes N columns and is for small systems. Else bases are left to forget where they
came from: carried along the same states they turn into each other like ``exp(-gap t)``, where
neighboring exponents are a gap apart.

Either way every chunk is then run from its start, and run again from what the chunk before it ends
with until both are the same. That is the run over all the steps, and nothing else is: after r
rounds the first r chunks are right whatever they started from.

Reference:
    Lions, Maday, Turinici (2001), Comptes Rendus de l'Academie des Sciences 332, 661-668: rounds
    over chunks of time. Ershov and Potapov (1998), Physica D 118,
    167-198: the rate at which bases forget.
"""

from collections.abc import Callable
from functools import partial

import torch

from lightning_lyap._device import OnStep
from lightning_lyap.dynamics.base import DynamicalSystem, State
from lightning_lyap.estimator.result import TimeChunks
from lightning_lyap.estimator.schedule import Interval
from lightning_lyap.estimator.time_parallel.chunks import Chunks, run_rounds
from lightning_lyap.estimator.time_parallel.cuts import ChunkTable
from lightning_lyap.estimator.time_parallel.plan import ChunkPlan, plan_chunks
from lightning_lyap.estimator.trajectories import Start, Trajectories


def in_chunks(
    system: DynamicalSystem, start: Start, warmup_steps: int, every: Interval, count: int
) -> tuple[int | None, Callable[..., Trajectories]]:
    """Plan a run in chunks.

    Args:
        system: The dynamics.
        start: Where all sequences start.
        warmup_steps: Steps that are not counted.
        every: Steps between factorizations.
        count: Chunks asked for.

    Returns:
        How many sequences fit into the memory at the same time, None for any number; and what
        makes their trajectories, called like `Trajectories`.
    """
    most, plan = plan_chunks(system, start, warmup_steps, int(every), count)
    return most, partial(ChunkedTrajectories, plan=plan)


class ChunkedTrajectories(Trajectories):
    """Trajectories whose steps are cut into chunks that run side by side, after the warm-up.

    Args:
        system: The dynamics.
        start: Where they start.
        warmup_steps: Steps that are not counted.
        every: Steps between factorizations.
        keep: Whether to keep the log-stretches of every block.
        plan: How to run in chunks.
    """

    def __init__(
        self,
        system: DynamicalSystem,
        start: Start,
        warmup_steps: int,
        every: Interval,
        keep: bool,
        plan: ChunkPlan,
    ) -> None:
        super().__init__(system, start, warmup_steps, every, keep)
        self._plan = plan
        self.chunks = TimeChunks(
            count=1, steps=plan.steps, rounds=1, angle=0.0, num_finished_plainly=0
        )

    def go(self, until: int, on_step: OnStep | None) -> None:
        """Go to the end.

        Args:
            until: Steps of the longest sequence, warm-up included.
            on_step: Called with numbers of steps done; see `HalvingProgress`.
        """
        if until - self.warmup_steps <= self._plan.steps:
            super().go(until, on_step)
            return
        super().go(self.warmup_steps, on_step)
        progress = HalvingProgress(on_step, self.warmup_steps, until)
        states = self._states(until, progress.next_part(until - self.warmup_steps))
        table = ChunkTable.of(self._ends - self.warmup_steps, self._plan.steps)
        drive = self._drive[self.warmup_steps : until]
        chunks = Chunks(self, table, drive, states, self._plan.every)
        if self._plan.products:
            chunks.propagate(progress.next_part)
        self.chunks = run_rounds(chunks, self._plan.angle, progress.next_part)
        self._take(chunks, until)
        progress.reach(until)

    def _states(self, until: int, on_step: OnStep) -> State:
        """Advance the states alone; return those before each step, ``[until - warmup, B, ...]``.

        Sequences that have ended stay where they are.
        """
        states = []
        for t in range(self.warmup_steps, until):
            states.append(self.state)
            self._advance_state(self._drive[t], self._running(t))
            on_step(len(states))
        return tuple(torch.stack(tensors) for tensors in zip(*states, strict=True))

    def _take(self, chunks: Chunks, until: int) -> None:
        """Take what the chunks measured, block by block in the order of time."""
        self.inspector = chunks.inspector
        self._basis = chunks.last_basis()
        for number, stretches in enumerate(chunks.stretches):
            own = self.labels
            error = self.rounding.scatter(1, own, chunks.rounding[number])
            self.rounding = self.rounding + error
            self.resolved = (
                self.resolved & own.scatter(1, own, chunks.resolved[number].long()).bool()
            )
            for log_stretch in stretches:
                if self._done < until:
                    self._done = min(self._done + self._plan.every, until)
                    self._add(own.double().scatter(1, own, log_stretch), error / len(stretches))
            self.labels = own.gather(1, chunks.labels[number])


class HalvingProgress:
    """Reports every step once, though nobody knows how many rounds there will be.

    Each part of the work, such as the states or a round, takes half of the steps that are left.

    Args:
        on_step: Called with the number of steps done.
        done: Steps that were reported.
        total: Steps in all.

    Example:
        >>> told = []
        >>> progress = HalvingProgress(told.append, 1, 9)
        >>> progress.next_part(2)(1)
        >>> told
        [2, 3]
    """

    def __init__(self, on_step: OnStep | None, done: int, total: int) -> None:
        self._on_step, self._done, self._total = on_step, done, total

    def next_part(self, steps: int) -> OnStep:
        """Begin a part of so many steps; return what to call with the number of them done."""
        return partial(self._within, self._done, (self._total - self._done) / 2 / steps)

    def reach(self, done: int) -> None:
        """Report the steps up to one that were not reported before."""
        while self._on_step is not None and self._done < done:
            self._done += 1
            self._on_step(self._done)

    def _within(self, begin: int, each: float, done: int) -> None:
        """Report ``each`` step for one of a part, which began with ``begin`` steps reported."""
        self.reach(begin + int(each * done))
