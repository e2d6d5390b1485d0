"""The machine: free memory, threads, uploads, full precision."""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

# Called with the number of steps done.
OnStep: TypeAlias = Callable[[int], None]


class _Library(NamedTuple):
    """Functions of torch's own libraries that concern the calling thread alone."""

    set_mkl: Any
    get_openmp: Any
    set_openmp: Any


class _StoppedError(Exception):
    """Ends a thread whose work is not wanted any more."""


@lru_cache(maxsize=1)
def _library() -> _Library | None:
    """Return these functions; None where torch is not built with MKL and OpenMP."""
    if not (torch.backends.mkl.is_available() and torch.backends.openmp.is_available()):
        return None
    path = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        library = ctypes.CDLL(str(path))
        return _Library(
            library.MKL_Set_Num_Threads_Local,
            library.omp_get_max_threads,
            library.omp_set_num_threads,
        )
    except (OSError, AttributeError):
        return None


def usable_threads() -> int:
    """Return how many threads torch may use; 1 where a thread can't be given its own number."""
    return 1 if _library() is None else torch.get_num_threads()


@contextmanager
def single_threaded() -> Iterator[None]:
    """Let what this thread computes run on it alone, where that can be set for a thread."""
    library = _library()
    if library is None:
        yield
        return
    torch.get_num_threads()  # torch sets a thread's number when it is first asked for
    openmp = library.get_openmp()
    mkl = library.set_mkl(1)
    library.set_openmp(1)
    try:
        yield
    finally:
        library.set_openmp(openmp)
        library.set_mkl(mkl)


def run_side_by_side(
    calls: Sequence[Callable[[OnStep | None], None]], on_step: OnStep | None
) -> None:
    """Run one call on this thread, the others each on one of its own.

    If one of them fails or can't be started, or this thread is interrupted, the others are stopped
    at their next step.

    Args:
        calls: Each takes a function to be called after every step.
        on_step: That of the first call.
    """
    stop = Event()

    def go_on(done: int) -> None:
        if stop.is_set():
            raise _StoppedError

    def go_on_here(done: int) -> None:
        go_on(done)
        if on_step is not None:
            on_step(done)

    def work(call: Callable[[OnStep | None], None]) -> None:
        with single_threaded(), torch.no_grad():
            call(go_on)

    def stop_on_failure(future: Future[None]) -> None:
        if future.exception() is not None:
            stop.set()

    futures: list[Future[None]] = []
    with ThreadPoolExecutor(max(1, len(calls) - 1)) as pool:
        try:
            for call in calls[1:]:
                futures.append(pool.submit(work, call))
                futures[-1].add_done_callback(stop_on_failure)
            with single_threaded():
                calls[0](go_on_here)
            wait(futures)
        except _StoppedError:
            pass  # one of the others has failed, and says so below
        finally:
            stop.set()  # without effect where all have ended
    for future in futures:
        error = future.exception()
        if error is not None and not isinstance(error, _StoppedError):
            raise error


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


def free_bytes(device: torch.device) -> int | None:
    """Return the free memory.

    Args:
        device: Where.

    Returns:
        Bytes: on CUDA those of the device and of torch's own cache; on Linux what is free
        without swapping, and no more than the control group has left; None elsewhere.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + cached)
    known = [_available(), _left_in_group()] if device.type == "cpu" else []
    return min((count for count in known if count is not None), default=None)


def _available() -> int | None:
    """Return ``MemAvailable``, in bytes; None where there is no such thing."""
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
        (line,) = (line for line in lines if line.startswith("MemAvailable:"))
        return 1024 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        return None


def _left_in_group() -> int | None:
    """Return what the control group may still take, in bytes; None without a limit."""
    return next((left for names in LIMITS if (left := _left_by(*names)) is not None), None)


def _left_by(limit: str, used: str, stat: str, caches: set[str]) -> int | None:
    """Return what is left of a limit, in bytes, by these files; None without a limit."""
    try:
        left = int((CGROUP / limit).read_text(encoding="ascii"))
        left -= int((CGROUP / used).read_text(encoding="ascii"))
        # What the group keeps of files is free: the kernel gives it back before it refuses any.
        lines = map(str.split, (CGROUP / stat).read_text(encoding="ascii").splitlines())
        return left + sum(int(value) for name, value in lines if name in caches)
    except (OSError, ValueError):  # "max" is no number: no limit
        return None


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Switch off autocast and reduced-precision products, and restore both."""
    with torch.autocast(device_type, enabled=False):
        backends: list[Any] = [
            torch.backends.cuda.matmul,
            getattr(torch.backends.mkldnn, "matmul", None),
        ]
        if not all(hasattr(backend, "fp32_precision") for backend in backends):
            before = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("highest")
            try:
                yield
            finally:
                torch.set_float32_matmul_precision(before)
            return
        inherited = getattr(torch.backends, "fp32_precision", None)
        settings = [backend.fp32_precision for backend in backends]
        try:
            for backend in backends:
                backend.fp32_precision = "ieee"
            yield
        finally:
            # "none" lets a backend go on following the setting for all of them.
            for backend, setting in zip(backends, settings, strict=True):
                backend.fp32_precision = "none" if setting == inherited else setting


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the CPU to a device without waiting for what the device is doing."""
    if device.type == "cuda":
        # From memory that may be paged out the driver copies only once the device is idle.
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
