"""Measures trained networks for figures that need more than the spectra of training.

A network is taken at the epoch of its lowest validation loss (A.1), from its folder. What was
measured with the same sizes is not measured again.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig
from pytorch_lightning import LightningModule
from torch import Tensor

from lightning_lyap.estimator.result import SpectrumEstimate
from lightning_lyap.sweeps.losses import read_losses
from paper.jobs import Work
from paper.measured import Arrays, Measured, file_of, plain_sizes
from paper.networks import Network
from paper.records import LOSS, Record, lowest
from paper.settings import Settings, train_config
from paper.training import epochs_of, estimate_of, finished_epochs, folder_of, measured_by, quiet

# Algorithm 1.
PLAIN: dict[str, Any] = {"warmup_steps": 0, "orthonormalize_every": 1}


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network and the sequences that drive it.

    Attributes:
        model: The network at its best epoch.
        datamodule: Its data.
        cfg: train.py's configuration.
        epoch: Epochs it was trained.
    """

    model: LightningModule
    datamodule: Any
    cfg: DictConfig
    epoch: int

    def sequences(self, count: int, steps: int) -> Tensor:
        """Take driving sequences from the held-out data.

        Args:
            count: How many, B.
            steps: Their length T, warm-up included.

        Returns:
            ``[B, T]`` or ``[B, T, F]``.

        Raises:
            ValueError: If the data holds fewer.
        """
        batch: Tensor = self.datamodule.lyapunov_sequences(count, steps)
        return batch

    def spectrum(self, batch: Tensor, **settings: Any) -> SpectrumEstimate:
        """Estimate all exponents by Algorithm 1, of the state measured during training.

        Args:
            batch: What `sequences` returned.
            **settings: Of the estimator, that differ.

        Returns:
            The estimate.
        """
        return estimate_of(self.model, batch, measured_by(self.cfg) | PLAIN | settings)[1]


Measure = Callable[[Trained, Mapping[str, Any]], Arrays]


def load_best(network: Network, settings: Settings) -> Trained:
    """Load a network that was trained to the end, at the epoch of its lowest validation loss.

    Args:
        network: The network.
        settings: How it was trained, the data resolved.

    Returns:
        The network with its data.

    Raises:
        FileNotFoundError: If the checkpoint of that epoch is gone.
    """
    cfg, folder = train_config(network, settings), folder_of(network, settings)
    epoch = _best_epoch(folder, network.epochs)
    checkpoint = _checkpoint(folder, epoch)
    torch.set_flush_denormal(cfg.flush_denormal)  # as in training
    model: Any = get_class(cfg.model["_target_"])
    datamodule: Any = instantiate(cfg.datamodule)
    datamodule.prepare_data()
    datamodule.setup("fit")
    loaded = model.load_from_checkpoint(checkpoint, map_location="cpu")
    cuda = settings.accelerator != "cpu" and torch.cuda.is_available()
    return Trained(loaded.to("cuda" if cuda else "cpu"), datamodule, cfg, epoch)


def _best_epoch(folder: Path, epochs: int) -> int:
    """Find the epoch of the lowest validation loss.

    Args:
        folder: Of the network.
        epochs: Epochs wanted; what it was trained beyond them does not count.

    Returns:
        Epochs completed.
    """
    losses = read_losses(folder, LOSS)
    return int(lowest({epoch: loss for epoch, loss in losses.items() if epoch <= epochs}))


def _checkpoint(folder: Path, epoch: int) -> Path:
    """Find the checkpoint of the best epoch.

    Args:
        folder: Of the network.
        epoch: The epoch.

    Returns:
        The file.

    Raises:
        FileNotFoundError: If there is none of that epoch.
    """
    files = sorted((folder / "checkpoints").glob("best*.ckpt"))
    for file in files:
        if epochs_of(file) == epoch:
            return file
    raise FileNotFoundError(
        f"Expected a checkpoint of epoch {epoch}, that of the lowest validation loss, in "
        f"{folder / 'checkpoints'}, but got {[file.name for file in files]}. Delete {folder} to "
        "train the network again."
    )


