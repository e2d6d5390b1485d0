"""Memory that runs out inside the estimator, for real where that can be provoked."""

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import register_recurrence, unregister_recurrence
from lightning_lyap.callback import network_probe
from lightning_lyap.callback.errors import (
    LESS_MEMORY,
    describe,
    free_memory,
    guarded,
    ran_out_of_memory,
)
from tests.faults.runs import Loop, Outcome, outcome, strict, train


def tensor_too_large() -> None:
    torch.empty(1 << 48, dtype=torch.uint8)


def array_too_large() -> None:
    np.empty(1 << 60, dtype=np.uint8)


def device_full() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class Greedy(nn.Module):
    """A cell that holds a large tensor while the estimator steps it, and then wants too much."""

    ask: Callable[[], None]
    times = 0
    held: list["weakref.ref[Tensor]"]

    def __init__(self) -> None:
        super().__init__()
        self.inputs = nn.Linear(3, 6)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.inputs(x) + h / 2)


def greedy_step(cell: Greedy) -> Callable[[Tensor, Tensor], Tensor]:
    def step(x: Tensor, h: Tensor) -> Tensor:
        if Greedy.times > 0:
            Greedy.times -= 1
            large = torch.zeros(1000)
            Greedy.held.append(weakref.ref(large))
            Greedy.ask()
        return cell(x, h)

    return step


class GreedyLoop(Loop):
    cell = Greedy


@pytest.fixture(params=[device_full])
def _too_little_memory(request: Any) -> Iterator[None]:
    register_recurrence(
        Greedy, step=greedy_step, initial_state=lambda cell, size: torch.zeros(size, 6)
    )
    Greedy.ask, Greedy.times, Greedy.held = staticmethod(request.param), 2, []
    yield
    unregister_recurrence(Greedy)


@pytest.mark.grid(every=3)
@pytest.mark.parametrize(
    "_too_little_memory", [tensor_too_large, array_too_large, device_full], indirect=True
)
def test_one_warning_names_the_remedy_and_later_measurements_go_on(
    tmp_path: Path, _too_little_memory: None
) -> None:
    run = outcome(tmp_path, network=GreedyLoop)
    (said,) = run.said
    assert LESS_MEMORY in said
    assert "Training goes on" in said
    assert [failure["epoch"] for failure in run.history.failures] == [0.0, 1.0]
    assert run.history.epochs == [2.0, 3.0]


@pytest.mark.parametrize(
    "_too_little_memory", [tensor_too_large, array_too_large, device_full], indirect=True
)
def test_it_raises_if_asked_to(tmp_path: Path, _too_little_memory: None) -> None:
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        train(tmp_path, strict(num_steps=6), network=GreedyLoop)
    assert ran_out_of_memory(caught.value)


class Whole(Loop):
    """Calls a cell with whole sequences, which the hooks that watch it can't read."""

    cell = Greedy

    def forward(self, inputs: Tensor) -> Tensor:
        x = inputs.clone()
        Greedy.held.append(weakref.ref(x))
        return self.read_out(self.rnn(x, x.new_zeros(1)))


@pytest.mark.usefixtures("_too_little_memory")
@pytest.mark.parametrize("network", [GreedyLoop, Whole], ids=["estimator", "hooks"])
def test_a_failed_measurement_holds_no_tensors(tmp_path: Path, network: type[Loop]) -> None:
    """Not in the frames of a traceback either: no garbage collection is needed."""
    kept: list[bool] = []

    class Looking(network):  # type: ignore[valid-type, misc]
        def on_train_epoch_start(self) -> None:
            kept.extend(one() is not None for one in Greedy.held)

    gc.collect()
    gc.disable()
    try:
        run: Outcome = outcome(tmp_path, network=Looking, max_epochs=2)
    finally:
        gc.enable()
    assert len(run.history.failures) >= 2
    assert kept
    assert not any(kept)


def test_memory_that_ran_out_behind_another_error_is_seen() -> None:
    def no_forward_pass() -> None:
        try:
            tensor_too_large()
        except RuntimeError as error:
            raise ValueError("no forward pass") from error

    with pytest.raises(ValueError, match="no forward pass") as caught:
        no_forward_pass()
    assert ran_out_of_memory(caught.value)
    assert LESS_MEMORY in describe(caught.value, "measuring")
    assert not ran_out_of_memory(RuntimeError("something else"))


def test_memory_is_freed_after_it_ran_out_and_no_other_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    freed: list[int] = []
    errors = [ValueError("something else"), torch.OutOfMemoryError("CUDA out of memory")]
    monkeypatch.setattr(network_probe, "free_memory", lambda: freed.append(len(errors)))

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise errors.pop(0)

    monkeypatch.setattr(network_probe, "estimate_spectra", fail)
    outcome(tmp_path, max_epochs=1)
    assert freed == [0]


def test_memory_that_ran_out_in_a_hook_is_freed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    freed: list[bool] = []

    def fail(*args: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(network_probe, "free_memory", lambda: freed.append(True))
    monkeypatch.setattr("lightning_lyap.network.sequences.Recording._state_row", fail)
    run = outcome(tmp_path, max_epochs=1)
    assert LESS_MEMORY in run.history.failures[0]["message"]
    assert freed == [True] * 2


@pytest.mark.parametrize("initialized", [True, False])
def test_what_cuda_cached_goes_back_to_the_device(
    monkeypatch: pytest.MonkeyPatch, initialized: bool
) -> None:
    """And CUDA is not started for that."""
    emptied: list[bool] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: initialized)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    free_memory()
    assert emptied == [True] * initialized


def test_an_error_of_the_user_that_came_before_stays_whole() -> None:
    said: list[str] = []
    kept: list[BaseException] = []
    try:
        raise KeyError("the user's")
    except KeyError as error:
        kept.append(error)
        with guarded("warn", "measuring", said.append):
            tensor_too_large()
    assert kept[0].__traceback__ is not None
    assert len(said) == 1
