"""How many sequences can be run at the same time in the memory there is."""

from pathlib import Path

import torch

from lightning_lyap.dynamics import Dynamics

# Peak of a run in numbers per sequence and tangent direction: this many times K, and this many
# times N, was never exceeded (docs/PERFORMANCE.md); on CUDA panels are in float64.
PER_VECTOR, PER_DIRECTION, ON_CUDA = 12, 2, 2
# Part of the memory that is free which a run may take.
SHARE = 0.5
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
# Its files, and the names of what is kept of files: those of version 2, then those of version 1.
LIMITS = (
    ("memory.max", "memory.current", "memory.stat", {"active_file", "inactive_file"}),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        {"total_active_file", "total_inactive_file"},
    ),
)


def sequences_that_fit(system: Dynamics, num_vectors: int) -> int | None:
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


def bytes_per_sequence(system: Dynamics, num_vectors: int) -> int:
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


def chunks_that_fit(
    system: Dynamics, num_vectors: int, over_time: int, count: int
) -> tuple[int | None, int]:
    """Estimate how many sequences, cut into chunks that run side by side, fit into the memory.

    Args:
        system: The dynamics.
        num_vectors: k, tangent vectors of each block.
        over_time: Bytes for each sequence that chunks don't share: what is kept of every step.
        count: Chunks of a sequence asked for.

    Returns:
        Sequences, at least 1, None where the free memory is not known; and chunks: fewer than asked
        for where those of a single sequence don't fit.
    """
    free = free_bytes(system.device)
    if free is None:
        return None, count
    room, each = SHARE * free, bytes_per_sequence(system, num_vectors)
    fitting = max(1, min(count, int((room - over_time) / each)))
    return max(1, int(room / (fitting * each + over_time))), fitting


def free_bytes(device: torch.device) -> int | None:
    """Ask for the free memory.

    Args:
        device: Where.

    Returns:
        Bytes: on CUDA those of the device and of torch's own cache; on Linux what can be had
        without swapping, and no more than the control group has left; None elsewhere.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + cached)
    known = [_available(), _left_in_group()] if device.type == "cpu" else []
    return min((count for count in known if count is not None), default=None)


def _available() -> int | None:
    """Read ``MemAvailable``, in bytes; None where there is no such thing."""
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
        (line,) = (line for line in lines if line.startswith("MemAvailable:"))
        return 1024 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        return None


def _left_in_group() -> int | None:
    """Ask what the control group may still take, in bytes; None without a limit."""
    return next((left for names in LIMITS if (left := _left_by(*names)) is not None), None)


def _left_by(limit: str, used: str, stat: str, caches: set[str]) -> int | None:
    """Read what is left of a limit.

    What the group keeps of files is free: the kernel gives it back before it refuses anything.

    Args:
        limit: File with the limit.
        used: File with what was taken.
        stat: File that tells what for.
        caches: Names of what is kept of files.

    Returns:
        Bytes; None without a limit.
    """
    try:
        left = int((CGROUP / limit).read_text(encoding="ascii"))
        left -= int((CGROUP / used).read_text(encoding="ascii"))
        lines = map(str.split, (CGROUP / stat).read_text(encoding="ascii").splitlines())
        return left + sum(int(value) for name, value in lines if name in caches)
    except (OSError, ValueError):  # "max" is no number: no limit
        return None
