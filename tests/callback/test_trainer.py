"""Facts read off real Trainers, where Lightning has no public name for them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_lyap.callback.trainer import (
    completed_epochs,
    is_fitting,
    is_last_batch,
    logging_step,
    running_method,
    writes_files,
)
from tests.networks import Predictor, fit, sequences, train_loader, trainer, val_loader


class Watcher(pl.Callback):
    """Notes the facts at the moments the callback asks for them."""

    def __init__(self) -> None:
        self.epochs: list[float] = []
        self.steps: list[int] = []
        self.sanity: list[float] = []
        self.before: list[tuple[float, int]] = []
        self.fitting: set[tuple[str, bool]] = set()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.before.append((completed_epochs(trainer), logging_step(trainer)))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.fitting.add((running_method(trainer), is_fitting(trainer)))
        if trainer.sanity_checking:
            self.sanity.append(completed_epochs(trainer))
        else:
            self.epochs.append(completed_epochs(trainer))
            self.steps.append(logging_step(trainer))

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_validation_epoch_end(trainer, pl_module)


class Endless(IterableDataset[tuple[Tensor, Tensor]]):
    """Data without a length."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __iter__(self) -> Any:
        return iter(sequences(self.seed))


def test_epochs_are_counted_as_completed(tmp_path: Path) -> None:
    watcher = Watcher()
    fit(tmp_path, watcher)
    assert watcher.sanity == [0]
    assert watcher.before == [(0, 0)]
    assert watcher.epochs == [1, 2]
    assert watcher.steps == [3, 7]  # Lightning counts the last batch of an epoch later
    assert watcher.fitting == {("fit", True)}


def test_epochs_have_fractions_in_their_middle(tmp_path: Path) -> None:
    watcher = Watcher()
    fit(tmp_path, watcher, val_check_interval=0.25)
    assert watcher.epochs == [i / 4 for i in range(1, 9)]
    assert watcher.steps == list(range(8))


def test_steps_are_those_of_the_optimizer(tmp_path: Path) -> None:
    watcher = Watcher()
    fit(tmp_path, watcher, accumulate_grad_batches=2)
    assert watcher.epochs == [1, 2]
    assert watcher.steps == [1, 3]


def test_epochs_go_on_after_a_resumption(tmp_path: Path) -> None:
    first, _ = fit(tmp_path, max_epochs=1)
    first.save_checkpoint(tmp_path / "one.ckpt")
    watcher = Watcher()
    fit(tmp_path, watcher, max_epochs=3, ckpt_path=str(tmp_path / "one.ckpt"))
    assert watcher.epochs == [2, 3]
    assert watcher.steps == [7, 11]


def test_data_without_a_length_count_in_whole_epochs(tmp_path: Path) -> None:
    watcher = Watcher()
    fitted = trainer(tmp_path, watcher, val_check_interval=2)
    fitted.fit(Predictor(), DataLoader(Endless(), batch_size=8), val_loader())
    assert all(epochs == int(epochs) for epochs in watcher.epochs)
    assert watcher.epochs == sorted(watcher.epochs)


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_outside_of_fit(stage: str, tmp_path: Path) -> None:
    watcher = Watcher()
    getattr(trainer(tmp_path, watcher), stage)(Predictor(), val_loader(), verbose=False)
    assert watcher.fitting == {(stage, False)}
    assert watcher.epochs == [0]


def test_step_is_that_of_the_scalars(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    watcher = Watcher()
    fit(tmp_path, watcher, logger=logger, val_check_interval=0.5, accumulate_grad_batches=2)
    rows = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()
    names = rows[0].split(",")
    step, loss = names.index("step"), names.index("val/loss")
    cells = [row.split(",") for row in rows[1:]]
    assert [int(cell[step]) for cell in cells if cell[loss]] == watcher.steps == [0, 1, 2, 3]


class Lasts(pl.Callback):
    """Notes for each validation or test batch whether it was the last."""

    def __init__(self) -> None:
        self.seen: list[bool] = []

    def on_validation_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if not trainer.sanity_checking:
            self.seen.append(is_last_batch(trainer))

    def on_test_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self.seen.append(is_last_batch(trainer))


class Pairs(Predictor):
    """Validates on all batches of a combined loader."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        for part in batch if isinstance(batch[0], list) else [batch]:
            if part is not None:
                self(part[0])


def short_loader() -> DataLoader[Any]:
    return DataLoader(sequences(2), batch_size=16)


def empty_loader() -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.zeros(0, 1), torch.zeros(0, 1)))


LOADERS: dict[str, tuple[Callable[[], Any], int]] = {
    "one": (val_loader, 4),
    "several": (lambda: [val_loader(), short_loader()], 6),
    "the last one empty": (lambda: [val_loader(), empty_loader()], 4),
    "without a length": (lambda: DataLoader(Endless(), batch_size=8), 4),
    "the last one without a length": (
        lambda: [short_loader(), DataLoader(Endless(), batch_size=8)],
        6,
    ),
}
MODES: Any = {"max_size_cycle": 4, "max_size": 4, "min_size": 2}
LOADERS |= {
    mode: (partial(CombinedLoader, [val_loader(), short_loader()], mode), count)
    for mode, count in MODES.items()
}


@pytest.mark.parametrize("name", LOADERS)
def test_the_last_batch_is_known_in_advance(name: str, tmp_path: Path) -> None:
    loaders, count = LOADERS[name]
    lasts = Lasts()
    trainer(tmp_path, lasts).fit(Pairs(), train_loader(), loaders())
    assert lasts.seen == 2 * [*(count - 1) * [False], True]


@pytest.mark.parametrize(("limit", "count"), [(1, 1), (3, 3), (0.5, 2), (1.0, 4)])
@pytest.mark.parametrize("stage", ["validate", "test"])
def test_the_last_batch_within_limits_and_outside_of_fit(
    stage: str, limit: float, count: int, tmp_path: Path
) -> None:
    lasts = Lasts()
    runner = trainer(tmp_path, lasts, limit_val_batches=limit, limit_test_batches=limit)
    getattr(runner, stage)(Predictor(), val_loader(), verbose=False)
    assert lasts.seen == [*(count - 1) * [False], True]


@pytest.mark.parametrize("fast_dev_run", [False, True])
def test_a_trial_run_writes_no_files(fast_dev_run: bool, tmp_path: Path) -> None:
    idle = trainer(tmp_path, fast_dev_run=fast_dev_run)
    assert writes_files(idle) is not fast_dev_run
    assert running_method(idle) == ""
    other_trainer: Any = SimpleNamespace()
    assert writes_files(other_trainer)


def test_the_networks_of_these_tests_train_in_four_batches() -> None:
    """The numbers above count on it."""
    assert len(train_loader()) == len(val_loader()) == 4
    assert torch.is_tensor(next(iter(val_loader()))[0])
