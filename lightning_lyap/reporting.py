"""The table at the end of a run: losses and spectra by epoch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_warn
from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_lyap.failures import guarded
from lightning_lyap.history import SpectrumHistory
from lightning_lyap.losses import LOSS_FILE, save_losses
from lightning_lyap.trainer_facts import log_folder, writes_files

COLUMNS = {
    "epoch": "epoch",
    "train/loss": "train loss",
    "val/loss": "val. loss",
    "max": "max",
    "mean": "mean",
    "variance": "variance",
    "kaplan_yorke_dimension": "dimension",
    "seconds": "seconds",
}


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
        self.losses[trainer.current_epoch + 1] = {
            name: float(trainer.callback_metrics[name])
            for name in ("train/loss", "val/loss")
            if name in trainer.callback_metrics
        }
        if self._path is not None and trainer.is_global_zero:
            with guarded("warn", "saving", self._warn_once):
                save_losses(self._path, self.losses)

    def _warn_once(self, message: str) -> None:
        """Warn about the first failure to write; the losses are kept for the next time.

        Args:
            message: What went wrong.
        """
        if not self._warned:
            rank_zero_warn(f"{LOSS_FILE} is behind: {message}")
        self._warned = True

    def state_dict(self) -> dict[str, Any]:
        """Return the losses."""
        return {"losses": {str(epoch): losses for epoch, losses in self.losses.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with losses that `state_dict` returned."""
        self.losses = {int(epoch): losses for epoch, losses in state_dict["losses"].items()}


def results_table(
    losses: Mapping[int, Mapping[str, float]], history: SpectrumHistory
) -> list[dict[str, float]]:
    """Join losses and spectra by epoch.

    Args:
        losses: Losses by name, by epochs completed.
        history: The spectra of one module.

    Returns:
        A row for each spectrum, its values by the names in `COLUMNS`.
    """
    rows = []
    for epoch, spectrum, seconds in zip(
        history.epochs, history.spectra, history.seconds, strict=True
    ):
        at_epoch = losses.get(int(epoch), {}) if epoch.is_integer() else {}
        rows.append(
            {"epoch": epoch, **at_epoch, **spectrum.measures().scalars(), "seconds": seconds}
        )
    return rows


def format_table(rows: list[dict[str, float]]) -> str:
    """Set rows as plain text in columns.

    Args:
        rows: Values by the names in `COLUMNS`; what a row lacks is shown as a dash.

    Returns:
        Lines of equal length, the header first.

    Example:
        >>> print(format_table([{"epoch": 1.0, "max": -0.5}]).splitlines()[1].split())
        ['1', '-', '-', '-0.5000', '-', '-', '-', '-']
    """
    shown = [[_number(row.get(name), name) for name in COLUMNS] for row in rows]
    table = [list(COLUMNS.values()), *shown]
    widths = [max(len(line[column]) for line in table) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in table
    )


def _number(value: float | None, name: str) -> str:
    """Set one number.

    Args:
        value: The number, or None.
        name: Its column.

    Returns:
        Text.
    """
    if value is None:
        return "-"
    return {"epoch": f"{value:g}", "seconds": f"{value:.2f}"}.get(name, f"{value:.4f}")
