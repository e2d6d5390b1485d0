"""The callback: it watches, logs and leaves training alone."""

import random
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor, nn

from lightning_lyap import LyapunovSpectrumCallback, lyapunov_spectrum
from lightning_lyap.callback import network_probe
from tests.networks import (
    EncoderDecoder,
    Predictor,
    Windows,
    fit,
    sequences,
    train_loader,
    trainer,
    val_loader,
)
from tests.observers import Witness, quiet, same_weights

pytestmark = pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"accumulate_grad_batches": 3, "val_check_interval": 2},
        {"precision": "bf16-mixed"},
        {"num_sanity_val_steps": 0},
    ],
    ids=["plain", "mid-accumulation", "bf16-mixed", "no-sanity-check"],
)
def test_training_is_bitwise_the_same(tmp_path: Path, settings: dict[str, Any]) -> None:
    without, with_it = Witness(), Witness()
    _, expected = fit(tmp_path, without, **settings)
    callback = quiet(figures=not settings)
    _, model = fit(tmp_path, callback, with_it, **settings)
    assert len(callback.histories["rnn"]) >= 2
    assert same_weights(model, expected)
    assert without.seen == with_it.seen


def test_training_is_bitwise_the_same_with_offered_windows(tmp_path: Path) -> None:
    trained = []
    for callbacks in ([], [quiet()]):
        pl.seed_everything(3, workers=True, verbose=False)
        trained.append(Predictor())
        trainer(tmp_path, *callbacks).fit(trained[-1], datamodule=Windows())
    assert same_weights(*trained)


@pytest.mark.parametrize("on_error", ["warn", "raise"])
def test_generators_gradients_and_modes_survive_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_error: Any
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        torch.rand(7), random.random(), np.random.rand()  # noqa: NPY002
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(network_probe, "estimate_spectra", fail)
    callback = LyapunovSpectrumCallback(on_error=on_error)
    if on_error == "raise":
        states = []
        for callbacks in ([], [callback]):
            pl.seed_everything(3, workers=True, verbose=False)
            network = Predictor()
            with pytest.raises(RuntimeError, match="on purpose") if callbacks else nullcontext():
                trainer(tmp_path, *callbacks).validate(network, val_loader(), verbose=False)
            states.append((torch.get_rng_state().tolist(), random.getstate()))
        assert states[0] == states[1]
        assert all(parameter.grad is None for parameter in network.parameters())
        assert not any(module._forward_pre_hooks for module in network.modules())
        return
    witness, expected = Witness(), Witness()
    fit(tmp_path, expected)
    with pytest.warns(
        UserWarning, match="No complete Lyapunov spectrum.*broken on purpose"
    ) as seen:
        _, model = fit(tmp_path, callback, witness)
    assert sum("broken on purpose" in str(warning.message) for warning in seen) == 1
    assert witness.seen == expected.seen
    assert len(callback.histories["rnn"].failures) == 3
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_modules_are_chosen_by_name(tmp_path: Path) -> None:
    callback = quiet(modules=["decoder"])
    fitted, _ = fit(tmp_path, callback, network=EncoderDecoder)
    assert set(callback.histories) == {"decoder"}
    assert "lyapunov/max" in fitted.callback_metrics


@pytest.mark.parametrize("modules", [None, ["lstm"]])
def test_a_network_without_the_modules_is_refused_before_training(
    tmp_path: Path, modules: list[str] | None
) -> None:
    class Linear(Predictor):
        def __init__(self) -> None:
            super().__init__()
            del self.rnn

    with pytest.raises(ValueError, match="Expected"):
        fit(tmp_path, LyapunovSpectrumCallback(modules=modules), network=Linear)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_equals_the_stand_alone_estimator(tmp_path: Path, cell: str) -> None:
    callback = quiet(num_sequences=5, num_steps=9, warmup_steps=2, orthonormalize_every=2)
    pl.seed_everything(3, workers=True, verbose=False)
    model = Predictor(cell)
    trainer(tmp_path, callback).fit(model, train_loader(), val_loader())
    expected = lyapunov_spectrum(
        model.rnn, sequences(1).tensors[0][:5, :11], warmup_steps=2, orthonormalize_every=2
    )
    history = callback.histories["rnn"]
    assert torch.equal(history.exponents()[-1], expected.exponents)
    assert torch.equal(history.spectra[-1].std, expected.std)
    assert history.spectra[-1].num_sequences == 5


