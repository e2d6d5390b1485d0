"""The callback: it watches, logs and leaves training alone."""

import random
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from lightning_lyap import LyapunovSpectrumCallback, SpectrumHistory, lyapunov_spectrum
from lightning_lyap import callback as callback_module
from lightning_lyap.exact_resume import ExactResume
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

pytestmark = pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")

STATISTICS = {
    "max",
    "max_standard_error",
    "max_margin",
    "mean",
    "mean_all",
    "variance",
    "variance_all",
    "min",
    "std_over_sequences",
    "num_positive",
    "kaplan_yorke_dimension",
    "kolmogorov_sinai_entropy",
    "num_unresolved",
    "rounding_error",
    "certified",
}


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
        self.seen.append((loss, torch_state, random.getstate(), str(legacy)))


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
    callback = LyapunovSpectrumCallback(on_error="raise")
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

    monkeypatch.setattr(callback_module, "estimate_spectra", fail)
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


def test_logged_keys_are_exactly_those_documented(tmp_path: Path) -> None:
    fitted, _ = fit(tmp_path, quiet())
    logged = {key for key in fitted.callback_metrics if key.startswith("lyapunov/")}
    expected = {f"lyapunov/{name}" for name in STATISTICS | {"seconds", "epoch_fraction"}}
    assert logged == expected
    documented = LyapunovSpectrumCallback.__doc__ or ""
    assert all(f"``{key}``" in documented for key in expected)


def test_several_modules_are_each_reported_under_their_name(tmp_path: Path) -> None:
    callback = quiet()
    fitted, _ = fit(tmp_path, callback, network=EncoderDecoder)
    assert set(callback.histories) == {"encoder", "decoder"}
    assert callback.histories["decoder"].exponents().shape == (3, 12)
    for name in ("encoder", "decoder"):
        logged = fitted.callback_metrics[f"lyapunov/{name}/max"]
        torch.testing.assert_close(
            logged.double(), callback.histories[name].exponents()[-1, 0], rtol=1e-6, atol=0
        )
    assert "lyapunov/seconds" in fitted.callback_metrics


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


def test_event_file_holds_everything_at_the_steps_of_the_scalars(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="run", version="")
    callback = LyapunovSpectrumCallback(on_error="raise")
    fit(tmp_path, callback, logger=logger, accumulate_grad_batches=2, val_check_interval=2)
    seen = events(tmp_path / "run")
    tags = seen.Tags()
    figures = {"lyapunov/spectrum", "lyapunov/convergence", "lyapunov/history"}
    assert set(tags["images"]) == figures
    assert tags["histograms"] == ["lyapunov/exponents"]
    assert {f"lyapunov/{name}" for name in STATISTICS} <= set(tags["scalars"])
    steps = [event.step for event in seen.Scalars("lyapunov/max")]
    assert steps == callback.histories["rnn"].steps
    assert steps[1:] == [event.step for event in seen.Scalars("val/loss")]
    assert steps == [event.step for event in seen.Histograms("lyapunov/exponents")]
    for figure in figures:
        assert steps == [event.step for event in seen.Images(figure)]
    assert callback.histories["rnn"].epochs == [0.0, 0.5, 1.0, 1.5, 2.0]


def test_the_sanity_check_writes_nothing(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="run", version="")
    fit(tmp_path, quiet(before_training=False), logger=logger, max_epochs=1)
    assert [event.step for event in events(tmp_path / "run").Scalars("lyapunov/max")] == [3]


def test_files_can_be_loaded_and_plotted_with_two_lines(tmp_path: Path) -> None:
    callback = LyapunovSpectrumCallback(on_error="raise")
    fit(tmp_path, callback, network=EncoderDecoder, logger=CSVLogger(tmp_path, "run", version=""))
    folder = tmp_path / "run" / "lyapunov" / "decoder"
    names = {"spectra.npz", "spectrum.png", "convergence.png", "history.png"}
    assert {path.name for path in folder.iterdir()} == names
    history = SpectrumHistory.load(folder / "spectra.npz")
    figure, _ = history.plot()
    assert len(figure.axes) == 2
    assert torch.equal(history.exponents(), callback.histories["decoder"].exponents())
    assert history.settings["state"] == "full"
    assert history.settings["module"] == "decoder"


def test_nothing_is_written_when_saving_is_off_or_the_run_is_a_trial(tmp_path: Path) -> None:
    fit(tmp_path, LyapunovSpectrumCallback(save=False, on_error="raise"))
    fit(tmp_path, LyapunovSpectrumCallback(on_error="raise"), fast_dev_run=True)
    assert not list(tmp_path.iterdir())


class KilledError(Exception):
    """Ends a run as a crash would."""


class Kill(pl.Callback):
    """Crashes in the middle of the fourth epoch."""

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.current_epoch == 3 and args[2] == 1:
            raise KilledError


