"""More and more of the given sequences, until the standard errors are small enough."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from torch import Tensor

from lightning_lyap.assembly import is_precise
from lightning_lyap.trajectories import Progress, Trajectories

# Sequences of the first group; every further group is as large as all before it.
FIRST_GROUP = 16
# Steps counted before the first group may stop short of its end; checked again after twice as many.
FIRST_STOP = 256


def groups(batch_size: int, target_stderr: float | None) -> list[slice]:
    """Split the sequences into groups that are run one after the other.

    Args:
        batch_size: B.
        target_stderr: What to reach; None runs all sequences at once.

    Returns:
        The groups' rows: 16 sequences, then 16, 32, 64 and so on.

    Example:
        >>> [(rows.start, rows.stop) for rows in groups(40, 0.01)]
        [(0, 16), (16, 32), (32, 40)]
    """
    if target_stderr is None:
        return [slice(0, batch_size)]
    ends = [0]
    while ends[-1] < batch_size:
        ends.append(min(max(FIRST_GROUP, 2 * ends[-1]), batch_size))
    return [slice(start, stop) for start, stop in pairwise(ends)]


def run_to_target(
    parts: Sequence[Trajectories],
    drives: Sequence[Tensor],
    target_stderr: float | None,
    progress: Progress | None,
) -> tuple[list[Trajectories], bool | None]:
    """Run group after group until the standard errors of all resolved exponents are small enough.

    The first group is also looked at on its way, after 256 counted steps, 512 and so on.

    Args:
        parts: The trajectories of each group, at their start.
        drives: What drives them, ``[T, b, ...]`` each.
        target_stderr: What to reach, nats per step; None runs them all.
        progress: Called with (steps done, steps in all) after every step.

    Returns:
        The trajectories that were run, and whether the target was reached; None without one.
    """
    total, before = sum(part.num_steps for part in parts), 0
    for index, (part, drive) in enumerate(zip(parts, drives, strict=True), start=1):
        report = None if progress is None else partial(_report, progress, before, total)
        on_the_way = target_stderr is not None and index == 1
        for stop in [*(part.stops(FIRST_STOP) if on_the_way else ()), part.num_steps]:
            part.go(drive, stop, report)
            if target_stderr is not None and is_precise(parts[:index], target_stderr):
                return list(parts[:index]), True
        before += part.num_steps
    return list(parts), None if target_stderr is None else False


def _report(progress: Progress, before: int, total: int, done: int) -> None:
    """Report steps over all groups.

    Args:
        progress: The user's function.
        before: Steps of the groups before.
        total: Steps of all groups.
        done: Steps done in this group.
    """
    progress(before + done, total)
