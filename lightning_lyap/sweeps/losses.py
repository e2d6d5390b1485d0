"""Validation losses by epoch: written beside a run's spectra, and read from what runs leave.

A run's folder holds them in ``losses.csv`` (`save_losses`), in ``metrics.csv`` (Lightning's
CSVLogger) or in TensorBoard's event files; the first that has the loss counts.
"""

import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from lightning_lyap.sweeps.csv_tables import read_table, write_table

LOSS_FILE = "losses.csv"
LOGGER_FILE = "metrics.csv"
EVENT_FILES = "events.out.tfevents.*"
Losses = dict[float, float]


def save_losses(path: Path, losses: Mapping[int, Mapping[str, float]]) -> None:
    """Write the losses of a run; the file appears whole.

    Args:
        path: The file.
        losses: Losses by name, by epochs completed.
    """
    names = sorted({name for values in losses.values() for name in values})
    rows = [{"epoch": epoch, **values} for epoch, values in sorted(losses.items())]
    write_table(path, ["epoch", *names], rows)


def read_losses(folder: Path, tag: str) -> Losses:
    """Read the validation loss of a run.

    Args:
        folder: The run's log folder.
        tag: Name of the loss.

    Returns:
        Losses by epochs completed; none if no file in the folder has them.

    Raises:
        ValueError: If a file can't be read.
    """
    # CSVLogger and event files count epochs from 0, `losses.csv` those completed.
    for file, completed in ((LOSS_FILE, 0), (LOGGER_FILE, 1)):
        path = folder / file
        rows = read_table(path, ("epoch",)) if path.is_file() else []
        pairs = [_numbers(path, row["epoch"], row[tag]) for row in rows if row.get(tag)]
        if pairs:
            return {epoch + completed: loss for epoch, loss in pairs}
    return _from_events(folder, tag)


def read_given_losses(path: Path) -> dict[str, Losses]:
    """Read the losses of several runs from one file of the user's.

    Args:
        path: CSV with the columns ``run,epoch,val_loss``; epochs are those completed.

    Returns:
        Losses by epochs completed, by run.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it lacks a column, or holds something else than numbers.
    """
    given: dict[str, Losses] = {}
    for row in read_table(path, ("run", "epoch", "val_loss")):
        epoch, loss = _numbers(path, row["epoch"], row["val_loss"])
        given.setdefault(row["run"], {})[epoch] = loss
    return given


def _numbers(path: Path, epoch: str, loss: str) -> tuple[float, float]:
    """Return the numbers of a line of a CSV file; refuse what is none, and infinite epochs."""
    try:
        numbers = float(epoch), float(loss)
    except ValueError:
        numbers = (math.nan, math.nan)
    if not math.isfinite(numbers[0]):
        raise ValueError(
            f"Expected an epoch and a loss, two numbers, in each line of {path}, "
            f"but got {epoch!r}, {loss!r}. The loss may be nan or inf, the epoch not."
        )
    return numbers


def _from_events(folder: Path, tag: str) -> Losses:
    """Read the loss from TensorBoard's event files; none without their tag ``epoch``."""
    # In the order they were written in: a run that goes on repeats epochs of the file before.
    files = sorted(folder.glob(EVENT_FILES), key=lambda file: (file.stat().st_mtime, file.name))
    if not files or find_spec("tensorboard") is None:
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    losses: Losses = {}
    for file in files:
        seen = EventAccumulator(str(file), size_guidance={"scalars": 0})
        seen.Reload()
        if not {tag, "epoch"} <= set(seen.Tags()["scalars"]):
            continue
        # Lightning writes `epoch` with whatever it logs, at the same step.
        epochs = {event.step: event.value for event in seen.Scalars("epoch")}
        at = [(epochs.get(event.step), event.value) for event in seen.Scalars(tag)]
        losses |= {epoch + 1.0: loss for epoch, loss in at if epoch is not None}
    return losses
