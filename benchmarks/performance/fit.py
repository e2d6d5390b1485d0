"""What the callback says it costs, against a clock outside of it."""

import csv
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningDataModule, Trainer
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_lyap import LyapunovSpectrumCallback
from lightning_lyap.tasks import CharRNN
from performance.clocks import Clocked, Gaps
from performance.table import Bar, Result, Row
from performance.timing import Spread
from performance.twin import Twin

TEXT = (
    "A CharRNN (LSTM, {units} units) is fit for {epochs} epochs with `LyapunovSpectrumCallback()` "
    "as it is by default, in turn with the same fit without it; wall time. The logged "
    "`lyapunov/epoch_fraction` is compared with the time inside the callback's hooks over all time "
    "since the measurement before, by a clock outside of it; between validations the fit with the "
    "callback should take the same time as without. The difference is that of the last spectrum "
    "of the fit."
)


@dataclass(frozen=True)
class Sizes:
    """How much to compute.

    Attributes:
        units: H.
        characters: Distinct ones.
        steps: T of a sequence of text.
        batch: Sequences of a batch.
        batches: Of an epoch.
        epochs: Of a fit, at least two.
        rounds: How often both fits are done.
        settings: Of the callback, those that are not its defaults.
    """

    units: int
    characters: int
    steps: int
    batch: int
    batches: int
    epochs: int
    rounds: int
    settings: dict[str, Any] = field(default_factory=dict)


FULL = Sizes(64, 30, 100, 50, 40, 4, 3)
QUICK = Sizes(32, 30, 50, 20, 30, 3, 2)


