"""The callback over several runs: resumed in the middle of an epoch, fitted again, copied."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from tests.modes.runs import epochs_of, quick
from tests.networks import Predictor, fit, train_loader, trainer, val_loader
from tests.observers import same_weights

pytestmark = pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
EVERY: dict[str, Any] = {"max_epochs": 3, "val_check_interval": 2, "enable_checkpointing": True}
WHOLE = [0, 0.5, 1, 1.5, 2, 2.5, 3]


@pytest.mark.grid(every=2)
@pytest.mark.parametrize(
    ("step", "skipped"),
    [(1, None), (3, None), (5, None), (2, 0.5), (6, 1.5)],
)
def test_a_run_goes_on_from_the_middle_of_an_epoch(
    step: int, skipped: float | None, tmp_path: Path
) -> None:
    """Lightning takes a validation for done that was due when the checkpoint was written."""
    saver = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=step, save_top_k=-1)
    whole, resumed = quick(), quick()
    fit(tmp_path, whole, saver, **EVERY)
    checkpoint = str(tmp_path / f"step={step}.ckpt")
    _, model = fit(tmp_path, resumed, ckpt_path=checkpoint, **EVERY)
    _, expected = fit(tmp_path, ckpt_path=checkpoint, **EVERY)
    assert same_weights(model, expected)
    assert epochs_of(whole) == WHOLE
    assert epochs_of(resumed) == [epoch for epoch in WHOLE if epoch != skipped]
    one, other = whole.histories["rnn"], resumed.histories["rnn"]
    assert set(zip(other.epochs, other.steps, strict=True)) <= set(
        zip(one.epochs, one.steps, strict=True)
    )
    before = sum(one_step < step for one_step in other.steps)
    assert torch.equal(other.exponents()[:before], one.exponents()[:before])


def test_a_second_fit_goes_on_where_the_first_ended(tmp_path: Path) -> None:
    callback, trained = quick(), []
    for callbacks in ([], [callback]):
        fitted, model = fit(tmp_path, *callbacks)
        fitted.fit(model, train_loader(), val_loader())  # nothing left to do
        fitted.fit_loop.max_epochs = 4
        fitted.fit(model, train_loader(), val_loader())
        trained.append(model)
    assert same_weights(*trained)
    assert epochs_of(callback) == [0, 1, 2, 3, 4]
    assert callback.histories["rnn"].steps == [0, 3, 7, 11, 15]


@pytest.mark.parametrize("how", ["copied", "pickled"])
def test_copies_go_on_by_themselves(how: str, tmp_path: Path) -> None:
    """Sweeps copy callbacks, and `ddp_spawn` pickles them."""

    def another(one: Any) -> Any:
        return copy.deepcopy(one) if how == "copied" else pickle.loads(pickle.dumps(one))

    callback = another(quick())
    fitted, _ = fit(tmp_path, callback)
    other = another(callback)
    before = callback.histories["rnn"].exponents()
    assert torch.equal(other.histories["rnn"].exponents(), before)
    fitted.save_checkpoint(tmp_path / "two.ckpt")
    fit(tmp_path, other, max_epochs=3, ckpt_path=str(tmp_path / "two.ckpt"))
    assert epochs_of(other) == [0, 1, 2, 3]
    assert torch.equal(callback.histories["rnn"].exponents(), before)


def test_copies_made_in_a_run_leave_it_alone(tmp_path: Path) -> None:
    class Copying(pl.Callback):
        """Copies all callbacks in the middle of a validation that is watched."""

        def __init__(self) -> None:
            self.copies: list[Any] = []

        def on_validation_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
            self.copies.append(copy.deepcopy(callback))

    callback, plain, copying = quick(), quick(), Copying()
    _, model = fit(tmp_path, callback, copying)
    # Nor do they take the Trainer and its network along.
    assert copying.copies
    assert all(one._probe is one._reporter is None for one in copying.copies)
    _, expected = fit(tmp_path, plain)
    assert same_weights(model, expected)
    assert torch.equal(callback.histories["rnn"].exponents(), plain.histories["rnn"].exponents())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_callback_is_free_for_another_network_after_a_run(tmp_path: Path) -> None:
    callback = quick()
    fit(tmp_path, callback)
    model = Predictor("lstm")
    trainer(tmp_path, callback, max_epochs=1).fit(model, train_loader(), val_loader())
    assert epochs_of(callback) == [0, 1]
    assert callback.histories["rnn"].exponents().shape == (2, 12)
