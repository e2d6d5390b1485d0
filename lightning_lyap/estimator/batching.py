"""Sequences that are run together: in groups one after the other, each in shares side by side."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from lightning_lyap._device import (
    OnStep,
    free_bytes,
    run_side_by_side,
    single_threaded,
    usable_threads,
)
from lightning_lyap.certificate.along_the_run import Inspector
from lightning_lyap.dynamics.base import DynamicalSystem
from lightning_lyap.estimator.trajectories import Trajectories

# Sequences of the first group; every further group is as large as all before it.
FIRST_GROUP = 16
# Entries of a basis from which a thread of its own is worth the time threads wait for Python's
# lock, and size of the tangent space below which threads within products save nothing.
THREADED_ENTRIES, THREADED_SIZE = 128 * 128, 256
# Peak of a run in numbers per sequence and tangent direction: this many times K, and this many
# times N, was never exceeded (docs/PERFORMANCE.md); on CUDA panels are in float64.
PER_VECTOR, PER_DIRECTION, ON_CUDA = 12, 2, 2
# Part of the memory that is free which a run may take.
MEMORY_FRACTION = 0.5


def split_into_groups(
    batch_size: int, target_stderr: float | None, most: int | None = None
) -> list[slice]:
    """Split the sequences into groups that are run one after the other.

    Args:
        batch_size: B.
        target_stderr: What to reach; None runs all sequences at once, if they fit.
        most: Sequences of a group at most; None for any number.

    Returns:
        The groups' rows: with a target 16 sequences, then 16, 32, 64 and so on.

    Example:
        >>> [(rows.start, rows.stop) for rows in split_into_groups(40, 0.01)]
        [(0, 16), (16, 32), (32, 40)]
    """
    ends = [0, batch_size]
    if target_stderr is not None:
        ends = [0]
        while ends[-1] < batch_size:
            ends.append(min(max(FIRST_GROUP, 2 * ends[-1]), batch_size))
    groups = [slice(start, stop) for start, stop in pairwise(ends)]
    if most is None:
        return groups
    counts = [-(-(rows.stop - rows.start) // most) for rows in groups]
    return [part for rows, n in zip(groups, counts, strict=True) for part in split_evenly(rows, n)]


def split_evenly(rows: slice, count: int) -> list[slice]:
    """Split rows into parts of nearly the same size.

    Args:
        rows: The rows.
        count: How many parts, at most as many as there are rows.

    Returns:
        The parts, in order.

    Example:
        >>> [(part.start, part.stop) for part in split_evenly(slice(10, 20), 3)]
        [(10, 13), (13, 16), (16, 20)]
    """
    size = rows.stop - rows.start
    return [
        slice(start, stop)
        for start, stop in pairwise(rows.start + size * k // count for k in range(count + 1))
    ]


def num_shares(system: DynamicalSystem, basis: Tensor) -> int:
    """Return the number of shares that a group is best split into.

    Args:
        system: The dynamics.
        basis: Of the group, ``[B, N, k]``.

    Returns:
        At least 1: several of large bases on the CPU, one for each thread that torch may use.
    """
    alone = basis.device.type != "cpu" or not system.runs_in_threads or not _is_large(basis.shape)
    return 1 if alone else min(usable_threads(), basis.shape[0])


def _is_large(shape: torch.Size) -> bool:
    """Return whether threads are worth it for a basis ``[B, N, k]``."""
    return shape[1] * shape[2] >= THREADED_ENTRIES


def on_one_thread(system: DynamicalSystem) -> AbstractContextManager[None]:
    """Keep work on one thread, where that is for this package to say: torch's modules on the CPU.

    What is done once, or is small, gains little from torch's own threads; beside busy neighbors,
    where they wait for each other, it took a hundred times as long.

    Args:
        system: The dynamics.

    Returns:
        A context; for other systems it changes nothing.
    """
    known = system.device.type == "cpu" and system.runs_in_threads
    return single_threaded() if known else nullcontext()


class Group:
    """Sequences that are run together, in shares side by side.

    Args:
        shares: Their trajectories.

    Attributes:
        shares: The trajectories.
        longest: The share with the longest sequence, the first of several.
    """

    def __init__(self, shares: Sequence[Trajectories]) -> None:
        self.shares = list(shares)
        self.longest = max(self.shares, key=lambda share: share.num_steps)
        for share in self.shares[1:]:
            # Determinants cost as much as factorizations: one sequence of the group is enough.
            share.inspector = Inspector(share.system, volumes=False, products=False)

    def go(self, until: int, on_step: OnStep | None) -> None:
        """Go on; see `Trajectories.go`.

        Args:
            until: The step to stop at, warm-up included.
            on_step: Called with the number of steps done after every step of the longest share.
        """
        longest = self.longest
        if len(self.shares) > 1:
            ordered = [longest, *(share for share in self.shares if share is not longest)]
            run_side_by_side(
                [partial(share.go, min(until, share.num_steps)) for share in ordered], on_step
            )
            return
        small = longest.shape[1] < THREADED_SIZE and not _is_large(longest.shape)
        with on_one_thread(longest.system) if small else nullcontext():
            longest.go(until, on_step)

    def check_deferred(self) -> None:
        """Make the checks that were put off; see `Inspector.check_deferred`."""
        for share in self.shares:
            share.inspector.check_deferred()


def sequences_that_fit(system: DynamicalSystem, num_vectors: int) -> int | None:
    """Estimate how many sequences fit into half of the free memory.

    Args:
        system: The dynamics.
        num_vectors: k, tangent vectors of each block.

    Returns:
        At least 1; None where the free memory is not known.
    """
    free = free_bytes(system.device)
    if free is None:
        return None
    return max(1, int(MEMORY_FRACTION * free / bytes_per_sequence(system, num_vectors)))


def bytes_per_sequence(system: DynamicalSystem, num_vectors: int) -> int:
    """Estimate the peak of a run.

    Args:
        system: The dynamics.
        num_vectors: k, tangent vectors of each block.

    Returns:
        Bytes for each sequence, those of its result included.
    """
    size = system.tangent_size
    numbers = size * (PER_VECTOR * num_vectors + PER_DIRECTION * size)
    factor = ON_CUDA if system.device.type == "cuda" else 1
    return numbers * system.dtype.itemsize * factor
