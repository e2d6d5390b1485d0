"""Times training steps and spectra of a network in turn, in the middle of its real training."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

from lightning_lyap.estimator.result import SpectrumEstimate
from lightning_lyap.network.spectra import spectra_of
from paper.networks import Network
from paper.settings import Settings, train_config
from paper.training import quiet, window
from train import sizes

MIN_ROUNDS = 3
Measure = Callable[[pl.LightningModule, Tensor], int]


@dataclass(frozen=True)
class Kind:
    """A kind of spectrum.

    Attributes:
        interval: Steps between factorizations, or ``"auto"``.
        leading: How many leading exponents; None for all.
    """

    interval: int | str
    leading: int | None = None


@dataclass(frozen=True, eq=False)
class Timing:
    """What training steps and spectra of a task took, round by round.

    Attributes:
        task: The task.
        data: ``"real"``, ``"synthetic"`` or ``"own"``.
        device: In words.
        size: In words: the network, the batch of a step, the sequences of a spectrum.
        steps_per_epoch: Batches in an epoch.
        steps: Seconds of a training step, for each round.
        spectra: Seconds of a spectrum of each kind, for each round.
        exponents: K of each kind.
    """

    task: str
    data: str
    device: str
    size: str
    steps_per_epoch: int
    steps: Sequence[float]
    spectra: Mapping[Kind, Sequence[float]]
    exponents: Mapping[Kind, int]

    def in_steps(self, kind: Kind) -> list[float]:
        """Return how many training steps a spectrum takes, for each round."""
        pairs = zip(self.spectra[kind], self.steps, strict=True)
        return [spectrum / step for spectrum, step in pairs]


class TimeInTurn(pl.Callback):
    """Times, in rounds, some training steps and then a spectrum of each kind; ends the training.

    A step is all the Trainer does for it: loading the batch, forward, backward, clipping,
    optimizer, logging. The first steps, and short spectra after them, go untimed.

    Args:
        measures: Measure a spectrum of each kind of a module on a batch; they return K.
        batch: Sequences, ``[B, T, ...]``.
        short: Steps of those sequences for the untimed spectra.
        effort: ``steps`` of a round, ``rounds``, ``seconds``: no further round begins after so
            many, once there are three.
        clock: Seconds, given the device. Default: `now`.

    Attributes:
        steps: Seconds of a training step, for each round.
        spectra: Seconds of a spectrum of each kind, for each round.
        exponents: K of each kind.
    """

    def __init__(
        self,
        measures: Mapping[Kind, Measure],
        batch: Tensor,
        short: int,
        effort: DictConfig,
        clock: Callable[[torch.device], float] | None = None,
    ) -> None:
        self.steps: list[float] = []
        self.spectra: dict[Kind, list[float]] = {kind: [] for kind in measures}
        self.exponents: dict[Kind, int] = {}
        self._measures, self._batch, self._short = measures, batch, short
        self._effort, self._clock = effort, clock or now
        self._count = 0
        self._begin = self._since = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._begin = self._since = self._clock(pl_module.device)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count the step; after the last of a round measure the spectra."""
        self._count += 1
        if self._count % self._effort.steps:
            return
        if self._count == self._effort.steps:
            self._warm_up(pl_module)
        else:
            self._finish_round(pl_module)
        self._since = self._clock(pl_module.device)
        done = len(self.steps)
        late = done >= MIN_ROUNDS and self._since - self._begin >= self._effort.seconds
        trainer.should_stop = done >= self._effort.rounds or late

    def _warm_up(self, module: pl.LightningModule) -> None:
        """Measure short spectra, so that what is done once for all is not timed.

        Args:
            module: The network.
        """
        for kind, measure in self._measures.items():
            self.exponents[kind] = measure(module, self._batch[:, : self._short])

    def _finish_round(self, module: pl.LightningModule) -> None:
        """Keep the time of the steps, and measure each kind of spectrum once.

        Args:
            module: The network.
        """
        self.steps.append((self._clock(module.device) - self._since) / self._effort.steps)
        for kind, measure in self._measures.items():
            start = self._clock(module.device)
            measure(module, self._batch)
            self.spectra[kind].append(self._clock(module.device) - start)