def test_windows_of_the_datamodule_are_used_where_it_offers_them(tmp_path: Path) -> None:
    callback, datamodule, model = quiet(num_steps=20, warmup_steps=3), Windows(), Predictor()
    trainer(tmp_path, callback).fit(model, datamodule=datamodule)
    assert datamodule.asked == [(10, 23)]
    windows = datamodule.lyapunov_sequences(10, 23)
    expected = lyapunov_spectrum(model.rnn, windows, warmup_steps=3)
    assert torch.equal(callback.histories["rnn"].exponents()[-1], expected.exponents)


def test_windows_pass_through_the_network_in_evaluation_mode(tmp_path: Path) -> None:
    class Noisy(EncoderDecoder):
        def forward(self, inputs: Tensor) -> Tensor:
            between = self.dropout(self.encoder(inputs)[0])
            return self.read_out(self.decoder(between)[0])

    callback, datamodule, model = quiet(), Windows(), Noisy()
    modes = [module.training for module in model.modules()]
    trainer(tmp_path, callback, max_epochs=1).fit(model, datamodule=datamodule)
    assert [module.training for module in model.modules()] == modes
    driven = model.encoder(datamodule.lyapunov_sequences(10, 100))[0]
    expected = lyapunov_spectrum(model.decoder, driven.detach())
    measured = callback.histories["decoder"].exponents()[-1]
    torch.testing.assert_close(measured, expected.exponents, rtol=1e-5, atol=1e-6)


def test_the_first_spectrum_is_that_of_the_untrained_network(tmp_path: Path) -> None:
    callback = quiet()
    fit(tmp_path, callback)
    pl.seed_everything(3, workers=True, verbose=False)
    untrained = Predictor()
    expected = lyapunov_spectrum(untrained.rnn, sequences(1).tensors[0][:10])
    history = callback.histories["rnn"]
    assert history.epochs == [0.0, 1.0, 2.0]
    assert torch.equal(history.exponents()[0], expected.exponents)


def test_without_a_sanity_check_there_is_no_spectrum_before_training(tmp_path: Path) -> None:
    callback = quiet()
    fit(tmp_path, callback, num_sanity_val_steps=0)
    assert callback.histories["rnn"].epochs == [1.0, 2.0]
    callback = quiet(before_training=False)
    fit(tmp_path, callback)
    assert callback.histories["rnn"].epochs == [1.0, 2.0]


def test_every_nth_validation_and_always_the_first(tmp_path: Path) -> None:
    callback = quiet(every_n_validations=3)
    checkpoint = ModelCheckpoint(tmp_path, monitor="lyapunov/max", save_top_k=-1)
    fit(tmp_path, callback, checkpoint, max_epochs=7, enable_checkpointing=True)
    assert callback.histories["rnn"].epochs == [0.0, 1.0, 3.0, 6.0]
    assert len(checkpoint.best_k_models) == 7


def test_the_schedule_can_be_overridden(tmp_path: Path) -> None:
    class LastOnly(LyapunovSpectrumCallback):
        def should_measure(self, trainer: pl.Trainer) -> bool:
            return trainer.current_epoch + 1 == trainer.max_epochs

    callback = LastOnly(before_training=False, figures=False)
    fit(tmp_path, callback, max_epochs=3)
    assert callback.histories["rnn"].epochs == [3.0]


