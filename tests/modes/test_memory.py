"""Nothing of a validation is kept after it: batches, activations, networks."""

import gc
import pickle
import weakref
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from torch import Tensor

from lightning_lyap import LyapunovSpectrumCallback
from tests.modes.runs import quick
from tests.networks import Predictor, fit

pytestmark = pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")


class Referring(Predictor):
    """Keeps weak references to what passes through it in validation."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: list[Any] = []

    def validation_step(self, batch: list[Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        super().validation_step(batch, batch_idx)
        self.alive.append(weakref.ref(batch[0]))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.rnn(inputs)[0]
        if not self.training:
            self.alive.append(weakref.ref(hidden))
        return self.read_out(self.dropout(hidden))


class Counting(pl.Callback):
    """Counts after each epoch what is still alive of the validation."""

    def __init__(self) -> None:
        self.kept: list[int] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        gc.collect()
        alive: Any = pl_module.alive
        self.kept.append(sum(reference() is not None for reference in alive))


@pytest.mark.parametrize("num_sequences", [4, 1000])
def test_no_batch_or_activation_outlives_its_validation(num_sequences: int, tmp_path: Path) -> None:
    """With more sequences asked for than there are, every batch is watched to its end."""
    counting, callback = Counting(), quick(num_sequences=num_sequences)
    fit(tmp_path, callback, counting, network=Referring)
    assert len(callback.histories["rnn"]) == 3
    assert counting.kept == [0, 0]


class Recorded(pl.Callback):
    """Counts the copies of inputs that are kept between validations."""

    def __init__(self) -> None:
        self.kept: list[int] = []
        self.seen: list[Any] = []

    def on_validation_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        (ours,) = (c for c in trainer.callbacks if isinstance(c, LyapunovSpectrumCallback))  # type: ignore[attr-defined]
        watcher: Any = None if ours._probe is None else ours._probe.source._watcher
        if watcher is not None:
            rows = watcher._recordings["rnn"]._rows
            self.seen.extend(weakref.ref(row) for row in rows)

    def on_train_epoch_end(self, *args: Any) -> None:
        gc.collect()
        self.kept.append(sum(reference() is not None for reference in self.seen))


def test_no_copy_of_an_input_outlives_its_validation(tmp_path: Path) -> None:
    recorded = Recorded()
    fit(tmp_path, recorded, quick(num_sequences=1000))
    assert len(recorded.seen) > 0
    assert recorded.kept == [0, 0]


def test_no_network_is_kept_after_a_run(tmp_path: Path) -> None:
    callback = quick()
    fitted, model = fit(tmp_path, callback)
    references: list[Any] = [weakref.ref(fitted), weakref.ref(model)]
    del fitted, model
    gc.collect()
    assert [reference() for reference in references] == [None, None]
    assert len(pickle.dumps(callback)) < 50_000
