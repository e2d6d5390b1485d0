"""What the host waits for: counted where it is, and nowhere else."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._C._autograd import DeviceType
from torch.profiler import record_function

from lightning_lyap.dynamics.stacked import StackedRecurrence
from lightning_lyap.estimator.trajectories import Trajectories
from performance import waits

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
WAIT = "cudaStreamSynchronize"


def event(name: str, start: float, end: float, device: Any = DeviceType.CPU) -> Any:
    time_range = SimpleNamespace(start=start, end=end)
    return SimpleNamespace(name=name, time_range=time_range, device_type=device)


LOOP = [
    event(waits.LOOP, 10, 50),
    event(waits.STEP, 12, 14),
    event(waits.STEP, 30, 32),
]


@pytest.mark.parametrize(
    ("start", "between", "loop"),
    [(5, 0, 0), (11, 0, 1), (13, 1, 1), (20, 1, 1), (31, 1, 1), (40, 0, 1), (60, 0, 0)],
)
def test_a_wait_counts_where_it_is(start: float, between: int, loop: int) -> None:
    found = waits.count_waits([*LOOP, event(WAIT, start, start + 1)])
    assert (found.steps, found.between, found.loop) == (2, between, loop)
    assert found.named == ({WAIT: 1} if loop else {})


def test_what_is_no_wait_does_not_count() -> None:
    names = ("cudaLaunchKernel", "cudaMemcpyAsync", "aten::item", "cudaEventRecord")
    others = [event(name, 20, 21) for name in names]
    copy = event("Memcpy DtoH (Device -> Pinned)", 22, 23, DeviceType.CUDA)
    # What a mark shows on the device, later than on the host.
    late = [event(name, 40, 70, DeviceType.CUDA) for name in (waits.LOOP, waits.STEP)]
    after = event(WAIT, 60, 61)
    found = waits.count_waits([*LOOP, *others, copy, *late, after])
    assert (found.steps, found.between, found.loop) == (2, 0, 0)
    assert found.named == {copy.name: 1}


def test_a_profile_without_a_loop_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected a profile of a time loop"):
        waits.count_waits([event(waits.STEP, 1, 2), event(WAIT, 1, 2)])


def test_a_profiler_that_sees_nothing_on_a_gpu_is_refused() -> None:
    found = waits.count_waits(LOOP)
    assert waits.seen(found, CPU) is found
    with pytest.raises(RuntimeError, match="the profiler saw none"):
        waits.seen(found, CUDA)
    asked = waits.count_waits([*LOOP, event(WAIT, 45, 46)])
    assert waits.seen(asked, CUDA).between == 0


TOY = waits.Sizes(6, 2, 5, (1,))


def test_on_the_cpu_nothing_waits() -> None:
    result = waits.measure(waits.Sizes(6, 2, 5, (1, "auto")), CPU)
    assert [row.found.median for row in result.rows] == [0] * 4
    assert [row.line().split(" | ")[5] for row in result.rows] == ["met", "-", "-", "-"]
    assert "{" not in result.text


def test_waits_of_steps_and_of_the_end_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    go, step, taken = Trajectories.go, StackedRecurrence.step_with_basis, []

    def waiting_step(*given: Any) -> Any:
        taken.append(1)
        with record_function(WAIT):
            return step(*given)

    def waiting_end(*given: Any) -> None:
        go(*given)
        with record_function(WAIT):
            pass

    monkeypatch.setattr(StackedRecurrence, "step_with_basis", waiting_step)
    monkeypatch.setattr(Trajectories, "go", waiting_end)
    asked: list[torch.device] = []

    def seen(found: waits.Waits, device: torch.device) -> waits.Waits:
        asked.append(device)
        return found

    monkeypatch.setattr(waits, "seen", seen)
    between, loop = waits.measure(TOY, CPU).rows
    assert (between.found.median, loop.found.median) == (5, 6)
    assert between.line().split(" | ")[5] == "not met"
    assert asked == [CPU]
    assert len(taken) > 2 * 5  # the checks take steps, too, outside of the loop
