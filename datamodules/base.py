"""What both tasks share: preparing, splitting once, and serving tensors in batches."""

from abc import ABC, abstractmethod
from numbers import Real
from operator import index
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from datamodules.sources import UNRESOLVED, Source


class TensorDataModule(pl.LightningDataModule, ABC):
    """DataModule that reads a data folder into tensors and keeps them in memory.

    Attributes:
        resolved_source: "real", "synthetic" or "file" after ``prepare_data()`` or ``setup()``,
            "unresolved" before.
    """

    def __init__(self, source: Source, batch_size: int, num_workers: int) -> None:
        """Check and remember how to load.

        Args:
            source: Where the data comes from.
            batch_size: Windows in a batch.
            num_workers: Worker processes of each DataLoader; they stay alive between epochs.

        Raises:
            ValueError: If a number is out of its range.
        """
        super().__init__()
        self._batch_size = require_at_least("batch_size", batch_size, 1)
        self._num_workers = require_at_least("num_workers", num_workers, 0)
        self.resolved_source = UNRESOLVED
        self._source = source
        self._splits: dict[str, TensorDataset] = {}

    @abstractmethod
    def load(self, path: Path) -> dict[str, TensorDataset]:
        """Read the data and cut it into splits.

        Args:
            path: The data folder, or a file of the user's own.

        Returns:
            The splits "train", "val" and "test".
        """

    def prepare_data(self) -> None:
        """Bring the data to disk; the Trainer calls this in one process per machine.

        Raises:
            FileNotFoundError: If a given folder does not hold the data.
            FetchError: If real data was demanded and could not be fetched.
        """
        self._source.prepare()
        self.resolved_source = self._source.locate().resolved_source

    def setup(self, stage: str | None = None) -> None:
        """Read and split the data, all splits at whatever stage comes first, and only once.

        Args:
            stage: Ignored: held-out sequences for Lyapunov spectra are needed during fit too.

        Raises:
            FileNotFoundError: If nothing was prepared.
            ValueError: If the files are too short or damaged.
        """
        if self._splits:
            return
        location = self._source.locate()
        self._splits = self.load(location.path)
        self.resolved_source = location.resolved_source

    def split(self, name: str) -> TensorDataset:
        """Get the windows of a split.

        Args:
            name: "train", "val" or "test".

        Returns:
            Pairs of inputs and targets.

        Raises:
            RuntimeError: If ``setup()`` was not called.
            ValueError: If there is no such split.
        """
        if name not in ("train", "val", "test"):
            raise ValueError(f"Expected name to be 'train', 'val' or 'test', but got {name!r}.")
        if not self._splits:
            raise RuntimeError(
                f"Expected setup() before the {name} split is used, but got no such call. Call "
                "prepare_data() and setup(), or leave both to the Trainer."
            )
        return self._splits[name]

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Load the training windows, shuffled with torch's default generator.

        Returns:
            A DataLoader; ``seed_everything`` makes its order reproducible.
        """
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Load the validation windows in order.

        Returns:
            A DataLoader.
        """
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Load the test windows in order.

        Returns:
            A DataLoader.
        """
        return self._loader("test")

    def _loader(self, name: str, shuffle: bool = False) -> DataLoader[tuple[Tensor, ...]]:
        """Return a DataLoader of a split that keeps the last, smaller batch."""
        return DataLoader(
            self.split(name),
            batch_size=self._batch_size,
            shuffle=shuffle,
            num_workers=self._num_workers,
            # Workers that outlived an epoch would draw from the generator at other times than those
            # of a resumed run, and its batches would come in another order.
            persistent_workers=False,
        )


def require_at_least(name: str, value: Any, least: int) -> int:
    """Check a whole number.

    Args:
        name: The argument's name.
        value: What was passed: an int, or what stands for one, such as NumPy's integers.
        least: Smallest allowed value.

    Returns:
        The value as an int, which goes into hyperparameters that load with ``weights_only=True``.

    Raises:
        ValueError: If the value is smaller or no whole number.
    """
    try:
        number = None if str(getattr(value, "dtype", "")).endswith("bool") else index(value)
    except Exception:  # a TypeError, or what a tensor without values says
        number = None
    if number is None or isinstance(value, bool) or number < least:
        raise ValueError(
            f"Expected {name} to be a whole number of at least {least}, but got {value!r}."
        )
    return number


def require_number(name: str, value: Any) -> float:
    """Check a real number.

    Args:
        name: The argument's name.
        value: What was passed.

    Returns:
        The value as a float.

    Raises:
        TypeError: If the value is no real number.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"Expected {name} to be a number, but got {value!r}.")
    return float(value)


def as_text(name: str, path: Any) -> str | None:
    """Write a path as plain text, so that hyperparameters load with ``weights_only=True``.

    Args:
        name: The argument's name.
        path: A path or None.

    Returns:
        The path as a string, or None.

    Raises:
        TypeError: If it is neither.
    """
    if path is not None and not isinstance(path, str | Path):
        raise TypeError(f"Expected {name} to be a path or None, but got {path!r}.")
    return None if path is None else str(path)
