"""What tests of the callback look with: quiet callbacks, event files, witnesses of a training."""

import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from lightning_lyap import LyapunovSpectrumCallback


def quiet(**settings: Any) -> LyapunovSpectrumCallback:
    """Return a callback that raises on error and draws nothing."""
    defaults: dict[str, Any] = {"on_error": "raise", "figures": False}
    return LyapunovSpectrumCallback(**defaults | settings)


def events(folder: Path) -> EventAccumulator:
    sizes = {"images": 0, "histograms": 0, "scalars": 0}
    accumulator = EventAccumulator(str(folder), size_guidance=sizes)
    accumulator.Reload()
    return accumulator


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


class Witness(pl.Callback):
    """Keeps every training loss and the state of the generators after each batch."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_train_batch_end(self, *args: Any) -> None:
        loss = args[2]["loss"].item()
        # The global generator of NumPy is what a user's augmentation may draw from.
        legacy = np.random.get_state(legacy=False)  # noqa: NPY002
        torch_state = torch.get_rng_state().numpy().tobytes()
        self.seen.append((loss, torch_state, random.getstate(), pickle.dumps(legacy)))