def test_resumed_run_has_the_history_of_the_uninterrupted_one(tmp_path: Path) -> None:
    def callbacks(name: str) -> list[pl.Callback]:
        folder = tmp_path / name
        checkpoint = ModelCheckpoint(folder, save_last=True, save_on_train_epoch_end=True)
        return [quiet(every_n_validations=2), ExactResume(), checkpoint]

    settings: dict[str, Any] = {"max_epochs": 6, "enable_checkpointing": True}
    whole = callbacks("whole")
    _, expected = fit(tmp_path, *whole, **settings)
    with pytest.raises(KilledError):
        fit(tmp_path, *callbacks("killed"), Kill(), **settings)
    resumed = callbacks("resumed")
    last = tmp_path / "killed" / "last.ckpt"
    assert torch.load(last, weights_only=True)["epoch"] == 2
    _, model = fit(tmp_path, *resumed, ckpt_path=str(last), seed=99, **settings)
    one, other = (run[0].histories["rnn"] for run in (whole, resumed))  # type: ignore[attr-defined]
    assert one.epochs == other.epochs == [0.0, 1.0, 2.0, 4.0, 6.0]
    assert one.steps == other.steps
    assert torch.equal(one.exponents(), other.exponents())
    assert same_weights(model, expected)


@pytest.mark.parametrize("monitor", ["checkpoint", "stopping"])
def test_monitors_go_on_after_a_resumption_before_the_next_measurement(
    tmp_path: Path, monitor: str
) -> None:
    def callbacks() -> list[pl.Callback]:
        saver = ModelCheckpoint(tmp_path / "saved", save_last=True)
        watcher: pl.Callback = ModelCheckpoint(tmp_path / "best", monitor="lyapunov/max")
        if monitor == "stopping":
            watcher = EarlyStopping("lyapunov/max", patience=9, check_on_train_epoch_end=False)
        return [quiet(every_n_validations=4), saver, watcher]

    fit(tmp_path, *callbacks(), max_epochs=2, enable_checkpointing=True)
    resumed = callbacks()
    last = str(tmp_path / "saved" / "last.ckpt")
    fit(tmp_path, *resumed, max_epochs=5, enable_checkpointing=True, ckpt_path=last)
    assert resumed[0].histories["rnn"].epochs == [0.0, 1.0, 4.0]  # type: ignore[attr-defined]


def test_a_callback_used_again_begins_a_new_history(tmp_path: Path) -> None:
    callback = quiet()
    fit(tmp_path, callback)
    fit(tmp_path, callback, max_epochs=1)
    assert callback.histories["rnn"].epochs == [0.0, 1.0]


def test_spectra_measured_otherwise_are_not_mixed_silently(tmp_path: Path) -> None:
    callback = quiet()
    fit(tmp_path, callback)
    with pytest.warns(
        UserWarning, match="measured with .*'num_steps': 100.* one history will hold"
    ):
        quiet(num_steps=5).load_state_dict(callback.state_dict())


def test_without_validation_one_warning_says_so(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="No Lyapunov spectra while this network trains"):
        fit(tmp_path, quiet(), limit_val_batches=0)


def test_epochs_are_counted_before_the_first_step_of_an_accumulation(tmp_path: Path) -> None:
    callback = quiet()
    settings: dict[str, Any] = {"accumulate_grad_batches": 4, "val_check_interval": 1}
    fit(tmp_path, callback, max_epochs=1, **settings)
    assert callback.histories["rnn"].epochs == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_state_survives_a_checkpoint_that_holds_tensors_and_text_only(tmp_path: Path) -> None:
    callback = quiet()
    fit(tmp_path, callback)
    torch.save(callback.state_dict(), tmp_path / "state.pt")
    other = quiet()
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(other.histories["rnn"].exponents(), callback.histories["rnn"].exponents())


def test_two_callbacks_keep_apart(tmp_path: Path) -> None:
    full, hidden = quiet(state="full"), quiet(state="hidden", name="hidden")
    assert full.state_key != hidden.state_key
    fitted, _ = fit(tmp_path, full, hidden, network=EncoderDecoder)
    assert full.histories["decoder"].exponents().shape[1] == 12
    assert hidden.histories["decoder"].exponents().shape[1] == 6
    assert {"hidden/decoder/max", "lyapunov/decoder/max"} <= set(fitted.callback_metrics)


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


def test_one_warning_names_the_cheaper_setting(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"`every_n_validations=\d+` brings it under 10%") as seen:
        fit(tmp_path, quiet(), max_epochs=4)
    assert sum("every_n_validations" in str(warning.message) for warning in seen) == 1