def now(device: torch.device) -> float:
    """Read the clock when the device has done its work.

    Args:
        device: The device.

    Returns:
        Seconds; of the processor where it is one thread of a CPU, so that other work on the machine
        does not count. With several threads, of which some wait, it would count too much.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.process_time() if counts_processor(device) else time.perf_counter()


def counts_processor(device: torch.device) -> bool:
    """Tell whether times on a device are those of the processor, not of the wall clock."""
    return device.type == "cpu" and torch.get_num_threads() == 1


def time_task(
    network: Network, settings: Settings, kinds: Sequence[Kind], effort: DictConfig
) -> Timing:
    """Train a network for some steps and time it; nothing is written.

    Args:
        network: The network.
        settings: How to train, the data resolved.
        kinds: Kinds of spectra.
        effort: ``steps`` of a round, ``rounds``, ``seconds``.

    Returns:
        The times.

    Raises:
        ValueError: If there are less than three rounds or no step in a round, or if training ended
            before.
    """
    if effort.rounds < MIN_ROUNDS or effort.steps < 1:
        raise ValueError(
            f"Expected at least {MIN_ROUNDS} `rounds` of at least 1 of `steps` in `table1` of the "
            f"scale, but got {effort.rounds} of {effort.steps}."
        )
    quiet()
    cfg = train_config(network, settings)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    torch.set_flush_denormal(cfg.flush_denormal)
    datamodule: Any = instantiate(cfg.datamodule)
    datamodule.prepare_data()
    datamodule.setup("fit")
    model: pl.LightningModule = instantiate(cfg.model, **sizes(datamodule))
    batch = datamodule.lyapunov_sequences(cfg.lyapunov.num_sequences, window(cfg))
    watch = TimeInTurn(
        {kind: partial(measure, cfg.lyapunov, kind) for kind in kinds},
        batch,
        cfg.lyapunov.warmup_steps + 2,
        effort,
    )
    alone = {"logger": False, "enable_checkpointing": False, "limit_val_batches": 0}
    trainer = instantiate(cfg.trainer, **alone, max_epochs=-1, callbacks=[watch])
    trainer.fit(model, datamodule=datamodule)
    if len(watch.steps) < MIN_ROUNDS:
        raise ValueError(
            f"Expected training to go on for {MIN_ROUNDS} rounds, but it ended after "
            f"{len(watch.steps)}. Leave out what ends it: `max_steps`, `max_time`, `fast_dev_run`."
        )
    return Timing(
        task=network.task,
        data="own" if cfg.task.get("text") else settings.data,
        device=device_name(trainer.strategy.root_device),
        size=f"{cfg.task.cell.upper()} with {cfg.task.hidden_size} units, batches of "
        f"{cfg.task.batch_size}; spectra of {batch.shape[0]} sequences of "
        f"{cfg.lyapunov.num_steps} steps",
        steps_per_epoch=int(trainer.num_training_batches),
        steps=watch.steps,
        spectra=watch.spectra,
        exponents=watch.exponents,
    )


def measure(lyapunov: DictConfig, kind: Kind, module: pl.LightningModule, batch: Tensor) -> int:
    """Measure the spectrum of a network's one recurrent module.

    Args:
        lyapunov: Settings of the callback, without those of the kind.
        kind: The kind.
        module: The network.
        batch: Sequences.

    Returns:
        K.
    """
    estimate: SpectrumEstimate
    (estimate,) = spectra_of(
        module,
        batch,
        num_exponents=kind.leading,
        orthonormalize_every=kind.interval,
        warmup_steps=lyapunov.warmup_steps,
        state=lyapunov.state,
        layers=lyapunov.layers,
    ).values()
    return estimate.num_exponents


def device_name(device: torch.device) -> str:
    """Name a device and what is timed on it.

    Args:
        device: The device.

    Returns:
        Its name on CUDA, else the number of threads; and which time was taken.
    """
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, wall time"
    if counts_processor(device):
        return f"{device.type}, 1 thread, processor time"
    return f"{device.type}, {torch.get_num_threads()} threads, wall time"
