"""What trained networks left: settings, spectra by epoch, losses, and the spectra of the best."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lightning_lyap import SpectrumHistory
from lightning_lyap.estimator.result import MeanSpectrum
from lightning_lyap.sweeps.losses import Losses, read_losses
from lightning_lyap.sweeps.runs import Run
from paper.measured import Measured, read_all
from paper.training import NETWORK_FILE

LOSS = "val/loss"


@dataclass(frozen=True, eq=False)
class Record:
    """A network and what was measured on it.

    Attributes:
        name: Its name.
        about: What ``network.yaml`` says: task, scale, epochs, facts, settings.
        history: Its spectra during training.
        losses: Its validation losses by epochs completed.
        best: Spectra of its best epoch that were measured after training: ``"hidden"`` (where the
            history lacks that epoch) and ``"full"``.
        measured: What figures measured on its best epoch, by their names.
    """

    name: str
    about: dict[str, Any]
    history: SpectrumHistory
    losses: Losses
    best: dict[str, SpectrumHistory] = field(default_factory=dict)
    measured: dict[str, Measured] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """``"charrnn"`` or ``"mocap"``."""
        return str(self.about["task"])

    @property
    def facts(self) -> dict[str, float]:
        """What makes it differ from its siblings."""
        return dict(self.about["facts"])

    @property
    def data(self) -> str:
        """``"real"``, ``"synthetic"``, or ``"own"`` for a text of the user's own."""
        source = self.about["settings"]["datamodule"]
        return "own" if source.get("text") else str(source["source"])

    @property
    def epochs(self) -> int:
        """Epochs trained."""
        return int(max(self.losses, default=0))

    @property
    def is_complete(self) -> bool:
        """Whether it was trained as long as it was to be."""
        return self.epochs >= int(self.about["epochs"])

    @property
    def best_epoch(self) -> float:
        """Epochs completed at the lowest validation loss; the first of equal ones."""
        return lowest(self.losses)

    @property
    def best_loss(self) -> float:
        """The lowest validation loss."""
        return self.losses[self.best_epoch]

    def best_spectrum(self, state: str = "hidden") -> MeanSpectrum | None:
        """Return the spectrum of the epoch of lowest validation loss (A.1).

        Args:
            state: ``"hidden"`` or ``"full"``.

        Returns:
            The spectrum; None if it was not measured.
        """
        found = [self.history] if state == "hidden" else []
        found += [self.best[state]] if state in self.best else []
        for history in found:
            if self.best_epoch in history.epochs:
                return history.spectra[history.epochs.index(self.best_epoch)]
        return None

    def run_at_best(self, state: str = "hidden") -> Run:
        """Return the run with the spectrum of its best epoch alone, to be compared with others.

        Args:
            state: ``"hidden"`` or ``"full"``.

        Returns:
            A run; without a spectrum if that was not measured.
        """
        source = self.history if state == "hidden" else self.best.get(state)
        history = SpectrumHistory(None if source is None else source.settings)
        spectrum = self.best_spectrum(state)
        if spectrum is not None:
            history.append(self.best_epoch, int(self.best_epoch), spectrum, 0.0)
        return Run(self.name, Path(self.name), history, self.losses)

    def cut(self, epochs: int) -> "Record":
        """Return what would be there if it had been wanted for another number of epochs.

        Args:
            epochs: Epochs wanted; what is beyond them is left out.

        Returns:
            A record; complete if it got that far.
        """
        history = SpectrumHistory(self.history.settings)
        history.failures = [f for f in self.history.failures if f["epoch"] <= epochs]
        rows = zip(
            self.history.epochs,
            self.history.steps,
            self.history.spectra,
            self.history.seconds,
            strict=True,
        )
        for epoch, step, spectrum, seconds in rows:
            if epoch <= epochs:
                history.append(epoch, step, spectrum, seconds)
        losses = {epoch: loss for epoch, loss in self.losses.items() if epoch <= epochs}
        return replace(self, about=self.about | {"epochs": epochs}, history=history, losses=losses)

    def run(self) -> Run:
        """Return the run with all its spectra."""
        return Run(self.name, Path(self.name), self.history, self.losses)


def lowest(losses: Losses) -> float:
    """Find the epoch of the lowest loss; the first of equal ones.

    Args:
        losses: By epochs completed.

    Returns:
        Epochs completed.
    """
    return min(losses, key=lambda epoch: (_size(losses[epoch]), epoch))


def _size(loss: float) -> float:
    """Order losses; what is no number comes last."""
    return loss if math.isfinite(loss) else math.inf


def read_record(folder: Path) -> Record | None:
    """Read what a network left in its folder.

    Args:
        folder: The folder.

    Returns:
        The record; None if no epoch was completed yet.
    """
    spectra = folder / "lyapunov" / "spectra.npz"
    if not (folder / NETWORK_FILE).is_file() or not spectra.is_file():
        return None
    losses = read_losses(folder, LOSS)
    if not losses:
        return None
    about: Any = OmegaConf.to_container(OmegaConf.load(folder / NETWORK_FILE))
    files = sorted((folder / "best").glob("*.npz"))
    best = {file.stem: SpectrumHistory.load(file) for file in files}
    history = SpectrumHistory.load(spectra)
    return Record(str(about["name"]), about, history, losses, best, read_all(folder))


def read_folders(folders: Iterable[Path]) -> list[Record]:
    """Read the networks of some folders, without those that have no epoch yet.

    Args:
        folders: The folders.

    Returns:
        Records.
    """
    return [record for folder in folders if (record := read_record(folder)) is not None]


def complete(records: Sequence[Record], task: str) -> list[Record]:
    """Keep the networks of a task that were trained to the end.

    Args:
        records: Records.
        task: The task.

    Returns:
        Records.
    """
    return [record for record in records if record.task == task and record.is_complete]
