"""More and more of the given sequences, until the standard errors are small enough."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from lightning_lyap.estimator.averaging import is_precise
from lightning_lyap.estimator.batching import Group

Progress: TypeAlias = Callable[[int, int], None]
# Steps counted before the first group may stop short of its end; checked again after twice as many.
FIRST_STOP = 256


def run_to_target(
    groups: Sequence[Group], target_stderr: float | None, progress: Progress | None
) -> tuple[Sequence[Group], bool | None]:
    """Run group after group until the standard errors of all resolved exponents are small enough.

    The first group also stops for a look at them on its way, after 256 counted steps, 512 and so
    on.

    Args:
        groups: The groups, at their start.
        target_stderr: What to reach, nats per step; None runs them all.
        progress: Called with (steps done, steps in all) after every step.

    Returns:
        The groups that were run, and whether the target was reached; None without one.
    """
    total, before = sum(group.longest.num_steps for group in groups), 0
    for index, group in enumerate(groups, start=1):
        longest = group.longest
        on_step = None if progress is None else partial(_report, progress, before, total)
        on_the_way = target_stderr is not None and index == 1
        for stop in [*(longest.stops(FIRST_STOP) if on_the_way else ()), longest.num_steps]:
            group.go(stop, on_step)
            if target_stderr is not None and is_precise(groups[:index], target_stderr):
                return groups[:index], True
        before += longest.num_steps
    return groups, None if target_stderr is None else False


def _report(progress: Progress, before: int, total: int, done: int) -> None:
    """Report the steps of all groups, of which ``before`` belong to the groups before."""
    progress(before + done, total)
