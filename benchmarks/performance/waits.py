"""What the host waits for inside the time loop of a spectrum, by torch's profiler."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from lightning_lyap import lyapunov_spectrum
from lightning_lyap.dynamics.stacked import StackedRecurrence
from lightning_lyap.estimator.schedule import Interval
from lightning_lyap.estimator.trajectories import Trajectories
from performance.networks import characters
from performance.table import Bar, Result, Row
from performance.timing import Spread
from performance.training import char_rnn

TEXT = (
    "How often the host waits for the device in the time loop of a spectrum (LSTM of {units} "
    'units, a CharRNN as it starts, `state="hidden"`, B = {batch}, T = {steps}, float32), by '
    "torch's profiler in one run: calls of the runtime that synchronize. The loop ends with the "
    "question whether the factorizations hold, which waits; with 128 of them or more it is asked "
    "on the way, too. An automatic interval looks at every factorization."
)
LOOP, STEP = "time loop", "time step"
# Calls of the runtime that wait for the device; every copy that torch waits for makes one of them.
WAITING = "Synchronize"


@dataclass(frozen=True)
class Sizes:
    """How much to compute.

    Attributes:
        units: H.
        batch: B.
        steps: T.
        intervals: Steps between factorizations.
    """

    units: int
    batch: int
    steps: int
    intervals: tuple[Interval, ...] = (1, "auto")


FULL = Sizes(512, 10, 10)
QUICK = Sizes(128, 4, 8)


@dataclass(frozen=True)
class Waits:
    """How often the host waited in one run.

    Attributes:
        steps: Steps of the time loop, those that were taken back included.
        between: Waits from the beginning of the first step to the end of the last.
        loop: Waits in all of the loop.
        named: Calls of the runtime that waited in the loop and copies to the host, by name.
    """

    steps: int
    between: int
    loop: int
    named: dict[str, int]


@contextmanager
def marked() -> Iterator[None]:
    """Let the time loop and its steps show in profiles.

    Yields:
        None.
    """
    go, step = Trajectories.go, StackedRecurrence.step_with_basis

    def watched_loop(*given: Any) -> None:
        with record_function(LOOP):
            go(*given)

    def watched_step(*given: Any) -> Any:
        with record_function(STEP):
            return step(*given)

    with (
        mock.patch.object(Trajectories, "go", watched_loop),
        mock.patch.object(StackedRecurrence, "step_with_basis", watched_step),
    ):
        yield


def recorded(call: Callable[[], Any], device: torch.device) -> profile:
    """Profile a spectrum, after a first one that is not.

    Args:
        call: What measures it.
        device: Where.

    Returns:
        The profile.
    """
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with marked():
        call()
        with profile(activities=activities) as found:
            call()
    return found


def count_waits(events: Iterable[Any]) -> Waits:
    """Count the waits in a profile.

    Args:
        events: Of the profile: each with a name, its time and the type of its device.

    Returns:
        The counts.

    Raises:
        ValueError: If there is no time loop with a step in it.
    """
    events = list(events)
    # A mark shows a second time on the device.
    host = [event for event in events if event.device_type == DeviceType.CPU]
    loops = [event.time_range for event in host if event.name == LOOP]

    def inside(event: Any) -> bool:
        return any(loop.start <= event.time_range.start <= loop.end for loop in loops)

    steps = [event.time_range for event in host if event.name == STEP and inside(event)]
    if not steps:
        raise ValueError(
            "Expected a profile of a time loop and its steps, but got none. Take `recorded`."
        )
    waits = [event for event in host if WAITING in event.name and inside(event)]
    first, last = min(step.start for step in steps), max(step.end for step in steps)
    between = sum(first <= event.time_range.start <= last for event in waits)
    copies = [event for event in events if "Memcpy DtoH" in event.name and inside(event)]
    names = [event.name for event in (*waits, *copies)]
    named = {name: names.count(name) for name in dict.fromkeys(names)}
    return Waits(len(steps), between, len(waits), named)


def seen(found: Waits, device: torch.device) -> Waits:
    """Refuse counts that the profiler cannot have made: on a GPU the loop ends with a wait.

    Args:
        found: The counts.
        device: Where.

    Returns:
        The counts.

    Raises:
        RuntimeError: If there are none where there must be one.
    """
    if device.type == "cuda" and found.loop == 0:
        raise RuntimeError(
            f"Expected the question at the end of the loop among the calls named *{WAITING}*, but "
            "got no wait at all: the profiler saw none. Look at what `torch.profiler` records of "
            "the CUDA runtime on this machine."
        )
    return found


def measure(sizes: Sizes, device: torch.device) -> Result:
    """Measure the section.

    Args:
        sizes: How much.
        device: The GPU.

    Returns:
        Two rows for each interval: on the way, and with the question at the end.
    """
    lstm = char_rnn(sizes.units).rnn.to(device)
    inputs = characters(sizes.batch, sizes.steps).to(device)
    rows = []
    for every in sizes.intervals:

        def call(every: Interval = every) -> Any:
            return lyapunov_spectrum(
                lstm, inputs, state="hidden", orthonormalize_every=every, warmup_steps=0
            )

        found = seen(count_waits(recorded(call, device).events() or ()), device)
        what = f"interval {every}: waits from the first step to the last of {found.steps}"
        # Automatic intervals look at every factorization, by design.
        bar = None if every == "auto" else Bar("<=", 0)
        rows.append(Row(what, _once(found.between), bar))
        rows.append(Row(f"interval {every}: waits in all of the loop", _once(found.loop)))
    text = TEXT.format(units=sizes.units, batch=sizes.batch, steps=sizes.steps)
    return Result("What the host waits for", text, rows)


def _once(value: float) -> Spread:
    """Return the spread of a number that was measured once."""
    return Spread(value, value, value, 1)
