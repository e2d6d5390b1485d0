"""Sequences that are run together: in groups one after the other, each in shares side by side."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from lightning_lyap._device import free_bytes, num_shares, run_side_by_side, single_threaded
from lightning_lyap.certificate.along_the_run import Inspector
from lightning_lyap.dynamics.base import DynamicalSystem
from lightning_lyap.estimator.trajectories import Trajectories

# Sequences of the first group; every further group is as large as all before it.
FIRST_GROUP = 16
# Entries of a basis from which a thread of its own is worth the time threads wait for Python's
# lock, and size of the tangent space below which threads within products save nothing.
LARGE, SMALL = 128 * 128, 256


def groups(batch_size: int, target_stderr: float | None, most: int | None = None) -> list[slice]:
    """Split the sequences into groups that are run one after the other.

    Args:
        batch_size: B.
        target_stderr: What to reach; None runs all sequences at once, if they fit.
        most: Sequences of a group at most; None for any number.

    Returns:
        The groups' rows: with a target 16 sequences, then 16, 32, 64 and so on.

    Example:
        >>> [(rows.start, rows.stop) for rows in groups(40, 0.01)]
        [(0, 16), (16, 32), (32, 40)]
    """
    ends = [0, batch_size]
    if target_stderr is not None:
        ends = [0]
        while ends[-1] < batch_size:
            ends.append(min(max(FIRST_GROUP, 2 * ends[-1]), batch_size))
    whole = [slice(start, stop) for start, stop in pairwise(ends)]
    if most is None:
        return whole
    return [part for rows in whole for part in shares(rows, -(-(rows.stop - rows.start) // most))]


def shares(rows: slice, count: int) -> list[slice]:
    """Split rows into shares of nearly the same size.

    Args:
        rows: The rows.
        count: How many shares, at most as many as there are rows.

    Returns:
        The shares, in order.

    Example:
        >>> [(part.start, part.stop) for part in shares(slice(10, 20), 3)]
        [(10, 13), (13, 16), (16, 20)]
    """
    size = rows.stop - rows.start
    cuts = [rows.start + size * k // count for k in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(cuts)]


def sensible_shares(system: DynamicalSystem, basis: Tensor) -> int:
    """Tell into how many shares to split a group.

    Args:
        system: The dynamics.
        basis: Of the group, ``[B, N, k]``.

    Returns:
        At least 1: several of large bases on the CPU, one for each thread that torch may use.
    """
    if not system.runs_in_threads or not is_large(basis.shape):
        return 1
    return num_shares(basis.shape[0]) if basis.device.type == "cpu" else 1


def is_large(shape: torch.Size) -> bool:
    """Tell whether threads are worth it for a basis.

    Args:
        shape: Its shape, ``[B, N, k]``.

    Returns:
        Whether they are.
    """
    return shape[1] * shape[2] >= LARGE


def on_one_thread(system: DynamicalSystem) -> AbstractContextManager[None]:
    """Keep work on one thread, where that is ours to say: torch's modules on the CPU.

    What is done once, or is small, gains little from torch's own threads; beside busy neighbors,
    where they wait for each other, it took a hundred times as long.

    Args:
        system: The dynamics.

    Returns:
        A context; for other systems it changes nothing.
    """
    ours = system.device.type == "cpu" and system.runs_in_threads
    return single_threaded() if ours else nullcontext()


class Group:
    """Sequences that are run together, in shares side by side.

    Args:
        shares: Their trajectories.
        drives: What drives each share, ``[T, b, ...]``.

    Attributes:
        shares: The trajectories.
    """

    def __init__(self, shares: Sequence[Trajectories], drives: Sequence[Tensor]) -> None:
        self.shares = list(shares)
        for share in self.shares[1:]:
            # Determinants cost as much as factorizations: one sequence of the group is enough.
            share.inspector = Inspector(share.system, volumes=False, products=False)
        self._drives = list(drives)

    @property
    def longest(self) -> Trajectories:
        """The share with the longest sequence, the first of several."""
        return max(self.shares, key=lambda share: share.num_steps)

    def go(self, until: int, report: Callable[[int], None] | None) -> None:
        """Go on; see `Trajectories.go`.

        Args:
            until: The step to stop at, warm-up included.
            report: Called with the number of steps done after every step of the longest share.
        """
        longest = self.longest
        if len(self.shares) == 1:
            alone = longest.shape[1] < SMALL and not is_large(longest.shape)
            with on_one_thread(longest.system) if alone else nullcontext():
                longest.go(self._drives[0], until, report)
            return
        pairs = list(zip(self.shares, self._drives, strict=True))
        pairs.sort(key=lambda pair: pair[0] is not longest)
        calls = [partial(share.go, drive, min(until, share.num_steps)) for share, drive in pairs]
        run_side_by_side(calls, report)

    def settle(self) -> None:
        """Check what was put off; see `Inspector.settle`."""
        for share in self.shares:
            share.inspector.settle()


# Peak of a run in numbers per sequence and tangent direction: this many times K, and this many
# times N, was never exceeded (docs/PERFORMANCE.md); on CUDA panels are in float64.
PER_VECTOR, PER_DIRECTION, ON_CUDA = 12, 2, 2
# Part of the memory that is free which a run may take.
SHARE = 0.5


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
    return max(1, int(SHARE * free / bytes_per_sequence(system, num_vectors)))


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
