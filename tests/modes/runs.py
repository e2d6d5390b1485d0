"""What the tests of the Trainer's modes share: a quick callback, and runs with and without it."""

import pickle
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_lyap import LyapunovSpectrumCallback
from tests.networks import Predictor, fit, sequences
from tests.observers import Witness, same_weights

NUM_SEQUENCES, NUM_STEPS = 4, 8


def quick(**settings: Any) -> LyapunovSpectrumCallback:
    """Return a callback that measures little, writes nothing and raises on error."""
    defaults: dict[str, Any] = {
        "num_sequences": NUM_SEQUENCES,
        "num_steps": NUM_STEPS,
        "figures": False,
        "save": False,
        "on_error": "raise",
    }
    return LyapunovSpectrumCallback(**defaults | settings)


def held_out() -> Tensor:
    """Return the sequences that it measures on, the first of the validation batches."""
    inputs: Tensor = sequences(1).tensors[0]
    return inputs[:NUM_SEQUENCES, :NUM_STEPS]


def epochs_of(callback: LyapunovSpectrumCallback, module: str = "rnn") -> list[float]:
    """Return when there was a spectrum, in epochs completed."""
    return callback.histories[module].epochs


@dataclass(frozen=True)
class Mode:
    """A mode of the Trainer.

    Attributes:
        epochs: When spectra are measured in it, in epochs completed.
        settings: Of the Trainer.
        others: The user's other callbacks, made anew for each run.
        network: What is trained.
    """

    epochs: tuple[float, ...]
    settings: dict[str, Any]
    others: Callable[[], list[pl.Callback]] = list
    network: Callable[[], pl.LightningModule] = Predictor


def generators() -> tuple[Any, ...]:
    """Return the states of the global generators."""
    legacy = np.random.get_state(legacy=False)  # noqa: NPY002
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), pickle.dumps(legacy)


def assert_sacred(folder: Path, mode: Mode) -> LyapunovSpectrumCallback:
    """See that training is bitwise the same without the callback and with it, in any order.

    Args:
        folder: For the runs.
        mode: The mode.

    Returns:
        The callback that was last.
    """
    network: Any = mode.network
    expected = Witness()
    trained = [fit(folder, *mode.others(), expected, network=network, **mode.settings)[1]]
    ends = [generators()]
    for first in (True, False) if mode.others() else (False,):
        callback, witness = quick(), Witness()
        callbacks = [*mode.others(), callback] if not first else [callback, *mode.others()]
        trained.append(fit(folder, *callbacks, witness, network=network, **mode.settings)[1])
        ends.append(generators())
        assert len(expected.seen) > 0
        assert witness.seen == expected.seen
        measured = {tuple(history.epochs) for history in callback.histories.values()}
        assert measured == ({mode.epochs} if mode.epochs else set())
    assert all(end == ends[0] for end in ends)
    assert all(same_weights(model, trained[0]) for model in trained)
    return callback
