"""Trained networks from their checkpoints, and held-out sequences to measure them on."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from lightning_lyap.modules import CharRNN, MocapRNN
from lightning_lyap.modules.recurrent import Predictor

# The task's hyperparameter that the other one lacks -> its module and its DataModule.
TASKS: dict[str, tuple[type[Predictor], str]] = {
    "vocab_size": (CharRNN, "CharTextDataModule"),
    "num_features": (MocapRNN, "MocapDataModule"),
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
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"Expected {path} to be a checkpoint of tensors, numbers and text, but it can't be "
            f"read as one: {error}"
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ValueError(
            f"Expected {path} to be a checkpoint of Lightning's, but got one without `state_dict`."
        )
    return checkpoint


def task_of(checkpoint: dict[str, Any]) -> str | None:
    """Tell which of the paper's tasks a checkpoint is of.

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
        ValueError: If the class is not known.
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
    return kind.load_from_checkpoint(path, map_location="cpu", weights_only=True)


def _import_class(path: str) -> Any:
    """Import a LightningModule class.

    Args:
        path: ``package.module.Class``.

    Returns:
        The class.

    Raises:
        TypeError: If it is none.
        ValueError: If there is no such thing.
    """
    home, _, name = path.rpartition(".")
    try:
        kind = getattr(import_module(home), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"Expected `--class` to name a class as package.module.Class, but got {path!r}: {error}"
        ) from error
    # By its method, not its type: the package is there under two names, whose types differ.
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
    try:
        if path.suffix == ".npy":
            data = torch.from_numpy(np.load(path, allow_pickle=False))
        else:
            data = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"Expected {path} to hold an array (.npy) or tensors (.pt), but it can't be read: "
            f"{error}"
        ) from error
    parts = (data,) if isinstance(data, Tensor) else data
    if not isinstance(parts, (tuple, list)) or not all(isinstance(p, Tensor) for p in parts):
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
        kinds = import_module("datamodules")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Expected the folder `datamodules` of the project to be importable, but it is not. "
            "Start in the project's folder, or give inputs by `--data FILE`."
        ) from error
    saved = checkpoint.get("datamodule_hyper_parameters", {})
    datamodule = getattr(kinds, TASKS[task][1])(**saved | changes)
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
