"""Times measured in turn, so that what slows the machine for a while slows all of them."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch

Call = Callable[[], object]
SHORTEST = 0.02  # seconds; what is quicker is repeated until it takes this long


def _no_wait() -> None:
    """Wait for nothing: on the CPU a call that returns is done."""


@dataclass(frozen=True)
class Stopwatch:
    """How time is taken.

    Attributes:
        clock: Returns seconds. Default: of the processor, which other work does not count in.
        wait: Waits until the device has done what it was given.
        shortest: Seconds; what is quicker is repeated until it takes this long.
    """

    clock: Callable[[], float] = time.process_time
    wait: Callable[[], None] = _no_wait
    shortest: float = SHORTEST

    def seconds(self, call: Call) -> float:
        """Time a call, several of it if it is quick.

        Args:
            call: What to time.

        Returns:
            Seconds per call.
        """
        self.wait()
        start, count = self.clock(), 0
        while True:
            call()
            self.wait()
            count += 1
            passed = self.clock() - start
            if passed > self.shortest:
                return passed / count


WALL = Stopwatch(time.perf_counter)


def stopwatch_of(device: torch.device) -> Stopwatch:
    """Return the way to take times on a device.

    Args:
        device: The device.

    Returns:
        Processor time on the CPU; elsewhere the wall clock, after the device is done.
    """
    if device.type == "cpu":
        return Stopwatch()
    return Stopwatch(time.perf_counter, torch.cuda.synchronize)


def in_turn(
    calls: Sequence[Call],
    rounds: int,
    budget: float = float("inf"),
    stopwatch: Stopwatch | None = None,
    warm_up: bool = True,
) -> list[list[float]]:
    """Time calls in turn, round after round.

    Args:
        calls: What to time.
        rounds: How often, at least once.
        budget: Seconds after which no further round begins.
        stopwatch: How. Default: processor time.
        warm_up: Whether to call each once before.

    Returns:
        Seconds ``[round][call]``.
    """
    stopwatch = stopwatch or Stopwatch()
    begin = stopwatch.clock()
    times: list[list[float]] = []
    for call in calls if warm_up else ():
        call()
    while len(times) < rounds and (not times or stopwatch.clock() - begin < budget):
        times.append([stopwatch.seconds(call) for call in calls])
    return times


def interleaved(
    calls: Sequence[Call], rounds: int, budget: float = float("inf")
) -> list[list[float]]:
    """Compare the processor times of calls.

    Args:
        calls: What to time.
        rounds: How often.
        budget: Seconds of the processor after which no further round begins.

    Returns:
        Median ratios ``[i][j]``: time of call i over time of call j.
    """
    times = in_turn(calls, rounds, budget)
    span = range(len(calls))
    return [[ratio(times, i, j).median for j in span] for i in span]


class Spread(NamedTuple):
    """What came of several rounds.

    Attributes:
        median: Of the rounds.
        lowest: Of the rounds.
        highest: Of the rounds.
        rounds: Their number.
    """

    median: float
    lowest: float
    highest: float
    rounds: int

    @staticmethod
    def of(values: Iterable[float]) -> "Spread":
        """Summarize values.

        Args:
            values: One for each round, at least one.

        Returns:
            Median and spread.

        Example:
            >>> Spread.of([3.0, 1.0, 2.0, 10.0])
            Spread(median=2.5, lowest=1.0, highest=10.0, rounds=4)
        """
        found = sorted(values)
        return Spread(statistics.median(found), found[0], found[-1], len(found))


def ratio(times: list[list[float]], over: int, under: int) -> Spread:
    """Compare two calls round by round.

    Args:
        times: Seconds ``[round][call]``.
        over: Index of the call whose time is divided.
        under: Index of the call by whose time it is divided.

    Returns:
        The ratios of the rounds.

    Example:
        >>> ratio([[2.0, 1.0], [6.0, 2.0]], 0, 1)
        Spread(median=2.5, lowest=2.0, highest=3.0, rounds=2)
    """
    return Spread.of(row[over] / row[under] for row in times)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use this many threads.

    Args:
        count: At least 1.

    Yields:
        None.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
