"""Reads TensorBoard's event files."""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def events(folder: Path) -> EventAccumulator:
    """Return everything in the event files of a folder."""
    sizes = {"images": 0, "histograms": 0, "scalars": 0}
    accumulator = EventAccumulator(str(folder), size_guidance=sizes)
    accumulator.Reload()
    return accumulator