def test_overflow_is_counted_and_never_logged_as_nan(tmp_path: Path) -> None:
    class Exploding(Predictor):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.RNN(3, 6, nonlinearity="relu", batch_first=True)
            self.rnn.get_parameter("weight_hh_l0").data.fill_(1e8)

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return self.read_out.weight.sum() * 0

    callback = LyapunovSpectrumCallback(figures=False)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        fitted, _ = fit(tmp_path, callback, network=Exploding, max_epochs=1)
    assert all(
        torch.isfinite(value)
        for key, value in fitted.callback_metrics.items()
        if key.startswith("lyapunov/")
    )
    history = callback.histories["rnn"]
    assert [spectrum.num_sequences for spectrum in history.spectra] == [0, 0]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"num_sequences": 0}, ValueError, "`num_sequences` to be at least 1"),
        ({"num_steps": 2.5}, TypeError, "`num_steps` to be an int"),
        ({"warmup_steps": -1}, ValueError, "`warmup_steps` to be at least 0"),
        ({"orthonormalize_every": 0}, ValueError, "`orthonormalize_every` to be at least 1"),
        ({"orthonormalize_every": "often"}, ValueError, "to be an int or 'auto'"),
        ({"layers": "each"}, ValueError, r"`layers` to be one of \('joint', 'union'\)"),
        ({"num_exponents": 0}, ValueError, "`num_exponents` to be at least 1"),
        ({"every_n_validations": 0}, ValueError, "`every_n_validations` to be at least 1"),
        ({"state": "both"}, ValueError, "`state` to be one of"),
        ({"dtype": "float16"}, ValueError, "`dtype` to be one of"),
        ({"on_error": "ignore"}, ValueError, "`on_error` to be"),
    ],
)
def test_settings_are_checked_at_once(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        LyapunovSpectrumCallback(**settings)


class Stacked(Predictor):
    """A stack of three layers."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 6, num_layers=3, batch_first=True)


def test_layers_apart_with_automatic_intervals_through_a_checkpoint(tmp_path: Path) -> None:
    callback = LyapunovSpectrumCallback(
        layers="union", orthonormalize_every="auto", num_exponents=9, on_error="raise"
    )
    logger = CSVLogger(tmp_path, "run", version="")
    fitted, model = fit(tmp_path, callback, network=Stacked, logger=logger)
    expected = lyapunov_spectrum(
        model.rnn,  # type: ignore[arg-type]
        sequences(1).tensors[0][:10],
        layers="union",
        orthonormalize_every="auto",
        num_exponents=9,
    )
    assert expected.layer is not None
    fitted.save_checkpoint(tmp_path / "last.ckpt")
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]
    other = quiet(layers="union", orthonormalize_every="auto", num_exponents=9)
    other.load_state_dict(state[callback.state_key])
    file = SpectrumHistory.load(tmp_path / "run" / "lyapunov" / "spectra.npz")
    for history in (callback.histories["rnn"], other.histories["rnn"], file):
        layer = history.spectra[-1].layer
        assert torch.equal(history.exponents()[-1], expected.exponents)
        assert layer is not None
        assert torch.equal(layer, expected.layer)
        assert history.settings["orthonormalize_every"] == "auto"
        assert history.settings["layers"] == "union"


def test_modules_without_known_layers_are_refused_before_training(tmp_path: Path) -> None:
    """Whatever `on_error` says: it can't succeed later."""

    class Loop(Predictor):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(3, 6)

    callback = LyapunovSpectrumCallback(layers="union", on_error="warn")
    with pytest.raises(ValueError, match=r"got 'cell', a GRUCell, .* Use `layers='joint'`"):
        fit(tmp_path, callback, network=Loop)
    fit(tmp_path, quiet(layers="union", modules="rnn"), network=Loop)


class Skipping(nn.GRU):
    """Ends in another state than its weights say, so its spectrum fails the certificate."""

    def forward(self, *args: Any) -> Any:
        output, state = super().forward(*args)
        return output, state + 1


class SkippingPredictor(Predictor):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = Skipping(3, 6, batch_first=True)


def test_a_failed_certificate_is_one_warning_a_run_and_counted(tmp_path: Path) -> None:
    callback = LyapunovSpectrumCallback(figures=False)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        fitted, _ = fit(tmp_path, callback, network=SkippingPredictor, max_epochs=3)
    said = [str(warning.message) for warning in seen]
    assert sum("fails its certificate: states is off by" in message for message in said) == 1
    assert fitted.current_epoch == 3
    assert fitted.callback_metrics["lyapunov/certified"] == 0
    history = callback.histories["rnn"]
    assert len(history) == len(history.failures) == 4
    assert history.failures[-1]["message"].startswith("fails its certificate: states is off by")


def test_a_failed_certificate_stops_training_if_errors_are_raised(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="'rnn' fails its certificate: states is off by"):
        fit(tmp_path, quiet(), network=SkippingPredictor)


def test_double_precision_is_one_word(tmp_path: Path) -> None:
    single, double = quiet(), quiet(dtype="float64", name="double")
    fit(tmp_path, single, double)
    one, other = single.histories["rnn"].exponents(), double.histories["rnn"].exponents()
    assert not torch.equal(one, other)
    # Single precision: 12 steps of rounding errors of 6e-8, exponents of order one.
    torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_half_precision_weights_are_measured_in_single_precision(tmp_path: Path) -> None:
    callback = quiet()
    fit(tmp_path, callback, precision="bf16-true")
    assert callback.histories["rnn"].exponents().isfinite().all()


def test_no_network_is_kept_after_a_run(tmp_path: Path) -> None:
    callback = quiet()
    fit(tmp_path, callback)
    held = [value for value in vars(callback).values() if isinstance(value, nn.Module)]
    assert not held
    assert callback._found == {}
    assert callback._source is None
    assert callback._measured is None
