"""Modules that have no spectrum, or whose spectrum can't be measured."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import (
    LyapunovSpectrumCallback,
    register_recurrence,
    unregister_recurrence,
)
from tests.faults.runs import EPOCHS, Loop, outcome, strict, train
from tests.networks import FEATURES, Predictor

pytestmark = pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")


class Bidirectional(Predictor):
    """Has no other recurrence than one that runs in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(FEATURES, 3, batch_first=True, bidirectional=True)


class Beside(Predictor):
    """Has one that runs forward, too."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.GRU(FEATURES, 3, batch_first=True, bidirectional=True)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.read_out(self.rnn(inputs)[0] + self.both(inputs)[0])


@pytest.mark.parametrize(
    ("network", "name", "measured"), [(Bidirectional, "rnn", 0), (Beside, "both", EPOCHS + 1)]
)
def test_a_module_without_a_spectrum_is_one_warning_and_a_counted_gap(
    tmp_path: Path, network: type[Predictor], name: str, measured: int
) -> None:
    run = outcome(tmp_path, network=network)
    (said,) = run.said
    assert said.startswith(f"No Lyapunov spectrum for '{name}': a bidirectional module is no")
    assert "`modules=[...]`" in said
    history = run.histories.pop(name)
    assert [failure["epoch"] for failure in history.failures] == [0.0, 1.0, 2.0, 3.0]
    assert len(history) == 0
    assert [len(other) for other in run.histories.values()] == [measured] * len(run.histories)
    logged = [key for key in run.trainer.callback_metrics if key.startswith("lyapunov/max")]
    assert bool(logged) == bool(measured)


@pytest.mark.parametrize("network", [Bidirectional, Beside])
def test_a_module_without_a_spectrum_raises_before_training_if_asked_to(
    tmp_path: Path, network: type[Predictor]
) -> None:
    with pytest.raises(ValueError, match=r"a bidirectional module .* `modules=\[...\]`"):
        train(tmp_path, strict(), network=network)
    if network is Beside:
        train(tmp_path, strict(modules="rnn"), network=network, max_epochs=1)


@pytest.mark.parametrize("on_error", ["warn", "raise"])
@pytest.mark.parametrize(
    ("network", "arguments", "message"),
    [
        (Bidirectional, {"modules": "rnn"}, "got a bidirectional GRU"),
        (Predictor, {"modules": ["gru"]}, r"among \['rnn'\], but got 'gru'"),
        (Predictor, {"modules": []}, "at least one module, but got none"),
    ],
)
def test_wrong_arguments_are_said_before_training_in_any_case(
    tmp_path: Path, network: Any, arguments: dict[str, Any], message: str, on_error: Any
) -> None:
    callback = LyapunovSpectrumCallback(on_error=on_error, **arguments)
    with pytest.raises(ValueError, match=message):
        train(tmp_path, callback, network=network)


class Own(nn.Module):
    """A cell of a type that a test registers."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = nn.Linear(FEATURES, 6)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.inputs(x) + h / 2)


class OwnLoop(Loop):
    cell = Own


def too_wide(cell: Own) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, h: torch.cat([cell(x, h), h], dim=-1)


def no_state(cell: Own) -> Callable[[Tensor, Tensor], Any]:
    return lambda x, h: None


def no_step(cell: Own) -> Any:
    return "a step"


@pytest.fixture(params=[too_wide, no_state, no_step])
def _wrong_step(request: Any) -> Iterator[None]:
    register_recurrence(
        Own, step=request.param, initial_state=lambda cell, size: torch.zeros(size, 6)
    )
    yield
    unregister_recurrence(Own)


@pytest.mark.usefixtures("_wrong_step")
def test_a_step_of_a_wrong_form_is_one_warning_and_a_counted_gap(tmp_path: Path) -> None:
    run = outcome(tmp_path, network=OwnLoop)
    (said,) = run.said
    assert said.startswith("No complete Lyapunov spectrum from this validation: ")
    assert "Error while measuring: Expected " in said
    assert len(run.history.failures) == EPOCHS + 1
    assert len(run.history) == 0


@pytest.mark.usefixtures("_wrong_step")
def test_a_step_of_a_wrong_form_raises_if_asked_to(tmp_path: Path) -> None:
    with pytest.raises((TypeError, ValueError), match="Expected "):
        train(tmp_path, strict(), network=OwnLoop)
