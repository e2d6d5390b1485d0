"""Shares of the sequences side by side, each on a thread that has one core for itself.

LAPACK factors a batch matrix by matrix, and its own threads help little at the sizes of recurrent
networks. Where other work shares the cores they hurt: they wait for each other several times a
column, and a factorization that takes a millisecond alone takes a hundred times as long. So each
thread here works on its own sequences, with a number of threads for products and factorizations
of 1: a setting of that thread, which no other thread sees.
"""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import torch

Report = Callable[[int], None]


class _Library(NamedTuple):
    """Functions of torch's own libraries that concern the calling thread alone."""

    set_mkl: Any
    get_openmp: Any
    set_openmp: Any


class _StoppedError(Exception):
    """Ends a thread whose work is not wanted any more."""


@lru_cache(maxsize=1)
def _library() -> _Library | None:
    """Find the functions; None where torch is not built with MKL and OpenMP.

    Returns:
        The functions.
    """
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


def num_shares(num_sequences: int) -> int:
    """Tell how many shares of the sequences can run side by side.

    Args:
        num_sequences: B.

    Returns:
        At most the number of threads torch may use; 1 where a thread can't be given its own.
    """
    return 1 if _library() is None else min(torch.get_num_threads(), num_sequences)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Let what this thread computes run on it alone, where that can be set for a thread.

    Yields:
        None.
    """
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
    calls: Sequence[Callable[[Report | None], None]], report: Report | None
) -> None:
    """Run one call on this thread, the others each on one of its own.

    If one of them fails or can't be started, or this thread is interrupted, the others are stopped
    at their next step.

    Args:
        calls: Each takes a function to be called after every step.
        report: That of the first call.
    """
    stop = Event()

    def heed(done: int) -> None:
        if stop.is_set():
            raise _StoppedError

    def first(done: int) -> None:
        heed(done)
        if report is not None:
            report(done)

    def work(call: Callable[[Report | None], None]) -> None:
        try:
            with single_threaded(), torch.no_grad():
                call(heed)
        except BaseException:
            stop.set()
            raise

    with ThreadPoolExecutor(max(1, len(calls) - 1)) as pool:
        futures: list[Future[None]] = []
        try:
            futures.extend(pool.submit(work, call) for call in calls[1:])
            with single_threaded():
                calls[0](first)
            wait(futures)
        except _StoppedError:
            pass  # one of the others has failed, and says so below
        except BaseException:
            stop.set()
            raise
    errors = [error for future in futures if (error := future.exception()) is not None]
    for error in errors:
        if not isinstance(error, _StoppedError):
            raise error
