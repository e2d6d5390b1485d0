"""An interrupt or an exit in the middle of a measurement passes, and leaves nothing behind."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from lightning_lyap import LyapunovSpectrumCallback
from lightning_lyap.callback import network_probe
from lightning_lyap.callback.network_probe import NetworkProbe
from tests.faults.runs import bits
from tests.networks import Predictor, Windows, trainer, val_loader


def modes(network: nn.Module) -> list[bool]:
    return [part.training for part in network.modules()]


def generators() -> tuple[Any, ...]:
    legacy = np.random.get_state(legacy=False)  # noqa: NPY002
    return torch.get_rng_state().tolist(), random.getstate(), str(legacy)


@pytest.mark.parametrize("on_error", ["warn", "raise"])
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["estimator", "forward pass"])
def test_an_interrupt_passes_and_everything_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, interrupt: Any, on_error: Any
) -> None:
    def stop(*args: Any, **kwargs: Any) -> None:
        torch.rand(7), random.random(), np.random.rand()  # noqa: NPY002
        raise interrupt

    states: list[Any] = []

    class Watching(NetworkProbe):
        def measure(self, *args: Any) -> Any:
            before = generators(), modes(network), bits(network)
            try:
                return super().measure(*args)
            finally:
                states.append((before, (generators(), modes(network), bits(network))))

    monkeypatch.setattr("lightning_lyap.callback.callback.NetworkProbe", Watching)
    pl.seed_everything(3, workers=True, verbose=False)
    network = Predictor()
    if where == "estimator":
        monkeypatch.setattr(network_probe, "estimate_spectra", stop)
    else:
        network.read_out.register_forward_hook(stop)
    callback = LyapunovSpectrumCallback(on_error=on_error, figures=False, save=False)
    run = trainer(tmp_path, callback, num_sanity_val_steps=0)
    # Lightning turns the interrupt into an exit.
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        run.fit(network, datamodule=Windows())
    ((before, after),) = states
    assert after == before
    assert callback.histories["rnn"].failures == [] if callback.histories else True
    for module in network.modules():
        assert not module._forward_pre_hooks
    assert not network.rnn._forward_hooks
    assert callback._probe is None


def test_an_interrupt_while_batches_are_watched_takes_the_hooks_away(tmp_path: Path) -> None:
    class Impatient(Predictor):
        def validation_step(self, *args: Any) -> None:
            assert self.rnn._forward_pre_hooks
            raise KeyboardInterrupt

    network = Impatient()
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        trainer(tmp_path, LyapunovSpectrumCallback()).validate(network, val_loader())
    assert not network.rnn._forward_pre_hooks
    assert not network.rnn._forward_hooks
