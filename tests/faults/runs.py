"""Runs with a fault, beside the same runs without the callback."""

import re
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_lyap import LyapunovSpectrumCallback, SpectrumHistory
from tests.networks import FEATURES, Predictor, train_loader, trainer, val_loader

EPOCHS = 3


@dataclass
class Outcome:
    """What a run with a fault came to.

    Attributes:
        histories: The spectra, and what failed, by module.
        trainer: The Trainer.
        said: The warnings that come from the package, but for the one about its cost.
    """

    histories: dict[str, SpectrumHistory]
    trainer: pl.Trainer
    said: list[str]

    @property
    def history(self) -> SpectrumHistory:
        """The history of the only module."""
        (history,) = self.histories.values()
        return history


class Witness(pl.Callback):
    """Keeps the bits of every training loss and of the generator after each batch."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def on_train_batch_end(self, *args: Any) -> None:
        loss = struct.pack("d", args[2]["loss"].item())
        self.seen.append(loss + torch.get_rng_state().numpy().tobytes())


class ReadOutTrains(Predictor):
    """Trains its last layer alone, so the recurrent weights stay what a test makes them."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return (self.read_out.weight - self.dropout(batch[0][0, :1, :1])).square().mean()


class Loop(Predictor):
    """Calls what is its ``rnn`` step by step."""

    cell: Callable[[], nn.Module]

    def __init__(self) -> None:
        super().__init__()
        self.rnn: Any = type(self).cell()

    def forward(self, inputs: Tensor) -> Tensor:
        h, outputs = inputs.new_zeros(len(inputs), 6), []
        for x in inputs.unbind(1):
            h = self.rnn(x, h)
            outputs.append(h)
        return self.read_out(self.dropout(torch.stack(outputs, 1)))


def bits(network: nn.Module) -> list[bytes]:
    """Return the weights bit by bit: NaN equals itself."""
    return [value.numpy().tobytes() for value in network.state_dict().values()]


def train(
    folder: Path,
    *callbacks: pl.Callback,
    network: Callable[[], pl.LightningModule] = Predictor,
    datamodule: Callable[[], pl.LightningDataModule] | None = None,
    **settings: Any,
) -> tuple[pl.Trainer, pl.LightningModule]:
    """Train a network from the same start."""
    pl.seed_everything(3, workers=True, verbose=False)
    model = network()
    fitted = trainer(folder, *callbacks, **{"max_epochs": EPOCHS} | settings)
    if datamodule is not None:
        fitted.fit(model, datamodule=datamodule())
    else:
        fitted.fit(model, train_loader(), val_loader())
    return fitted, model


def outcome(
    folder: Path, *others: pl.Callback, callback: LyapunovSpectrumCallback | None = None, **run: Any
) -> Outcome:
    """Train with the callback and without; training must be the same, bit by bit."""
    callback = callback or LyapunovSpectrumCallback(num_steps=6, figures=False, save=False)
    alone, beside = Witness(), Witness()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, expected = train(folder / "without", alone, **run | {"logger": False})
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        fitted, model = train(folder, callback, beside, *others, **run)
    assert fitted.current_epoch == fitted.max_epochs
    assert bits(model) == bits(expected)
    assert beside.seen == alone.seen
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    ours = [warning for warning in seen if "lightning_lyap" in Path(warning.filename).parts]
    said = [str(warning.message) for warning in ours]
    # Runs this short take long for their size, and settle in part.
    usual = re.compile(r" took | exponents have (not )?settled")
    return Outcome(callback.histories, fitted, [text for text in said if not usual.search(text)])


def strict(**settings: Any) -> LyapunovSpectrumCallback:
    """Return a callback that raises."""
    defaults: dict[str, Any] = {"on_error": "raise", "figures": False, "save": False}
    return LyapunovSpectrumCallback(**defaults | settings)


__all__ = [
    "EPOCHS",
    "FEATURES",
    "Loop",
    "Outcome",
    "ReadOutTrains",
    "bits",
    "outcome",
    "strict",
    "train",
]
