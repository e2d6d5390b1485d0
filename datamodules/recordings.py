"""Motion recordings as tensors: reading, cutting, scaling and windows."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

NUM_COLUMNS = 117


@dataclass(frozen=True)
class Statistics:
    """What is needed to scale frames.

    Attributes:
        columns: Columns to keep ``[D]`` (int64), counted from 0.
        std: Their standard deviations ``[D]`` (float64) in the units of the recordings.
        num_usable: Number of columns that are not constant, kept or not.
    """

    columns: Tensor
    std: Tensor
    num_usable: int

    def scale(self, frames: Tensor) -> Tensor:
        """Keep the chosen columns and divide by their deviations; the mean stays.

        Args:
            frames: Raw frames ``[F, 117]``.

        Returns:
            Scaled frames ``[F, D]`` (float32).
        """
        return (frames[:, self.columns] / self.std).float()


def read_recording(file: Path) -> Tensor:
    """Read a recording.

    Args:
        file: Comma-separated numbers, one frame a line.

    Returns:
        Frames ``[F, 117]`` (float64); angles in radians.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there is no row, rows differ in length, have no 117 numbers, or hold
            something not finite.
    """
    remedy = "Delete the file to have it fetched again, or restore it in data_dir."
    if not file.is_file():
        raise FileNotFoundError(f"Expected {file} to be a recording, but it is no file. {remedy}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of no data: an error of its own below
            frames = np.loadtxt(file, delimiter=",", ndmin=2, comments=None)
    except ValueError as error:
        raise ValueError(
            f"Expected {file} to hold {NUM_COLUMNS} comma-separated numbers a line, but got "
            f"{error}. {remedy}"
        ) from error
    if frames.shape[1] != NUM_COLUMNS or not np.isfinite(frames).all():
        shape = f"{frames.shape[0]} lines of {frames.shape[1]}"
        state = f"{shape}, {np.count_nonzero(~np.isfinite(frames))} of them not finite"
        raise ValueError(
            f"Expected {file} to hold {NUM_COLUMNS} finite numbers a line, but got {state}. "
            f"{remedy}"
        )
    return torch.from_numpy(frames)


def cut(frames: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
    """Cut a recording in two.

    Args:
        frames: Frames ``[F, D]``.
        fraction: Fraction of the frames in the first part, rounded down.

    Returns:
        The first part and the rest.
    """
    border = int(fraction * len(frames))
    return frames[:border], frames[border:]


def measure(parts: Sequence[Tensor], min_std: float, num_features: int) -> Statistics:
    """Choose columns and measure their standard deviations.

    Args:
        parts: Training frames ``[F, 117]`` of each recording; they are pooled.
        min_std: Columns that deviate less are ignored, in the units of the recordings.
        num_features: How many of the other columns to keep, from the first.

    Returns:
        The statistics; the deviation divides by the number of frames, as numpy does.

    Raises:
        ValueError: If fewer columns are usable.
    """
    std = torch.cat(list(parts)).std(dim=0, correction=0)
    usable = (std >= max(min_std, torch.finfo(std.dtype).tiny)).nonzero().flatten()
    if len(usable) < num_features:
        raise ValueError(
            f"Expected at least {num_features} columns (num_features) with a standard deviation of "
            f"min_std={min_std} or more, but got {len(usable)}. Use fewer features or a smaller "
            "min_std."
        )
    columns = usable[:num_features]
    return Statistics(columns, std[columns], len(usable))


def windows(parts: Sequence[Tensor], length: int) -> Tensor:
    """Cut all windows of stride 1 that lie within a part.

    Args:
        parts: Frames ``[F, D]`` of each part; parts that are too short give none.
        length: Frames in a window.

    Returns:
        Windows ``[N, length, D]`` in the order of parts and time.
    """
    pieces = [part.unfold(0, length, 1).transpose(1, 2) for part in parts if len(part) >= length]
    return torch.cat(pieces) if pieces else torch.empty(0, length, parts[0].shape[1])


def non_overlapping(parts: Sequence[Tensor], length: int) -> list[list[Tensor]]:
    """Cut windows that do not overlap, the first of every part, then the second, and so on.

    Args:
        parts: Frames ``[F, D]`` of each part.
        length: Frames in a window.

    Returns:
        Rounds of windows ``[length, D]``; a round has at most one window of each part.
    """
    pieces = [part[: len(part) // length * length].split(length) for part in parts]
    per_part = [
        split if len(part) >= length else () for part, split in zip(parts, pieces, strict=True)
    ]
    num_rounds = max(map(len, per_part), default=0)
    return [[own[index] for own in per_part if index < len(own)] for index in range(num_rounds)]


def spread(rounds: Sequence[Sequence[Tensor]], count: int) -> list[Tensor]:
    """Take windows round by round; of the last round, evenly spaced ones.

    Args:
        rounds: Windows in rounds, at least ``count`` in all.
        count: How many to take.

    Returns:
        The chosen windows.
    """
    chosen: list[Tensor] = []
    for candidates in rounds:
        take = min(count - len(chosen), len(candidates))
        chosen += [candidates[index * len(candidates) // take] for index in range(take)]
    return chosen
