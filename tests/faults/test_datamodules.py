"""DataModules whose `lyapunov_sequences` raises, or returns what is no batch."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_lyap import LyapunovSpectrumCallback
from tests.faults.runs import EPOCHS, outcome, strict, train
from tests.networks import FEATURES, Windows


class Raising(Windows):
    def lyapunov_sequences(self, num_sequences: int, num_steps: int) -> Any:
        torch.rand(3)
        raise KeyError("no such split")


class Nothing(Windows):
    def lyapunov_sequences(self, num_sequences: int, num_steps: int) -> Any:
        return None


class Text(Windows):
    def lyapunov_sequences(self, num_sequences: int, num_steps: int) -> Any:
        return ["a", "b"]


class OtherFeatures(Windows):
    def lyapunov_sequences(self, num_sequences: int, num_steps: int) -> Any:
        return torch.zeros(num_sequences, num_steps, FEATURES + 1)


class TwoArguments(Windows):
    def lyapunov_sequences(self, num_sequences: int, num_steps: int) -> Any:
        return torch.zeros(num_sequences, num_steps, FEATURES), torch.zeros(num_sequences)


CASES = [
    (Raising, "KeyError while asking the DataModule: 'no such split'", KeyError),
    (Nothing, "a tuple of tensors, one row a sequence, but got NoneType", TypeError),
    (Text, "a tuple of tensors, one row a sequence, but got list", TypeError),
    (OtherFeatures, "input.size(-1) must be equal to input_size", RuntimeError),
    (TwoArguments, "takes 2 positional arguments but 3 were given", TypeError),
]


@pytest.mark.parametrize(("datamodule", "message", "error"), CASES)
def test_windows_that_are_none_are_one_warning_and_a_counted_gap(
    tmp_path: Path, datamodule: type[Windows], message: str, error: type[Exception]
) -> None:
    run = outcome(tmp_path, datamodule=datamodule)
    (said,) = run.said
    assert said.startswith("No complete Lyapunov spectrum from this validation: ")
    assert message in said
    assert len(run.history.failures) == EPOCHS + 1
    assert len(run.history) == 0


@pytest.mark.parametrize(("datamodule", "message", "error"), CASES)
def test_windows_that_are_none_raise_if_asked_to(
    tmp_path: Path, datamodule: type[Windows], message: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        train(tmp_path, strict(), datamodule=datamodule)


class TooFew(Windows):
    def lyapunov_sequences(self, num_sequences: int, num_steps: int) -> Any:
        return super().lyapunov_sequences(num_sequences - 1, num_steps)


class TooShort(Windows):
    def lyapunov_sequences(self, num_sequences: int, num_steps: int) -> Any:
        raise ValueError(f"Expected recordings of {num_steps} steps, but got 7")


@pytest.mark.parametrize("on_error", ["warn", "raise"])
@pytest.mark.parametrize(
    ("datamodule", "message"), [(TooFew, "return 10 sequences"), (TooShort, "but got 7")]
)
def test_settings_that_ask_for_more_than_there_is_raise_in_any_case(
    tmp_path: Path, datamodule: type[Windows], message: str, on_error: Any
) -> None:
    callback = LyapunovSpectrumCallback(on_error=on_error)
    with pytest.raises(ValueError, match=message):
        train(tmp_path, callback, datamodule=datamodule)