@pytest.mark.parametrize("first", [True, False])
def test_checkpoints_and_early_stopping_can_monitor_it_in_any_order(
    tmp_path: Path, first: bool
) -> None:
    callback = quiet()
    others = [
        ModelCheckpoint(tmp_path, monitor="lyapunov/max", mode="max"),
        EarlyStopping("lyapunov/max", patience=1, min_delta=10.0, check_on_train_epoch_end=False),
    ]
    callbacks = [callback, *others] if first else [*others, callback]
    fitted, _ = fit(tmp_path, *callbacks, max_epochs=6, enable_checkpointing=True)
    assert fitted.current_epoch == 2
    best = others[0].best_model_score  # type: ignore[attr-defined]
    measured = callback.histories["rnn"].exponents()[1:, 0].max()
    torch.testing.assert_close(best.double(), measured, rtol=1e-6, atol=0)


def test_without_validation_one_warning_says_so(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="No Lyapunov spectra while this network trains"):
        fit(tmp_path, quiet(), limit_val_batches=0)


def test_epochs_are_counted_before_the_first_step_of_an_accumulation(tmp_path: Path) -> None:
    callback = quiet()
    settings: dict[str, Any] = {"accumulate_grad_batches": 4, "val_check_interval": 1}
    fit(tmp_path, callback, max_epochs=1, **settings)
    assert callback.histories["rnn"].epochs == [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_validate_and_test_log_spectra(tmp_path: Path, stage: str) -> None:
    callback, model = quiet(), Predictor()
    runner = trainer(tmp_path, callback)
    getattr(runner, stage)(model, val_loader(), verbose=False)
    expected = lyapunov_spectrum(model.rnn, sequences(1).tensors[0][:10])
    logged = runner.callback_metrics["lyapunov/max"].item()
    assert logged == pytest.approx(expected.exponents[0].item(), rel=1e-6)
    assert not any(map(len, callback.histories.values()))
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_weights_swapped_in_for_validation_are_those_measured(tmp_path: Path) -> None:
    class Swap(pl.Callback):
        """Halves the weights for validation, as an average of weights would change them."""

        def on_validation_epoch_start(self, trainer: pl.Trainer, module: Any) -> None:
            module.rnn.weight_hh_l0.data.mul_(0.5)

        def on_validation_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
            module.rnn.weight_hh_l0.data.mul_(2.0)

    spectra = []
    for swap_first in (True, False):
        callback = quiet()
        fit(tmp_path, *([Swap(), callback] if swap_first else [callback, Swap()]))
        spectra.append(callback.histories["rnn"].exponents())
    assert torch.equal(*spectra)
    plain = quiet()
    fit(tmp_path, plain)
    assert not torch.equal(spectra[0][1], plain.histories["rnn"].exponents()[1])


def test_a_loader_without_length_is_measured_at_the_end_of_the_epoch(tmp_path: Path) -> None:
    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(zip(*sequences(1).tensors, strict=True))

    callback, model = quiet(), Predictor()
    loader = torch.utils.data.DataLoader(Stream(), batch_size=8)
    trainer(tmp_path, callback).fit(model, train_loader(), loader)
    assert callback.histories["rnn"].epochs == [0.0, 1.0, 2.0]


def test_several_validation_loaders(tmp_path: Path) -> None:
    callback, model = quiet(num_sequences=20), Predictor()
    trainer(tmp_path, callback, max_epochs=1).fit(
        model, train_loader(), [val_loader(), train_loader()]
    )
    expected = lyapunov_spectrum(model.rnn, sequences(1).tensors[0][:20])
    assert torch.equal(callback.histories["rnn"].exponents()[-1], expected.exponents)


def test_no_network_is_kept_after_a_run(tmp_path: Path) -> None:
    callback = quiet()
    fit(tmp_path, callback)
    held = [value for value in vars(callback).values() if isinstance(value, nn.Module)]
    assert not held
    assert callback._probe is None