class Text(LightningDataModule):
    """Random characters.

    Args:
        sizes: How many.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        shape = (sizes.batch * (sizes.batches + 2), sizes.steps + 1)
        self._tokens = torch.randint(sizes.characters, shape, generator=generator)
        self._held_out = torch.randint(sizes.characters, (64, 256), generator=generator)
        self._sizes = sizes

    def _loader(self, rows: slice) -> "DataLoader[tuple[Tensor, ...]]":
        """Load some of the rows, in order."""
        tokens = self._tokens[rows]
        dataset = TensorDataset(tokens[:, :-1], tokens[:, 1:])
        return DataLoader(dataset, batch_size=self._sizes.batch)

    def train_dataloader(self) -> "DataLoader[tuple[Tensor, ...]]":
        """Load all but the last two batches."""
        return self._loader(slice(None, -2 * self._sizes.batch))

    def val_dataloader(self) -> "DataLoader[tuple[Tensor, ...]]":
        """Load the last two batches."""
        return self._loader(slice(-2 * self._sizes.batch, None))

    def lyapunov_sequences(self, num_sequences: int, num_steps: int) -> Tensor:
        """Return held-out characters, ``[B, T]``."""
        return self._held_out[:num_sequences, :num_steps]


@dataclass(frozen=True)
class Fit:
    """What a fit left.

    Attributes:
        seconds: Wall time.
        gaps: Between validations, seconds.
        logged: The callback's fractions.
        outside: The same by the clock outside.
        measuring: Seconds of all measurements, as logged.
        network: The network.
        exponents: Last spectrum of the callback, ``[K]``.
        resolved: Which of them are, ``[K]``.
    """

    seconds: float
    gaps: list[float]
    logged: list[float] = field(default_factory=list)
    outside: list[float] = field(default_factory=list)
    measuring: float = 0.0
    network: CharRNN | None = None
    exponents: Tensor | None = None
    resolved: Tensor | None = None

    def difference(self, sizes: Sizes, num_sequences: int, num_steps: int) -> float:
        """Compare the last spectrum with the twin.

        Args:
            sizes: Of the fit.
            num_sequences: B.
            num_steps: T.

        Returns:
            The largest difference of a resolved exponent, nats per step.
        """
        assert self.network is not None
        assert self.exponents is not None
        assert self.resolved is not None
        tokens = Text(sizes).lyapunov_sequences(num_sequences, num_steps)
        inputs = torch.nn.functional.one_hot(tokens, sizes.characters).float()
        with torch.no_grad():
            exact = Twin(self.network.rnn, "full").exponents(inputs).mean(0)
        off = (exact.sort(descending=True).values - self.exponents).abs()
        return float(off[self.resolved].max())


def logged(folder: Path, key: str) -> list[float]:
    """Read what a CSVLogger wrote.

    Args:
        folder: Of the logger.
        key: Name of the metric.

    Returns:
        Its values.
    """
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [float(row[key]) for row in csv.DictReader(file) if row.get(key)]


def fit(sizes: Sizes, with_callback: bool) -> Fit:
    """Fit a network from the same start.

    Args:
        sizes: How much.
        with_callback: Whether to measure.

    Returns:
        What is left of it.
    """
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        network = CharRNN(sizes.characters, hidden_size=sizes.units, bias=True)
        gaps, ours = Gaps(), Clocked(**sizes.settings) if with_callback else None
        callbacks: Sequence[Callback] = [gaps] if ours is None else [gaps, ours]
        logger = CSVLogger(folder)
        trainer = Trainer(
            max_epochs=sizes.epochs,
            accelerator="cpu",
            logger=logger,
            callbacks=list(callbacks),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        start = time.perf_counter()
        trainer.fit(network, datamodule=Text(sizes))
        seconds = time.perf_counter() - start
        if ours is None:
            return Fit(seconds, gaps.seconds)
        (history,) = ours.histories.values()
        wrote = Path(logger.log_dir)
        return Fit(
            seconds,
            gaps.seconds,
            logged(wrote, f"{ours.name}/epoch_fraction"),
            ours.fractions,
            sum(logged(wrote, f"{ours.name}/seconds")),
            network,
            history.spectra[-1].exponents,
            history.spectra[-1].resolved,
        )


def compare(pairs: Sequence[tuple[Fit, Fit]], difference: float) -> list[Row]:
    """Turn fits into rows.

    Args:
        pairs: Fits with the callback, and without.
        difference: Of the last spectrum, nats per step.

    Returns:
        The rows.

    Raises:
        ValueError: If the callback logged another number of fractions than the clock saw.
    """
    fractions = [(a, b) for w, _ in pairs for a, b in zip(w.logged, w.outside, strict=True)]
    agreement = Spread.of(a / b for a, b in fractions)
    worst = max(abs(a / b - 1) for a, b in fractions)
    gaps = Spread.of(a / b for w, o in pairs for a, b in zip(w.gaps, o.gaps, strict=True))
    spent = Spread.of(w.measuring / (w.seconds - o.seconds) for w, o in pairs)
    return [
        Row("logged fraction of the time", Spread.of(a for a, _ in fractions)),
        Row("logged fraction over that of the outside clock", agreement, difference=difference),
        Row("largest deviation of these from 1", Spread(worst, worst, worst, 1), Bar("<=", 0.05)),
        Row("logged seconds over what the fits differ by", spent),
        Row("time between validations, with over without", gaps, Bar("<=", 1.05)),
    ]


def measure(sizes: Sizes, device: torch.device) -> Result:
    """Measure the section.

    Args:
        sizes: How much.
        device: The CPU.

    Returns:
        The callback's own clock, and what it does to the time between validations.
    """
    for with_callback in (True, False):
        fit(sizes, with_callback)
    pairs = [(fit(sizes, True), fit(sizes, False)) for _ in range(sizes.rounds)]
    settings = LyapunovSpectrumCallback(**sizes.settings).settings
    difference = pairs[-1][0].difference(sizes, settings.num_sequences, settings.num_steps)
    text = TEXT.format(units=sizes.units, epochs=sizes.epochs)
    return Result("The callback in a fit", text, compare(pairs, difference))
