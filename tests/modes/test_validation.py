"""Every way to validate: when spectra are measured, on what, and what is said without any."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_lyap import LyapunovSpectrumCallback, lyapunov_spectrum
from tests.callback.test_trainer import Endless, Pairs
from tests.modes.runs import (
    NUM_SEQUENCES,
    NUM_STEPS,
    Mode,
    assert_sacred,
    epochs_of,
    held_out,
    quick,
)
from tests.networks import Predictor, Windows, fit, sequences, train_loader, trainer, val_loader
from tests.observers import same_weights

pytestmark = pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")


def pair(mode: Any) -> CombinedLoader:
    return CombinedLoader([val_loader(), DataLoader(sequences(2), batch_size=16)], mode)


LOADERS: dict[str, Callable[[], Any]] = {
    "list": lambda: [val_loader(), train_loader()],
    "without a length": lambda: DataLoader(Endless(1), batch_size=8),
    **{
        mode: partial(pair, mode)
        for mode in ("sequential", "max_size_cycle", "max_size", "min_size")
    },
}


@pytest.mark.parametrize("name", LOADERS)
def test_the_first_sequences_of_any_loaders_are_those_measured(name: str, tmp_path: Path) -> None:
    callback, trained = quick(), []
    for callbacks in ([], [callback]):
        pl.seed_everything(3, workers=True, verbose=False)
        trained.append(Pairs())
        trainer(tmp_path, *callbacks).fit(trained[-1], train_loader(), LOADERS[name]())
    assert same_weights(*trained)
    assert epochs_of(callback) == [0, 1, 2]
    expected = lyapunov_spectrum(trained[-1].rnn, held_out()).exponents
    assert torch.equal(callback.histories["rnn"].exponents()[-1], expected)


class Fetching(Predictor):
    """Takes its validation batches from the loader itself."""

    def validation_step(self, dataloader_iter: Any) -> None:  # type: ignore[override]
        batch, _, _ = next(dataloader_iter)
        self(batch[0])


def test_a_step_that_fetches_its_batches_itself_is_measured_on_them(tmp_path: Path) -> None:
    callback = assert_sacred(tmp_path, Mode((0, 1, 2), {}, network=Fetching))
    assert callback.histories["rnn"].spectra[-1].num_sequences == NUM_SEQUENCES


def test_a_network_that_draws_when_it_runs_on_windows_trains_as_without(tmp_path: Path) -> None:
    class Noisy(Predictor):
        """Draws in evaluation mode, too."""

        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs + 0.1 * torch.randn_like(inputs))

    trained, callback = [], quick()
    for callbacks in ([], [callback]):
        pl.seed_everything(3, workers=True, verbose=False)
        trained.append(Noisy())
        trainer(tmp_path, *callbacks).fit(trained[-1], datamodule=Windows())
    assert same_weights(*trained)
    assert epochs_of(callback) == [0, 1, 2]


def test_gradients_that_accumulate_over_a_validation_stay_untouched(tmp_path: Path) -> None:
    class Gradients(pl.Callback):
        """Keeps the gradients before and after each validation."""

        def __init__(self) -> None:
            self.before: list[Any] = []
            self.after: list[Any] = []

        def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
            self.before.append(gradients(module))

        def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
            self.after.append(gradients(module))

    def gradients(module: pl.LightningModule) -> list[Any]:
        grads = [parameter.grad for parameter in module.parameters()]
        return [None if grad is None else (grad.data_ptr(), grad.tolist()) for grad in grads]

    witness = Gradients()
    settings: dict[str, Any] = {"accumulate_grad_batches": 4, "val_check_interval": 1}
    fit(tmp_path, quick(), witness, **settings)
    assert witness.before == witness.after
    assert sum(None not in seen for seen in witness.before) >= 6


def ours(seen: list[warnings.WarningMessage]) -> list[str]:
    """Return what we said, but for steps too few to settle in, as most runs here."""
    texts = [str(warning.message) for warning in seen]
    return [text for text in texts if "yapunov" in text and "settled" not in text]


def said(run: Callable[[], Any]) -> list[str]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        run()
    return ours(seen)


class OnlyTraining(Windows):
    """Offers windows and has nothing to validate on."""

    val_dataloader = pl.LightningDataModule.val_dataloader


def test_windows_without_a_validation_give_the_spectrum_before_training(tmp_path: Path) -> None:
    callback = quick()
    runner = trainer(tmp_path, callback)
    messages = said(lambda: runner.fit(Predictor(), datamodule=OnlyTraining()))
    assert epochs_of(callback) == [0]
    assert len(messages) == 1
    assert "Give the Trainer validation batches" in messages[0]
    assert runner.current_epoch == 2


def test_without_validation_and_windows_there_is_one_warning(tmp_path: Path) -> None:
    callback = quick()
    messages = said(lambda: trainer(tmp_path, callback).fit(Predictor(), train_loader()))
    assert not callback.histories
    assert len(messages) == 1


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_barebones_trains_through_with_histories_and_files_and_one_message(tmp_path: Path) -> None:
    trained, callback = [], quick(save=True, every_n_validations=2)
    for callbacks in ([], [callback]):
        pl.seed_everything(3, workers=True, verbose=False)
        runner = pl.Trainer(
            barebones=True,
            max_epochs=3,
            accelerator="cpu",
            default_root_dir=tmp_path,
            callbacks=list(callbacks),
        )
        trained.append(Predictor())
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            runner.fit(trained[-1], train_loader(), val_loader())
    assert same_weights(*trained)
    assert epochs_of(callback) == [1, 2]
    assert not any("lyapunov" in key for key in runner.callback_metrics)
    assert (tmp_path / "lyapunov" / "spectra.npz").exists()
    (told,) = ours(seen)
    assert "barebones=True) logs nothing" in told
    # Lightning's own, of the network's train/loss and val/loss: none more for our keys.
    theirs = sum("trying to `self.log()`" in str(warning.message) for warning in seen)
    assert theirs == 3 * (4 + 4)


def test_nothing_is_logged_in_predict(tmp_path: Path) -> None:
    class Forward(Predictor):
        def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return self(batch[0])

    callback, model = quick(), Forward()
    runner = trainer(tmp_path, callback)
    with_it: Any = runner.predict(model, val_loader())
    without: Any = trainer(tmp_path).predict(model, val_loader())
    assert all(torch.equal(one, other) for one, other in zip(with_it, without, strict=True))
    assert not runner.callback_metrics
    assert not callback.histories


def test_validate_and_test_around_fit_leave_the_history_as_it_is(tmp_path: Path) -> None:
    callback, trained = quick(), []
    for callbacks in ([], [callback]):
        pl.seed_everything(3, workers=True, verbose=False)
        model, runner = Predictor(), trainer(tmp_path, *callbacks)
        runner.validate(model, val_loader(), verbose=False)
        before = runner.callback_metrics.get("lyapunov/max")
        runner.fit(model, train_loader(), val_loader())
        trained.append(model)
    assert same_weights(*trained)
    history = callback.histories["rnn"]
    first, last = history.exponents()[0, 0].item(), history.exponents()[-1, 0].item()
    assert before is not None
    assert before.item() == pytest.approx(first, rel=1e-6)
    for stage in (runner.validate, runner.test):
        (values,) = stage(model, val_loader(), verbose=False)
        assert values["lyapunov/max"] == pytest.approx(last, rel=1e-6)
    assert history.epochs == [0, 1, 2]


@pytest.mark.parametrize("rate", [0, 1])
def test_reloaded_loaders_are_measured_anew(rate: int, tmp_path: Path) -> None:
    """With `reload_dataloaders_every_n_epochs` the sequences are those of the epoch."""

    class Changing(Predictor):
        def train_dataloader(self) -> Any:
            return train_loader()

        def val_dataloader(self) -> Any:
            return DataLoader(sequences(1 + self.current_epoch), batch_size=8)

    callback: LyapunovSpectrumCallback = quick(before_training=False)
    model = Changing()
    trainer(tmp_path, callback, reload_dataloaders_every_n_epochs=rate).fit(model)
    last: Tensor = sequences(2 if rate else 1).tensors[0][:NUM_SEQUENCES, :NUM_STEPS]
    expected = lyapunov_spectrum(model.rnn, last).exponents
    assert torch.equal(callback.histories["rnn"].exponents()[-1], expected)


def test_a_checkpoint_that_is_only_looked_at_leaves_the_run_as_it_is(tmp_path: Path) -> None:
    callback = quick()
    runner, network = fit(tmp_path, callback, max_epochs=1)
    runner.save_checkpoint(tmp_path / "first.ckpt")
    runner.fit_loop.max_epochs = 2
    runner.fit(network, train_loader(), val_loader())
    looks: list[tuple[Any, Any]] = [
        (runner.validate, val_loader()),
        (runner.test, val_loader()),
        (runner.predict, DataLoader(held_out())),  # type: ignore[arg-type]
    ]
    for look, loader in looks:
        look(network, loader, ckpt_path=str(tmp_path / "first.ckpt"))
        assert epochs_of(callback) == [0, 1, 2]
    runner.fit_loop.max_epochs = 3
    runner.fit(network, train_loader(), val_loader())
    assert epochs_of(callback) == [0, 1, 2, 3]


def test_a_callback_without_a_run_takes_that_of_each_checkpoint_it_looks_at(
    tmp_path: Path,
) -> None:
    runner, network = fit(tmp_path, quick(), max_epochs=1)
    runner.save_checkpoint(tmp_path / "1.ckpt")
    runner.fit_loop.max_epochs = 2
    runner.fit(network, train_loader(), val_loader())
    runner.save_checkpoint(tmp_path / "2.ckpt")
    callback = quick()
    looker = trainer(tmp_path, callback)
    for name, epochs in (("2", [0, 1, 2]), ("1", [0, 1])):
        looker.test(network, val_loader(), ckpt_path=str(tmp_path / f"{name}.ckpt"))
        assert epochs_of(callback) == epochs
    looker.fit(network, train_loader(), val_loader(), ckpt_path=str(tmp_path / "2.ckpt"))
    assert epochs_of(callback) == [0, 1, 2]
