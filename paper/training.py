"""Trains one network in a folder of its own, and goes on with what an earlier call left there."""

import json
import logging
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import LightningModule

from lightning_lyap import SpectrumHistory
from lightning_lyap._atomic_files import whole_file
from lightning_lyap.estimator.result import SpectrumEstimate
from lightning_lyap.network.spectra import spectra_of
from paper.networks import Network
from paper.settings import Settings, digest, fingerprint, in_folder, train_config
from train import train

NETWORK_FILE = "network.yaml"
MARKER = "finished.json"


@dataclass(frozen=True)
class Progress:
    """How far a network got.

    Attributes:
        name: Its name.
        folder: Its folder.
        epochs: Epochs trained.
        wanted: Epochs to train.
        was_there: Whether nothing was left to do.
        seconds: Wall time of this call.
    """

    name: str
    folder: Path
    epochs: int
    wanted: int
    was_there: bool = False
    seconds: float = 0.0

    def line(self) -> str:
        """Say it in a line."""
        state = "was there" if self.was_there else f"trained for {self.seconds:.0f} s"
        missing = "" if self.epochs >= self.wanted else ", the time is over"
        return f"{self.name}: {state}, epoch {self.epochs} of {self.wanted}{missing}"


def folder_of(network: Network, settings: Settings) -> Path:
    """Name the folder of a network; other settings have another one.

    Args:
        network: The network.
        settings: How to train, the data resolved.

    Returns:
        The folder.
    """
    plain = fingerprint(train_config(network, settings))
    return settings.out / "networks" / f"{network.name}-{digest(plain)}"


def finished_epochs(folder: Path, full: bool) -> int:
    """Tell how many epochs a network was trained and measured to the end.

    Args:
        folder: Its folder.
        full: Whether its full state is to be measured, too.

    Returns:
        Epochs; 0 without a marker, or with one that lacks what is asked for.
    """
    marker = folder / MARKER
    if not marker.is_file():
        return 0
    said = json.loads(marker.read_text(encoding="utf-8"))
    return int(said["epochs"]) if said["full"] or not full else 0


def train_network(network: Network, settings: Settings) -> Progress:
    """Train a network unless it is trained, and measure the epoch of its lowest validation loss.

    Args:
        network: The network.
        settings: How to train, the data resolved.

    Returns:
        How far it got: all epochs, unless the time was over before.
    """
    quiet()
    start = time.perf_counter()
    cfg = train_config(network, settings)
    plain = fingerprint(cfg)
    folder = settings.out / "networks" / f"{network.name}-{digest(plain)}"
    done = finished_epochs(folder, settings.full)
    if done >= network.epochs:
        return Progress(network.name, folder, done, network.epochs, was_there=True)
    describe(folder, network, plain)
    result = train(in_folder(cfg, folder, settings.stop_at))
    epochs = max(result["losses"].losses, default=0)
    if epochs >= network.epochs and not settings.is_over:
        measure_best(cfg, result, folder, settings.full)
        facts = {"digest": digest(plain), "epochs": epochs, "full": settings.full}
        write_whole(folder / MARKER, json.dumps(facts) + "\n")
    seconds = time.perf_counter() - start
    return Progress(network.name, folder, epochs, network.epochs, seconds=seconds)


def describe(folder: Path, network: Network, plain: dict[str, Any]) -> None:
    """Write what a network is into its folder.

    Args:
        folder: Its folder.
        network: The network.
        plain: The settings that determine its numbers.
    """
    said = {
        "name": network.name,
        "task": network.task,
        "scale": network.scale,
        "epochs": network.epochs,
        "facts": network.facts,
        "torch": str(torch.__version__),
        "settings": plain,
    }
    write_whole(folder / NETWORK_FILE, OmegaConf.to_yaml(OmegaConf.create(said)))


def measure_best(cfg: DictConfig, result: dict[str, Any], folder: Path, full: bool) -> None:
    """Measure the network of the lowest validation loss as the paper does, and in its full state.

    Args:
        cfg: train.py's configuration.
        result: What `train` returned.
        folder: The run's folder; the spectra go to ``best/``.
        full: Whether to measure the full state.
    """
    best = Path(result["trainer"].checkpoint_callback.best_model_path)
    model = type(result["model"]).load_from_checkpoint(best, map_location="cpu")
    epoch = epochs_of(best)
    model.to(result["trainer"].strategy.root_device)
    batch = result["datamodule"].lyapunov_sequences(cfg.lyapunov.num_sequences, window(cfg))
    (history,) = result["spectra"].histories.values()
    if epoch not in history.epochs:
        save_one(folder / "best" / "hidden.npz", cfg, model, batch, epoch, {})
    if full:
        # Twice as many exponents; the interval keeps their errors within its tolerance.
        more = {"state": "full", "orthonormalize_every": "auto"}
        save_one(folder / "best" / "full.npz", cfg, model, batch, epoch, more)


def save_one(
    path: Path,
    cfg: DictConfig,
    model: LightningModule,
    batch: Any,
    epoch: int,
    changed: dict[str, Any],
) -> None:
    """Measure a spectrum and save it as a history of one.

    Args:
        path: The file.
        cfg: train.py's configuration.
        model: The network.
        batch: Sequences that it takes.
        epoch: Epochs it was trained.
        changed: Settings that differ from those during training.
    """
    chosen = measured_by(cfg) | changed
    module, estimate = estimate_of(model, batch, chosen)
    history = SpectrumHistory(chosen | {"module": module})
    history.append(epoch, epoch, estimate, 0.0)
    history.save(path)


def measured_by(cfg: DictConfig) -> dict[str, Any]:
    """Return how spectra are measured during training, as settings of the estimator."""
    names = ("warmup_steps", "orthonormalize_every", "state", "layers")
    return {name: cfg.lyapunov[name] for name in names}


def estimate_of(
    model: LightningModule, batch: Any, settings: dict[str, Any]
) -> tuple[str, SpectrumEstimate]:
    """Estimate all exponents of the one recurrent module of a network.

    Args:
        model: The network.
        batch: Sequences that it takes.
        settings: Of the estimator.

    Returns:
        Name of the module, and the estimate.
    """
    ((module, estimate),) = spectra_of(model, batch, num_exponents=None, **settings).items()
    return module, estimate


def epochs_of(checkpoint: Path) -> int:
    """Return the epochs that the network of a checkpoint was trained."""
    return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["epoch"]) + 1


def window(cfg: DictConfig) -> int:
    """Return the steps of a sequence, warm-up included."""
    return int(cfg.lyapunov.warmup_steps + cfg.lyapunov.num_steps)


def write_whole(path: Path, text: str) -> None:
    """Write a text; the file appears whole.

    Args:
        path: The file; its folder is made if it is not there.
        text: The text.
    """
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def for_task(settings: Settings, source: str) -> Settings:
    """Fix the data of a task, so that real and synthetic networks are never mistaken.

    Args:
        settings: How to train.
        source: What `resolve_data` said.

    Returns:
        Settings with that data.
    """
    return settings if source == "file" else replace(settings, data=source)


def quiet() -> None:
    """Leave out what Lightning says at the start of each of many runs."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    noise = (
        "does not have many workers",
        "log_every_n_steps",
        "exists and is not empty",
        "`isinstance\\(treespec, LeafSpec\\)`",
        "The Lyapunov spectrum took",
    )
    for words in noise:
        warnings.filterwarnings("ignore", f".*{words}")
