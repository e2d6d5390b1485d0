"""Keeps the losses of every epoch."""

from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_warn
from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_lyap.callback.errors import guarded
from lightning_lyap.callback.trainer import log_folder, writes_files
from lightning_lyap.sweeps.losses import LOSS_FILE, save_losses


class LossRecorder(Callback):
    """Keeps the losses of every epoch, through checkpoints too, and writes ``losses.csv``.

    The file lies in the log folder, beside the spectra, and is whole after every epoch. Where it
    can't be written training goes on, with one warning; the next epoch tries again. Beside a logger
    that can't name its folder there is none.

    Attributes:
        losses: Losses by name, by epochs completed.
    """

    def __init__(self) -> None:
        self.losses: dict[int, dict[str, float]] = {}
        self._path: Path | None = None
        self._warned = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask where the file goes; every process must ask."""
        self._path = None
        if writes_files(trainer):
            with guarded("warn", "finding the folder", self._warn_once):
                self._path = log_folder(trainer) / LOSS_FILE

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the losses of the epoch that ends, and write them."""
        logged = trainer.callback_metrics
        self.losses[trainer.current_epoch + 1] = {
            name: float(logged[name]) for name in ("train/loss", "val/loss") if name in logged
        }
        if self._path is not None and trainer.is_global_zero:
            with guarded("warn", "saving", self._warn_once):
                save_losses(self._path, self.losses)

    def _warn_once(self, message: str) -> None:
        """Warn about the first failure to write; the losses are kept for the next time."""
        if not self._warned:
            rank_zero_warn(f"{LOSS_FILE} is behind: {message}")
        self._warned = True

    def state_dict(self) -> dict[str, Any]:
        """Return the losses, by epochs as text."""
        return {"losses": {str(epoch): losses for epoch, losses in self.losses.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with losses that `state_dict` returned."""
        self.losses = {int(epoch): losses for epoch, losses in state_dict["losses"].items()}
