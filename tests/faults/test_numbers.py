"""Weights and states that are not finite."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import LyapunovSpectrumCallback
from tests.faults.runs import FEATURES, ReadOutTrains, outcome, strict, train
from tests.networks import Windows

LOST = "No complete Lyapunov spectrum from this validation: RuntimeError while measuring: none of "


class Sick(ReadOutTrains):
    """Has recurrent weights that are not finite, until its second epoch."""

    bad = math.nan

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(FEATURES, 6, nonlinearity="relu", batch_first=True)
        self.rnn.get_parameter("weight_hh_l0").data.fill_(type(self).bad)

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 1:
            self.rnn.get_parameter("weight_hh_l0").data.copy_(torch.eye(6) / 2)
            self.rnn.get_parameter("bias_hh_l0").data.fill_(9.0)  # no unit is dead


class Infinite(Sick):
    bad = math.inf


class Exploding(Sick):
    """Overflows on the way: finite weights, finite states at first."""

    bad = 1e8


@pytest.mark.parametrize(
    ("network", "figures"), [(Sick, True), (Infinite, False), (Exploding, False)]
)
def test_what_is_not_finite_is_one_warning_and_a_counted_gap(
    tmp_path: Path, network: type[Sick], figures: bool
) -> None:
    callback = LyapunovSpectrumCallback(figures=figures)
    run = outcome(tmp_path, callback=callback, network=network)
    (said,) = run.said
    assert said.startswith(LOST + "the sequences of 'rnn' stayed finite")
    assert "dtype='float64'" in said
    history = run.history
    assert [failure["epoch"] for failure in history.failures] == [0.0, 1.0]
    assert [spectrum.num_sequences for spectrum in history.spectra] == [0, 0, 10, 10]
    logged = run.trainer.callback_metrics
    torch.testing.assert_close(logged["lyapunov/max"].double(), history.exponents()[-1, 0])


@pytest.mark.parametrize("network", [Sick, Infinite, Exploding])
def test_what_is_not_finite_raises_if_asked_to(tmp_path: Path, network: type[Sick]) -> None:
    with pytest.raises(RuntimeError, match="none of the sequences of 'rnn' stayed finite"):
        train(tmp_path, strict(), network=network)


def test_nothing_is_logged_of_a_spectrum_that_is_lost(tmp_path: Path) -> None:
    """A count of positive exponents among NaN would be an invented number."""
    run = outcome(tmp_path, network=Sick, max_epochs=1)
    assert not [key for key in run.trainer.callback_metrics if key.startswith("lyapunov")]


class Steady(ReadOutTrains):
    """No unit is dead, and sums of huge inputs overflow."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(FEATURES, 6, nonlinearity="relu", batch_first=True)
        self.rnn.get_parameter("weight_ih_l0").data.fill_(1.0)
        self.rnn.get_parameter("weight_hh_l0").data.copy_(torch.eye(6) / 2)
        self.rnn.get_parameter("bias_hh_l0").data.fill_(9.0)


class HalfHuge(Windows):
    """Offers windows of which every other one is huge."""

    def lyapunov_sequences(self, num_sequences: int, num_steps: int) -> Tensor:
        windows = super().lyapunov_sequences(num_sequences, num_steps)
        huge = 3e38 * torch.linspace(0.9, 1, len(windows[1::2]))
        windows[1::2] = huge.reshape(-1, 1, 1)
        return windows


def test_some_sequences_lost_are_one_warning_and_the_rest_is_measured(tmp_path: Path) -> None:
    run = outcome(tmp_path, network=Steady, datamodule=HalfHuge)
    (said,) = run.said
    assert said.startswith("5 of the sequences of 'rnn' did not stay finite and are left out")
    assert [spectrum.num_sequences for spectrum in run.history.spectra] == [5] * 4
    assert run.history.failures == []
