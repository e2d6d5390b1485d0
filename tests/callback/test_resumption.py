"""The callback goes on where a run was interrupted, and keeps apart what belongs apart."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from lightning_lyap import SpectrumHistory
from lightning_lyap.tasks.exact_resume import ExactResume
from tests.networks import EncoderDecoder, Predictor, fit, train_loader, val_loader
from tests.observers import quiet, same_weights

pytestmark = pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")


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


WATCHERS: dict[str, Any] = {
    "checkpoint after an epoch": lambda folder: ModelCheckpoint(
        folder, monitor="lyapunov/max", save_on_train_epoch_end=True
    ),
    "checkpoint after a step": lambda folder: ModelCheckpoint(
        folder, monitor="lyapunov/max", every_n_train_steps=1
    ),
    "stopping": lambda folder: EarlyStopping(
        "lyapunov/max", patience=9, check_on_train_epoch_end=True
    ),
}


@pytest.mark.parametrize("watcher", WATCHERS)
def test_monitors_find_the_last_value_before_the_first_validation(
    tmp_path: Path, watcher: str
) -> None:
    """Of a run that begins, and of one that goes on: it is the value the whole run would find."""

    class Heard(pl.Callback):
        def __init__(self) -> None:
            self.values: list[float] = []

        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            self.values.append(trainer.callback_metrics["lyapunov/max"].item())

    def run(epochs: int, last: str | None = None) -> list[float]:
        folder, heard = tmp_path / f"{epochs}", Heard()
        saver = ModelCheckpoint(folder, save_last=True, save_on_train_epoch_end=True)
        others = [saver, WATCHERS[watcher](folder / "best"), heard]
        settings: dict[str, Any] = {"check_val_every_n_epoch": 2, "enable_checkpointing": True}
        fit(tmp_path, *others, quiet(), max_epochs=epochs, ckpt_path=last, **settings)
        return heard.values

    whole, begun = run(3), run(2)
    assert len(set(whole)) == 2
    assert begun + run(3, str(tmp_path / "2" / "last.ckpt")) == whole


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


def test_a_run_that_goes_on_with_another_number_of_exponents_begins_a_history(
    tmp_path: Path,
) -> None:
    saver = ModelCheckpoint(tmp_path, save_last=True)
    before = quiet()
    fit(tmp_path, before, saver, enable_checkpointing=True)
    callback = quiet(num_exponents=2)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        last = str(tmp_path / "last.ckpt")
        fit(tmp_path, callback, max_epochs=4, ckpt_path=last)
    said = [str(warning.message) for warning in seen if "have 2 exponents" in str(warning.message)]
    assert len(said) == 1
    assert "now have 2 exponents, N = 6, and had 6, N = 6: its history begins anew" in said[0]
    history = callback.histories["rnn"]
    assert history.epochs == [3.0, 4.0]
    assert history.exponents().shape == (2, 2)
    assert history.failures == []
    new, ended = sorted((tmp_path / "lyapunov").glob("*.npz"))
    assert ended.name == f"spectra_until_step_{before.histories['rnn'].steps[-1]}.npz"
    assert SpectrumHistory.load(ended).epochs == [0.0, 1.0, 2.0]
    assert SpectrumHistory.load(new).epochs == [3.0, 4.0]


def test_a_network_of_another_size_begins_a_history(tmp_path: Path) -> None:
    callback = quiet()
    runner, _ = fit(tmp_path, callback)
    callback.histories["rnn"].record_failure(2.0, 8, "counted")
    runner.fit_loop.max_epochs = 3
    with pytest.warns(UserWarning, match="now have 9 exponents, N = 9, and had 6, N = 6"):
        runner.fit(Predictor(hidden_size=9), train_loader(), val_loader())
    assert callback.histories["rnn"].epochs == [3.0]
    assert [failure["message"] for failure in callback.histories["rnn"].failures] == ["counted"]


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
