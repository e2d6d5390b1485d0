"""Networks of several recurrent modules, of which some can't be measured: the others are."""

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import LyapunovSpectrumCallback
from lightning_lyap.callback import network_probe
from lightning_lyap.callback.measurement import estimate_spectra
from tests.faults.runs import EPOCHS, outcome, strict, train
from tests.networks import FEATURES, Predictor, Windows

pytestmark = pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
MEASUREMENTS = EPOCHS + 1


class OnlyInTraining(Predictor):
    """Has a module that no validation calls."""

    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.GRU(FEATURES, 3, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.rnn(inputs)[0]
        return self.read_out(hidden + self.extra(inputs)[0].mean() if self.training else hidden)


class StepByStep(OnlyInTraining):
    """Has another one that is called for a single step."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.GRU(FEATURES, 6, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        self.steps(inputs[:, :1])
        return super().forward(inputs)


class TwoParts(Predictor):
    """Calls both its modules."""

    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.GRU(FEATURES, 6, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.read_out(self.rnn(inputs)[0] + self.extra(inputs)[0])


class LastIsSound(TwoParts):
    """Does not call the first of its modules in validations."""

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.extra(inputs)[0]
        return self.read_out(hidden + self.rnn(inputs)[0] if self.training else hidden)


class StatefulFirst(TwoParts):
    """Gives the first of its modules what the other does not get: a state."""

    def forward(self, inputs: Tensor) -> Tensor:
        first = self.rnn(inputs, inputs.new_zeros(1, len(inputs), 6))[0]
        return self.read_out(first + self.extra(inputs)[0])


def test_a_module_that_no_validation_calls_costs_the_others_nothing(tmp_path: Path) -> None:
    named = LyapunovSpectrumCallback(num_steps=6, figures=False, save=False, modules="rnn")
    alone = outcome(tmp_path / "alone", callback=named, network=OnlyInTraining).histories["rnn"]
    run = outcome(tmp_path / "both", network=OnlyInTraining)
    (said,) = run.said
    assert said.startswith("No complete Lyapunov spectrum from this validation: RuntimeError while")
    assert "the module 'extra' to be called" in said
    assert "`modules=[...]`" in said
    assert torch.equal(run.histories["rnn"].exponents(), alone.exponents())
    assert run.histories["rnn"].failures == []
    epochs = [failure["epoch"] for failure in run.histories["extra"].failures]
    assert epochs == [0.0, 1.0, 2.0, 3.0]
    assert len(run.histories["extra"]) == 0
    logged = run.trainer.callback_metrics
    assert logged["lyapunov/rnn/max"] == pytest.approx(float(alone.exponents()[-1, 0]))
    assert not [key for key in logged if key.startswith("lyapunov/extra")]
    assert "lyapunov/max" not in logged  # keys do not depend on what fails


def test_each_module_that_fails_is_named_once(tmp_path: Path) -> None:
    run = outcome(tmp_path, network=StepByStep)
    extra, steps = sorted(run.said)
    assert "the module 'extra' to be called" in extra
    assert "the module 'steps' to receive sequences" in steps
    assert {name: len(history) for name, history in run.histories.items()} == {
        "rnn": MEASUREMENTS,
        "extra": 0,
        "steps": 0,
    }


def test_a_module_that_fails_raises_if_asked_to(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the module 'extra' to be called"):
        train(tmp_path, strict(), network=OnlyInTraining)
    train(tmp_path, strict(modules="rnn"), network=OnlyInTraining, max_epochs=1)


class SilentError(RuntimeError):
    """Fails when it is asked what it says."""

    def __str__(self) -> str:
        raise ValueError("no text")


def test_an_error_without_a_text_is_counted_like_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def estimate(modules: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        raise SilentError

    monkeypatch.setattr(network_probe, "estimate_spectra", estimate)
    (said,) = outcome(tmp_path, network=TwoParts).said
    assert "SilentError while measuring: <exception str() failed>" in said


def test_the_order_of_histories_is_that_of_the_modules(tmp_path: Path) -> None:
    run = outcome(tmp_path, network=StepByStep)
    assert list(run.histories) == ["rnn", "extra", "steps"]
    both = outcome(tmp_path, network=LastIsSound)
    assert list(both.histories) == ["rnn", "extra"]


@pytest.mark.parametrize("where", ["hook", "estimate"])
def test_a_module_that_failed_holds_no_tensors_while_the_next_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    held: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def fail(*args: Any) -> Any:
        large = torch.ones(9)
        held.append(weakref.ref(large))
        raise RuntimeError("broken on purpose")

    def row(recording: Any, state: Any, *args: Any) -> Any:
        return None if state is None else fail()

    def estimate(modules: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if where == "estimate" and "rnn" in modules:
            fail()
        alive.extend(one() is not None for one in held)
        return estimate_spectra(modules, *args, **kwargs)

    monkeypatch.setattr(network_probe, "estimate_spectra", estimate)
    if where == "hook":
        monkeypatch.setattr("lightning_lyap.network.sequences.Recording._state_row", row)
    gc.collect()
    gc.disable()
    try:
        run = outcome(tmp_path, network=StatefulFirst, max_epochs=1)
    finally:
        gc.enable()
    assert [len(run.histories[name]) for name in ("rnn", "extra")] == [0, 2]
    assert len(held) == 2
    assert alive
    assert not any(alive)


@pytest.mark.parametrize("broken", ["rnn", "extra"])
def test_an_estimate_that_fails_costs_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def estimate(modules: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if broken in modules:
            raise RuntimeError("broken on purpose")
        return estimate_spectra(modules, *args, **kwargs)

    monkeypatch.setattr(network_probe, "estimate_spectra", estimate)
    run = outcome(tmp_path, network=TwoParts)
    (said,) = run.said
    assert "broken on purpose" in said
    other = {"rnn": "extra", "extra": "rnn"}[broken]
    assert [len(run.histories[name]) for name in (broken, other)] == [0, MEASUREMENTS]
    counts = [len(run.histories[name].failures) for name in (broken, other)]
    assert counts == [MEASUREMENTS, 0]


def test_an_input_that_can_not_be_read_costs_the_others_nothing(tmp_path: Path) -> None:
    class Odd(TwoParts):
        """Gives one of its modules what is no sequence."""

        def __init__(self) -> None:
            super().__init__()
            self.extra.forward = lambda inputs: (inputs[0].mean(),)  # type: ignore[assignment]

        def forward(self, inputs: Tensor) -> Tensor:
            first = self.extra([inputs])[0]
            return self.read_out(self.rnn(inputs)[0] + first)

    run = outcome(tmp_path, network=Odd)
    (said,) = run.said
    assert "read the inputs of a recurrent module, 'extra', but failed" in said
    assert [len(run.histories[name]) for name in ("rnn", "extra")] == [MEASUREMENTS, 0]


def test_a_reason_that_all_share_is_told_once(tmp_path: Path) -> None:
    class Broken(Windows):
        def lyapunov_sequences(self, num_sequences: int, num_steps: int) -> Tensor:
            return super().lyapunov_sequences(num_sequences, num_steps)[..., 1:]

    run = outcome(tmp_path, network=TwoParts, datamodule=Broken)
    (said,) = run.said
    assert "RuntimeError while measuring" in said
    failures = [run.histories[name].failures for name in ("rnn", "extra")]
    assert failures[0] == failures[1]
    assert len(failures[0]) == MEASUREMENTS
