"""Finders of learning rate and batch size beside the callback: neither does the other harm."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BatchSizeFinder, LearningRateFinder
from pytorch_lightning.tuner.tuning import Tuner
from torch.utils.data import DataLoader

from lightning_lyap import LyapunovSpectrumCallback
from tests.modes.runs import epochs_of, generators, quick
from tests.networks import Predictor, fit, sequences, trainer, val_loader
from tests.observers import same_weights

pytestmark = pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
FINDERS: dict[str, Callable[[], pl.Callback]] = {
    "learning rate": lambda: LearningRateFinder(num_training_steps=16, early_stop_threshold=None),
    "batch size": lambda: BatchSizeFinder(steps_per_trial=1, max_trials=1),
}


class Tuned(Predictor):
    """Has a learning rate and a batch size to be found."""

    def __init__(self) -> None:
        super().__init__()
        self.lr, self.batch_size = 1e-2, 4

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(sequences(), batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return val_loader()


def seeded() -> Tuned:
    pl.seed_everything(3, workers=True, verbose=False)
    return Tuned()


@pytest.mark.parametrize(
    "used", [pytest.param(False, marks=pytest.mark.slow), True], ids=["new", "used"]
)
def test_the_tuner_finds_the_same_and_a_new_history_begins_after_it(
    used: bool, tmp_path: Path
) -> None:
    callback, found = quick(), []
    if used:
        fit(tmp_path, callback, max_epochs=1)
    callbacks: list[list[LyapunovSpectrumCallback]] = [[], [callback]]
    for chosen in callbacks:
        model = seeded()
        runner = trainer(tmp_path, *chosen)
        tuner = Tuner(runner)
        tuner.lr_find(model, num_training=16, early_stop_threshold=None, update_attr=True)
        tuner.scale_batch_size(model, steps_per_trial=1, max_trials=1)
        runner.fit(model)
        found.append((model, model.lr, model.batch_size, generators()))
    assert same_weights(found[0][0], found[1][0])
    assert found[0][1:] == found[1][1:]
    assert found[0][1] != 1e-2
    assert epochs_of(callback) == [0, 1, 2]
    assert "lyapunov/max" in runner.callback_metrics


@pytest.mark.parametrize("name", FINDERS)
def test_finders_in_the_list_of_callbacks_find_the_same_in_any_order(
    name: str, tmp_path: Path
) -> None:
    found = []
    for first in (None, True, False):
        callback, model = quick(), seeded()
        ours = [] if first is None else [callback]
        finder = FINDERS[name]()
        trainer(tmp_path, *([*ours, finder] if first else [finder, *ours])).fit(model)
        found.append((model, model.lr, model.batch_size, generators()))
        assert first is None or epochs_of(callback) == [0, 1, 2]
    for model, *rest in found[1:]:
        assert same_weights(model, found[0][0])
        assert rest == list(found[0][1:])
