"""Shares of the sequences side by side, against LAPACK's own threads."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import torch

from lightning_lyap import lyapunov_spectrum
from lightning_lyap.estimator import spectrum
from performance.networks import characters, network
from performance.table import Result, Row
from performance.timing import WALL, in_turn, ratio, threads
from performance.twin import Twin, largest_difference

TEXT = (
    "How many times faster a complete spectrum is with shares of the sequences side by side, one "
    "for each thread, than as a single share on which products and factorizations use torch's own "
    "threads: wall time, GRU, B = {batch}, float32, {count} threads. Once as the machine is, and "
    "once beside as many busy processes as it has cores, where threads that wait for each other "
    "lose the time that each of them waits for a core. Checks that are done once, on one thread, "
    "are part of both."
)
WHERE = ("alone", "beside busy neighbors")
# Ends by itself with its parent, or after ten minutes.
NEIGHBOR = """
import os, sys, time
end, parent = time.monotonic() + 600, int(sys.argv[1])
while os.getppid() == parent and time.monotonic() < end:
    sum(range(100_000))
"""


@dataclass(frozen=True)
class Sizes:
    """How much to compute.

    Attributes:
        units: Values of N, with the number of steps alone and beside neighbors, where a run may
            take a hundred times as long.
        batch: B.
        rounds: How often.
        budget: Seconds after which no further round begins, for each row.
    """

    units: tuple[tuple[int, int, int], ...]
    batch: int
    rounds: int
    budget: float


FULL = Sizes(((128, 100, 40), (256, 60, 15), (512, 20, 5)), 10, 5, 20.0)
QUICK = Sizes(((128, 30, 10), (256, 10, 5)), 10, 3, 6.0)


@contextmanager
def neighbors(count: int) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Let other processes keep the cores busy for a while.

    Args:
        count: How many.

    Yields:
        The processes; they have ended afterwards.
    """
    command = [sys.executable, "-c", NEIGHBOR, str(os.getpid())]
    running: list[subprocess.Popen[bytes]] = []
    try:
        running += [subprocess.Popen(command) for _ in range(count)]
        yield running
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def as_one_share(call: Callable[[], Any]) -> Any:
    """Do something with all sequences in one share.

    Args:
        call: What measures a spectrum.

    Returns:
        What it returns.
    """
    with mock.patch.object(spectrum, "num_shares", return_value=1):
        return call()


def measure(sizes: Sizes, device: torch.device) -> Result:
    """Measure the section.

    Args:
        sizes: How much.
        device: The CPU.

    Returns:
        Two rows for each number of units: alone, and beside neighbors.
    """
    rows, cores = [], os.cpu_count() or 1
    with threads(cores):
        for units, *steps in sizes.units:
            module, driving = network("GRU", units), characters(sizes.batch, steps[0])
            for where, busy, count in zip(WHERE, (0, cores), steps, strict=True):
                inputs = driving[:, :count]
                run = partial(lyapunov_spectrum, module, inputs, warmup_steps=0)
                with torch.no_grad():
                    exact = Twin(module).exponents(inputs[:1])
                difference = largest_difference(run(), exact)
                calls: list[Callable[[], object]] = [partial(as_one_share, run), run]
                with neighbors(busy):
                    times = in_turn(calls, sizes.rounds, sizes.budget, WALL, warm_up=busy == 0)
                what = f"N = {units}, T = {count}, {where}: one share over shares"
                rows.append(Row(what, ratio(times, 0, 1), difference=difference))
    text = TEXT.format(batch=sizes.batch, count=cores)
    return Result("Shares side by side", text, rows)