def measure_missing(
    work: Sequence[Work], name: str, measure: Measure, sizes: Mapping[str, Any]
) -> list[str]:
    """Measure the networks that were trained to the end and not measured yet, until time is over.

    Args:
        work: Networks and settings.
        name: Of the figure.
        measure: What it measures.
        sizes: By task.

    Returns:
        What went wrong, a line for each network that failed; the others go on.
    """
    quiet()
    failures = []
    for network, settings in work:
        if settings.is_over:
            break
        if finished_epochs(folder_of(network, settings), full=False) < network.epochs:
            continue
        try:
            print(_measure_one(network, settings, name, measure, sizes[network.task]), flush=True)
        except Exception as error:
            failures.append(f"{network.name}: {name}: {type(error).__name__}: {error}")
            print(failures[-1], flush=True)
    return failures


def _measure_one(
    network: Network, settings: Settings, name: str, measure: Measure, sizes: dict[str, Any]
) -> str:
    """Measure a network, unless that was done.

    Args:
        network: The network.
        settings: How it was trained.
        name: Of the figure.
        measure: What it measures.
        sizes: Its steps, sequences and the like.

    Returns:
        What was done, in a line.
    """
    folder = folder_of(network, settings)
    path = file_of(folder, name)
    if path.is_file():
        there = Measured.load(path)
        if there.sizes == sizes and there.epoch == _best_epoch(folder, network.epochs):
            return f"{network.name}: {name} was measured after epoch {there.epoch:g}"
    start = time.perf_counter()
    trained = load_best(network, settings)
    arrays = measure(trained, sizes)
    Measured(float(trained.epoch), sizes, trained.model.device.type, arrays).save(path)
    seconds = time.perf_counter() - start
    return f"{network.name}: {name} measured after epoch {trained.epoch}, for {seconds:.0f} s"


def running(estimate: SpectrumEstimate) -> Tensor:
    """Compute the exponents of each sequence after every orthonormalization (Eq. 5).

    Args:
        estimate: With its log-stretches; all sequences of one length.

    Returns:
        ``[M, B, K]``, nats per step, on the CPU.

    Raises:
        ValueError: If a sequence did not stay finite.
    """
    if not bool(estimate.valid.all()):
        raise ValueError(
            f"Expected sequences that stay finite, but {int((~estimate.valid).sum())} of "
            f"{estimate.valid.numel()} do not. Look at the network: its states overflow."
        )
    stretches = estimate.log_stretches
    assert stretches is not None
    return stretches.cpu().cumsum(0) / estimate.block_ends.cpu()[:, None, None]


def measured_for(
    name: str, records: Sequence[Record], cfg: DictConfig
) -> list[tuple[str, Measured]]:
    """Return what a figure measured on all its networks; see `require`.

    Args:
        name: Of the figure.
        records: The networks.
        cfg: Settings of the command.

    Returns:
        Task and numbers of each.

    Raises:
        ValueError: If there is no network, or one was not measured.
    """
    if not records:
        raise ValueError(
            f"Expected networks that were trained and measured for {name}, but got none. Call "
            "again without a deadline, or with a later one."
        )
    return [(record.task, require(record, name, cfg)) for record in records]


def require(record: Record, name: str, cfg: DictConfig) -> Measured:
    """Return what a figure measured on a network, and nothing else that may be there.

    Args:
        record: The network.
        name: Of the figure.
        cfg: Settings of the command.

    Returns:
        The numbers.

    Raises:
        ValueError: If it was not measured, at another epoch, or in another way.
    """
    wanted = plain_sizes(cfg, name)[record.task]
    found = record.measured.get(name)
    if found is None:
        problem = "it is not"
    elif found.sizes != wanted:
        problem = f"it was measured with {found.sizes}"
    elif found.epoch != record.best_epoch:
        problem = f"it was measured after epoch {found.epoch:g}"
    else:
        return found
    raise ValueError(
        f"Expected {record.name} to be measured for {name} after epoch {record.best_epoch:g} with "
        f"{wanted}, but {problem}. Run `python -m paper.{name} out=FOLDER` where it was trained; "
        "to draw from `results`, run `python -m paper.collect out=FOLDER` there again after it."
    )
