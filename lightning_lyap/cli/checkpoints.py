"""Trained networks from their checkpoints, and held-out sequences to measure them on."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import numpy as np
import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from lightning_lyap.tasks import CharRNN, MocapRNN
from lightning_lyap.tasks.predictor import Predictor

# The task's hyperparameter that the other one lacks -> its module and its DataModule.
TASKS: dict[str, tuple[type[Predictor], str]] = {
    "vocab_size": (CharRNN, "CharTextDataModule"),
    "num_features": (MocapRNN, "MocapDataModule"),
}
# Types of what else is read off a checkpoint.
HEADER: dict[str, type] = {
    "epoch": int,
    "global_step": int,
    "hyper_parameters": Mapping,
    "datamodule_hyper_parameters": Mapping,
}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of Lightning's; tensors, numbers and text only.

    Args:
        path: The file.

    Returns:
        What it holds.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"Expected a checkpoint, but {path} is no file.")
    with _refused(
        f"Expected {path} to be a checkpoint of tensors, numbers and text, but it can't be read as "
        "one",
        "Take another checkpoint of the run.",
    ):
        checkpoint = _load(path)
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise ValueError(
            f"Expected {path} to be a checkpoint of Lightning's, but got one without `state_dict`."
        )
    for name, kind in HEADER.items():
        if name in checkpoint and not isinstance(checkpoint[name], kind):
            raise ValueError(
                f"Expected {path} to be a checkpoint of Lightning's with `{name}`, a "
                f"{kind.__name__}, but got a {type(checkpoint[name]).__name__}. Take another "
                "checkpoint of the run."
            )
    return checkpoint


@contextmanager
def _refused(expected: str, remedy: str) -> Iterator[None]:
    """Raise whatever fails inside as a ValueError that says what was expected and the remedy."""
    try:
        yield
    # Unpickling damaged bytes, or building a class of the user's, can raise anything.
    except Exception as error:
        raise ValueError(f"{expected}: {type(error).__name__}: {error}. {remedy}") from error


def _load(path: Path) -> Any:
    """Load a file of torch's whose checksums hold, which `torch.load` does not compare."""
    if is_zipfile(path):  # files of old versions of torch are none, and have no checksums
        with ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged!r} in it is another")
    return torch.load(path, map_location="cpu", weights_only=True)


def task_of(checkpoint: dict[str, Any]) -> str | None:
    """Return which of the paper's tasks a checkpoint is of.

    Args:
        checkpoint: What it holds.

    Returns:
        A key of `TASKS`, or None.
    """
    names = checkpoint.get("hyper_parameters", {})
    return next((key for key in TASKS if key in names and "init_p" in names), None)


def load_network(path: Path, task: str | None, class_path: str | None) -> LightningModule:
    """Load a network.

    Args:
        path: Its checkpoint.
        task: What `task_of` returned.
        class_path: ``package.module.Class``; None stands for the task's own.

    Returns:
        The network, on the CPU.

    Raises:
        TypeError: If the class is no LightningModule.
        ValueError: If the class is not known, or the checkpoint is of another one.
    """
    if class_path is not None:
        kind = _import_class(class_path)
    elif task is not None:
        kind = TASKS[task][0]
    else:
        raise ValueError(
            f"Expected a checkpoint of CharRNN or MocapRNN, but {path} is none. Name the class of "
            "the LightningModule by `--class package.module.Class`."
        )
    with _refused(
        f"Expected {path} to be a checkpoint of {kind.__name__}, but it can't be loaded as one",
        "Name the class it is of by `--class`.",
    ):
        return kind.load_from_checkpoint(path, map_location="cpu", weights_only=True)


def _import_class(path: str) -> Any:
    """Import a LightningModule class by its ``package.module.Class``."""
    home, _, name = path.rpartition(".")
    try:
        kind = getattr(import_module(home), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"Expected `--class` to name a class as package.module.Class, but got {path!r}: {error}"
        ) from error
    # By its method, not its type: `lightning` and `pytorch_lightning` have a type each.
    if not hasattr(kind, "load_from_checkpoint"):
        raise TypeError(f"Expected `--class` to name a LightningModule, but got {kind!r}.")
    return kind


def read_batch(path: Path, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Read inputs from a file.

    Args:
        path: ``.npy`` with one array, or ``.pt`` with a tensor or several, ``[B, T, ...]``.
        dtype: Type of floating-point inputs.

    Returns:
        The arguments of ``forward``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"Expected `--data` to name a file of inputs, but got {path}.")
    with _refused(
        f"Expected {path} to hold an array (.npy) or tensors (.pt), but it can't be read",
        "Write it by `numpy.save` or `torch.save`.",
    ):
        of_numpy = path.suffix == ".npy"
        data = torch.from_numpy(np.load(path, allow_pickle=False)) if of_numpy else _load(path)
    parts = (data,) if isinstance(data, Tensor) else data
    several = isinstance(parts, (tuple, list)) and len(parts) > 0
    if not several or not all(isinstance(part, Tensor) for part in parts):
        raise ValueError(
            f"Expected {path} to hold a tensor or several, but got {type(data).__name__}."
        )
    return tuple(part.to(dtype) if part.is_floating_point() else part for part in parts)


def task_sequences(
    checkpoint: dict[str, Any],
    task: str,
    changes: dict[str, Any],
    num_sequences: int,
    num_steps: int,
) -> tuple[Tensor, str]:
    """Take held-out sequences from the DataModule a task's checkpoint was trained with.

    Args:
        checkpoint: What it holds.
        task: A key of `TASKS`.
        changes: Arguments of the DataModule that differ from those in training.
        num_sequences: How many sequences.
        num_steps: Steps of each.

    Returns:
        A batch, and where the data came from.

    Raises:
        ModuleNotFoundError: If the DataModules can't be imported.
        ValueError: If there are too few sequences, or the data is not the network's.
    """
    try:
        # By name, like `--class`: a checkpoint holds the arguments of its DataModule but not its
        # class, and DataModules lie beside this package, which is installed without them.
        kinds = import_module("datamodules")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Expected the folder `datamodules` of the project to be importable, but it is not. "
            "Start in the project's folder, or give inputs by `--data FILE`."
        ) from error
    saved = checkpoint.get("datamodule_hyper_parameters", {})
    name = TASKS[task][1]
    try:
        datamodule = getattr(kinds, name)(**saved | changes)
    except TypeError as error:
        raise ValueError(
            f"Expected a checkpoint with the arguments of {name}, but got {sorted(saved)}: {error}."
            " Give inputs by `--data FILE`."
        ) from error
    datamodule.prepare_data()
    datamodule.setup("fit")
    expected, got = checkpoint["hyper_parameters"][task], getattr(datamodule, task)
    if got != expected:
        raise ValueError(
            f"Expected data with the network's {task} = {expected}, but got {got} from the "
            f"{datamodule.resolved_source} data. Name that of the training: --data-dir, --source."
        )
    batch = datamodule.lyapunov_sequences(num_sequences, num_steps)
    return batch, datamodule.resolved_source
