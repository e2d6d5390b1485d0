"""What figures measured on a trained network, kept in its folder: numbers by name."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from lightning_lyap._atomic_files import whole_file

FOLDER = "measured"
ABOUT = "about"
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Measured:
    """The numbers of one figure.

    Attributes:
        epoch: Epochs the network was trained.
        sizes: How they were measured: steps, sequences and the like, as the scale says.
        device: On what: ``"cpu"`` or ``"cuda"``.
        arrays: The numbers.
    """

    epoch: float
    sizes: dict[str, Any]
    device: str
    arrays: Arrays

    def about(self) -> dict[str, Any]:
        """Return all but the numbers, as plain values."""
        return {"epoch": self.epoch, "sizes": self.sizes, "device": self.device}

    @classmethod
    def of(cls, about: dict[str, Any], arrays: Arrays) -> "Measured":
        """Restore what `about` has returned.

        Args:
            about: Plain values.
            arrays: The numbers.

        Returns:
            Both together.
        """
        return cls(float(about["epoch"]), about["sizes"], about["device"], arrays)

    def save(self, path: Path) -> None:
        """Write them; the file appears whole.

        Args:
            path: The file.
        """
        with whole_file(path) as partial, partial.open("wb") as file:
            numbers = {ABOUT: np.asarray(json.dumps(self.about())), **self.arrays}
            np.savez_compressed(file, **numbers)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> "Measured":
        """Read what `save` has written.

        Args:
            path: The file.

        Returns:
            The numbers.
        """
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return cls.of(json.loads(str(arrays.pop(ABOUT))), arrays)


def file_of(folder: Path, name: str) -> Path:
    """Name the file of a figure in the folder of a network."""
    return folder / FOLDER / f"{name}.npz"


def read_all(folder: Path) -> dict[str, Measured]:
    """Read all that was measured on a network.

    Args:
        folder: Its folder.

    Returns:
        By names of figures.
    """
    return {path.stem: Measured.load(path) for path in sorted((folder / FOLDER).glob("*.npz"))}


def plain_sizes(cfg: DictConfig, name: str) -> dict[str, Any]:
    """Return the sizes of a figure as the scale says, by task.

    Args:
        cfg: Settings of the command.
        name: Of the figure.

    Returns:
        Plain numbers and lists.
    """
    sizes: Any = OmegaConf.to_container(cfg.scale[name], resolve=True)
    return dict(sizes)
