"""Callbacks that read the spectrum or change the weights, in any order in the list."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
    WeightAveraging,
)
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import CombinedLoader
from torch.utils.data import DataLoader

from lightning_lyap import lyapunov_spectrum
from tests.callback.test_trainer import Endless, Pairs
from tests.modes.runs import epochs_of, held_out, quick
from tests.networks import Predictor, fit, sequences, train_loader, trainer, val_loader

pytestmark = pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
FIRST = pytest.mark.parametrize("first", [True, False], ids=["first", "last"])


def in_order(first: bool, ours: pl.Callback, *others: pl.Callback) -> list[pl.Callback]:
    return [ours, *others] if first else [*others, ours]


class Scheduled(Predictor):
    """Lowers its learning rate."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-2)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]


@FIRST
def test_checkpoint_stopping_and_learning_rate_stand_beside_it(first: bool, tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(
        tmp_path / "best",
        "{epoch}-{lyapunov/max:.3f}",
        "lyapunov/max",
        auto_insert_metric_name=False,
    )
    stopping = EarlyStopping("lyapunov/max", min_delta=10, patience=2)
    rates = LearningRateMonitor(logging_interval="epoch")
    callback, logger = quick(), CSVLogger(tmp_path, "run", version="")
    fitted, _ = fit(
        tmp_path,
        *in_order(first, callback, checkpoint, stopping, rates),
        network=Scheduled,
        max_epochs=9,
        enable_checkpointing=True,
        logger=logger,
    )
    assert fitted.current_epoch == 3
    assert epochs_of(callback) == [0, 1, 2, 3]
    largest = callback.histories["rnn"].exponents()[1:, 0]
    assert checkpoint.best_model_score is not None
    assert checkpoint.best_model_score.item() == pytest.approx(largest.min().item(), rel=1e-6)
    best = torch.load(checkpoint.best_model_path, weights_only=True)
    assert best["epoch"] == int(largest.argmin())
    columns = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"lyapunov/max", "lr-Adam", "val/loss"} <= set(columns)


@FIRST
@pytest.mark.parametrize("at_epoch_end", [True, False])
def test_a_checkpoint_holds_the_spectrum_of_its_weights(
    first: bool, at_epoch_end: bool, tmp_path: Path
) -> None:
    checkpoint = ModelCheckpoint(
        tmp_path / "all", "{epoch}", save_top_k=-1, save_on_train_epoch_end=at_epoch_end
    )
    callback = quick()
    fit(tmp_path, *in_order(first, callback, checkpoint), enable_checkpointing=True)
    for epoch in (0, 1):
        saved = torch.load(tmp_path / "all" / f"epoch={epoch}.ckpt", weights_only=True)
        model = Predictor()
        model.load_state_dict(saved["state_dict"])
        other = quick()
        other.load_state_dict(saved["callbacks"][callback.state_key])
        assert epochs_of(other) == [float(i) for i in range(epoch + 2)]
        expected = lyapunov_spectrum(model.rnn, held_out()).exponents
        assert torch.equal(other.histories["rnn"].exponents()[-1], expected)


def short_loader() -> DataLoader[Any]:
    return DataLoader(sequences(2), batch_size=16)


MODES: tuple[Any, ...] = ("max_size_cycle", "max_size", "min_size")
LOADERS: dict[str, Callable[[], Any]] = {
    "one": val_loader,
    "several": lambda: [val_loader(), short_loader()],
    "without a length": lambda: DataLoader(Endless(1), batch_size=8),
    **{mode: partial(CombinedLoader, [val_loader(), short_loader()], mode) for mode in MODES},
}
AVERAGES: dict[str, Callable[[], Any]] = {
    "equal": WeightAveraging,
    "exponential": partial(EMAWeightAveraging, decay=0.5),
}


@pytest.mark.grid(every=2)
@pytest.mark.parametrize(
    ("name", "average"), [("one", "equal"), *((name, "exponential") for name in LOADERS)]
)
def test_the_spectrum_is_that_of_the_averaged_weights_in_any_order(
    name: str, average: str, tmp_path: Path
) -> None:
    measured, plain = [], quick()
    for first in (True, False):
        pl.seed_everything(3, workers=True, verbose=False)
        callback, averaging, model = quick(), AVERAGES[average](), Pairs()
        runner = trainer(tmp_path, *in_order(first, callback, averaging))
        runner.fit(model, train_loader(), LOADERS[name]())
        measured.append(callback.histories["rnn"].exponents())
    assert torch.equal(*measured)
    # At the end of training the averages are the weights.
    expected = lyapunov_spectrum(model.rnn, held_out()).exponents
    assert torch.equal(measured[0][-1], expected)
    pl.seed_everything(3, workers=True, verbose=False)
    trainer(tmp_path, plain).fit(Pairs(), train_loader(), LOADERS[name]())
    assert not torch.equal(measured[0][-1], plain.histories["rnn"].exponents()[-1])
