"""Both names of Lightning, pytorch_lightning and lightning.pytorch, with stateful resumption."""

from pathlib import Path
from typing import Any

import lightning.pytorch
import pytest
import pytorch_lightning
import torch
from torch import nn

from lightning_lyap import LyapunovSpectrumCallback
from lightning_lyap.tasks.exact_resume import ExactResume
from lightning_lyap.tasks.loss_recorder import LossRecorder
from tests.modes.runs import epochs_of, quick
from tests.networks import FEATURES, Predictor, Windows, train_loader, val_loader
from tests.observers import same_weights

pytestmark = pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
NAMESPACES: dict[str, Any] = {
    "pytorch_lightning": pytorch_lightning,
    "lightning.pytorch": lightning.pytorch,
}
NAMES = pytest.mark.parametrize("name", NAMESPACES)


def predictor(space: Any) -> Any:
    """Build the predictor in a namespace."""

    class Network(space.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(FEATURES, 6, batch_first=True)
            self.dropout = nn.Dropout(0.3)
            self.read_out = nn.Linear(6, FEATURES)

        forward = Predictor.forward
        training_step = Predictor.training_step
        validation_step = Predictor.validation_step
        test_step = Predictor.test_step
        configure_optimizers = Predictor.configure_optimizers

    return Network()


def windows(space: Any) -> Any:
    """Build the DataModule with windows in a namespace."""

    class Data(space.LightningDataModule):
        train_dataloader = Windows.train_dataloader
        val_dataloader = Windows.val_dataloader
        lyapunov_sequences = Windows.lyapunov_sequences

        def __init__(self) -> None:
            super().__init__()
            self.asked: list[tuple[int, int]] = []

    return Data()


def run(
    space: Any, folder: Path, callbacks: list[Any], max_epochs: int, ckpt_path: Any = None
) -> Any:
    """Train the predictor; a resumed run starts from other weights and generators."""
    space.seed_everything(3 if ckpt_path is None else 99, workers=True, verbose=False)
    model = predictor(space)
    trainer = space.Trainer(
        max_epochs=max_epochs,
        default_root_dir=folder,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        callbacks=callbacks,
    )
    trainer.fit(model, train_loader(), val_loader(), ckpt_path=ckpt_path)
    return model, trainer


def callbacks(space: Any, folder: Path) -> list[Any]:
    """Two callbacks of ours with states of their own, those that go with them, a checkpoint."""
    return [
        quick(every_n_validations=2),
        quick(name="other", num_exponents=2, dtype="float64"),
        LossRecorder(),
        ExactResume(),
        space.callbacks.ModelCheckpoint(
            folder, monitor="other/max", save_last=True, save_top_k=-1, save_on_train_epoch_end=True
        ),
    ]


@NAMES
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(name: str, tmp_path: Path) -> None:
    space = NAMESPACES[name]
    whole, first, resumed = (callbacks(space, tmp_path / part) for part in ("a", "b", "c"))
    expected, _ = run(space, tmp_path, whole, 4)
    run(space, tmp_path, first, 2)
    last = tmp_path / "b" / "last.ckpt"
    assert torch.load(last, weights_only=True)["epoch"] == 1
    model, _ = run(space, tmp_path, resumed, 4, last)
    assert same_weights(model, expected)
    assert epochs_of(whole[0]) == [0, 1, 2, 4]
    for one, other in zip(whole[:2], resumed[:2], strict=True):
        assert isinstance(one, LyapunovSpectrumCallback)
        ours, theirs = one.histories["rnn"], other.histories["rnn"]
        assert ours.epochs == theirs.epochs
        assert ours.steps == theirs.steps
        assert torch.equal(ours.exponents(), theirs.exponents())
    assert whole[2].losses == resumed[2].losses


@NAMES
def test_spectra_are_the_same_under_both_names(name: str, tmp_path: Path) -> None:
    space, callback, plain = NAMESPACES[name], quick(), quick()
    model, trainer = run(space, tmp_path, [callback], 2)
    expected, _ = run(pytorch_lightning, tmp_path, [plain], 2)
    assert same_weights(model, expected)
    assert torch.equal(callback.histories["rnn"].exponents(), plain.histories["rnn"].exponents())
    assert "lyapunov/max" in trainer.callback_metrics
    for stage in (trainer.validate, trainer.test):
        (values,) = stage(model, val_loader(), verbose=False)
        assert values["lyapunov/max"] == pytest.approx(
            callback.histories["rnn"].exponents()[-1, 0].item(), rel=1e-6
        )


@NAMES
def test_windows_of_a_datamodule_are_used_under_both_names(name: str, tmp_path: Path) -> None:
    space, data = NAMESPACES[name], windows(NAMESPACES[name])
    callback = quick()
    trainer = space.Trainer(
        fast_dev_run=True, accelerator="cpu", callbacks=[callback], enable_model_summary=False
    )
    trainer.fit(predictor(space), datamodule=data)
    assert data.asked == [(4, 8)]
    assert epochs_of(callback) == [0, 1]
