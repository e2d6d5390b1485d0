"""Rounds of a probe: watched where they are due, measured once, and nothing kept of a failure."""

import gc
import weakref
from contextlib import nullcontext, suppress
from types import SimpleNamespace
from typing import Any

import pytest
from torch import Tensor, nn

from lightning_lyap.callback import network_probe
from lightning_lyap.callback.errors import WarnOnce
from lightning_lyap.callback.failures import Failures
from lightning_lyap.callback.measurement import estimate_spectra
from lightning_lyap.callback.network_probe import NetworkProbe
from lightning_lyap.callback.run_histories import RunHistories
from lightning_lyap.estimator.settings import MeasurementSettings
from tests.networks import Predictor, Windows, sequences

SETTINGS = MeasurementSettings(2, 6, 0, 1, None, "full", "joint", None)


def fake_trainer(network: nn.Module, datamodule: Any = None) -> Any:
    return SimpleNamespace(
        lightning_module=network,
        datamodule=datamodule,
        global_rank=0,
        world_size=1,
        is_global_zero=True,
        progress_bar_callback=None,
        strategy=SimpleNamespace(
            reduce_boolean_decision=lambda decision, all: decision,
            broadcast=lambda reason, src: reason,
            batch_to_device=lambda batch: batch,
        ),
        precision_plugin=SimpleNamespace(
            convert_input=lambda batch: batch, forward_context=nullcontext
        ),
    )


def probe_of(trainer: Any) -> NetworkProbe:
    warn_once = WarnOnce()
    failures = Failures(trainer, RunHistories(SETTINGS.as_dict(), warn_once), "raise", warn_once)
    return NetworkProbe(trainer, trainer.lightning_module, None, SETTINGS, failures)


@pytest.mark.parametrize("due", [True, False])
def test_modules_are_watched_in_a_round_that_is_due(due: bool) -> None:
    network = Predictor()
    probe = probe_of(fake_trainer(network))
    probe.begin(due)
    assert probe.is_due == probe.source.is_ready == bool(network.rnn._forward_pre_hooks) == due
    probe.source.stop()
    assert not network.rnn._forward_pre_hooks


def test_a_round_is_measured_once_and_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        asked.append(kwargs)
        return estimate_spectra(*args, **kwargs)

    monkeypatch.setattr(network_probe, "estimate_spectra", counted)
    network = Predictor()
    trainer = fake_trainer(network, Windows())
    probe = probe_of(trainer)
    probe.begin(due=True)
    measured = probe.measure()
    assert probe.take() is measured
    assert list(measured.by_module) == ["rnn"]
    assert measured.by_module["rnn"].spectrum.num_sequences == 2
    assert measured.seconds >= measured.by_module["rnn"].seconds > 0
    assert len(asked) == 1
    assert probe.take() is not measured
    assert len(asked) == 2


def test_what_was_measured_in_a_round_that_broke_off_is_not_taken_in_the_next() -> None:
    network = Predictor()
    trainer = fake_trainer(network)
    probe = probe_of(trainer)
    spectra = []
    for _ in range(2):
        probe.begin(due=True)
        network(sequences(1).tensors[0])
        spectra.append(probe.measure())
    probe.begin(due=True)
    network(sequences(1).tensors[0])
    assert probe.take() not in spectra


def test_an_error_that_is_raised_keeps_nothing_once_it_was_handled() -> None:
    """No frame of ours holds the error that holds it: no garbage collection is needed."""
    held: list[weakref.ref[Tensor]] = []

    class Failing(Predictor):
        def forward(self, inputs: Tensor) -> Tensor:
            large = inputs.clone()
            held.append(weakref.ref(large))
            raise RuntimeError("broken on purpose")

    network = Failing()
    trainer = fake_trainer(network, Windows())
    probe = probe_of(trainer)
    gc.collect()
    gc.disable()
    try:
        with suppress(RuntimeError):
            probe.measure()
        assert [one() for one in held] == [None]
    finally:
        gc.enable()
