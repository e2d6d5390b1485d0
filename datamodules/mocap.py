"""Motion capture of four sports: the paper's CMU Mocap task (Section 5.1, Appendix A.2)."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from datamodules.base import TensorDataModule, as_text, require_at_least, require_number
from datamodules.fetching import registry
from datamodules.recordings import (
    Statistics,
    cut,
    measure,
    non_overlapping,
    read_recording,
    spread,
    windows,
)
from datamodules.sources import Dataset, DataSource
from datamodules.synthetic_motion import VERSION, write_motion

ACTIONS = ("basketball", "soccer", "walking", "jumping")


class MocapDataModule(TensorDataModule):
    """Predict the next frame of a motion recording from the frames before it.

    Each recording is cut at 80 % of its frames, which gives 80/20 per action: the first part is for
    training, the rest is held out. The paper has no separate test split, so validation and test
    are the same held-out frames. Windows have stride 1 and never cross a recording or a cut.
    Columns are divided by their standard deviation, and the mean is not subtracted, as in the
    paper; the deviation is taken over training frames only, where the paper takes all time points.
    A batch is ``(x, y)`` of float32 tensors: frames ``[B, window, num_features]`` and the
    next frame ``[B, num_features]``, in units of standard deviations.

    Attributes:
        num_features: Number of columns used (20).
        columns: Which of the 117 columns they are, counted from 0.
        num_recordings: Number of recordings (24 in the real data).
        num_frames: Number of their frames, both splits together (13,944 in the real data).
        num_usable_columns: Number of columns that are not constant (70 in the real data).
        resolved_source: "real" or "synthetic"; "unresolved" before ``prepare_data()`` or
            ``setup()``.

    Reference:
        Vogt, Puelma Touzel, Shlizerman, Lajoie: On Lyapunov exponents for RNNs, Appendix A.2
        (actions, 80/20 split, threshold 1e-4, first 20 features, batches of 250), Section 5.1
        (25 time steps).
    """

    def __init__(
        self,
        data_dir: str | Path | None = None,
        source: str = "auto",
        actions: Sequence[str] = ACTIONS,
        window: int = 25,
        batch_size: int = 250,
        num_features: int = 20,
        min_std: float = 1e-4,
        train_fraction: float = 0.8,
        num_workers: int = 0,
        cache_dir: str | Path | None = None,
        mirror: str | None = None,
    ) -> None:
        """Check the arguments; the disk is read later.

        Args:
            data_dir: Folder that holds ``cmu_mocap``; None stands for ``LYAP_DATA_DIR``, then the
                cache.
            source: "real", "synthetic", or "auto": real if it can be had within seconds, else the
                stand-in, with a warning.
            actions: Which of the paper's four actions to use.
            window: Frames of 1/120 s in an input; 25 as in Section 5.1.
            batch_size: Windows B in a batch; 250 as in Appendix A.2.
            num_features: How many usable columns to keep, from the first; 20 as in the paper.
            min_std: Columns with a smaller standard deviation are ignored; 1e-4 as in the paper, in
                the units of the recordings.
            train_fraction: Fraction of every recording's frames used for training; 0.8 as in the
                paper.
            num_workers: Worker processes of each DataLoader.
            cache_dir: Folder for fetched files and stand-ins; None stands for ``LYAP_CACHE_DIR``,
                then the user's cache.
            mirror: Address of a folder that holds ``cmu_mocap``, to fetch from instead of the
                public address.

        Raises:
            TypeError: If a path or a number is none.
            ValueError: If an argument is out of its range.
        """
        data_dir, cache_dir = as_text("data_dir", data_dir), as_text("cache_dir", cache_dir)
        actions = _known_actions(actions)
        window = require_at_least("window", window, 1)
        batch_size = require_at_least("batch_size", batch_size, 1)
        num_features = require_at_least("num_features", num_features, 1)
        num_workers = require_at_least("num_workers", num_workers, 0)
        min_std = require_number("min_std", min_std)
        train_fraction = require_number("train_fraction", train_fraction)
        _require_fractions(min_std, train_fraction)
        self._files = tuple(name for name in registry() if name.split("/")[-2] in actions)
        dataset = Dataset("CMU Mocap", self._files, VERSION, write_motion)
        super().__init__(
            DataSource(dataset, source, data_dir=data_dir, cache_dir=cache_dir, mirror=mirror),
            batch_size,
            num_workers,
        )
        self.save_hyperparameters()
        self.num_features = num_features
        self.columns: list[int] = []
        self.num_recordings = self.num_frames = self.num_usable_columns = 0
        self._window, self._min_std, self._train_fraction = window, min_std, train_fraction
        self._held_out: list[Tensor] = []
        self._baselines: dict[str, float] = {}

    def load(self, path: Path) -> dict[str, TensorDataset]:
        """Read the recordings, scale them and cut them into windows.

        Args:
            path: A data folder.

        Returns:
            The splits; "val" and "test" are the same held-out frames.

        Raises:
            ValueError: If a file is damaged, or too few columns or frames are usable.
        """
        recordings = [read_recording(path / name) for name in self._files]
        parts = [cut(frames, self._train_fraction) for frames in recordings]
        statistics = measure([first for first, _ in parts], self._min_std, self.num_features)
        train = [statistics.scale(first) for first, _ in parts]
        held_out = [statistics.scale(rest) for _, rest in parts]
        splits = {"train": self._windows(train), "val": self._windows(held_out)}
        self._held_out = held_out
        self._baselines = _constant_and_copy_errors(splits["val"], torch.cat(train).mean(dim=0))
        self._describe(recordings, statistics)
        return {**splits, "test": splits["val"]}

    def baselines(self) -> dict[str, float]:
        """Return what a network has to beat on the held-out frames.

        Returns:
            Mean squared errors over the validation targets, in units of the columns' variance:
            "constant" of the training mean, the best constant known from training, and
            "copy_last" of repeating the last frame.

        Raises:
            RuntimeError: If ``setup()`` was not called.
        """
        self.split("val")
        return dict(self._baselines)

    def lyapunov_sequences(self, num_sequences: int, num_steps: int) -> Tensor:
        """Take held-out inputs for a Lyapunov spectrum, spread over the recordings.

        Args:
            num_sequences: Number B of windows; they do not overlap.
            num_steps: Length T of a window in frames of 1/120 s. The real data holds 15 windows of
                100 frames.

        Returns:
            Frames ``[B, T, num_features]`` (float32), the same at every call. Recordings that are
            long enough each give one window before any gives a second.

        Raises:
            ValueError: If the held-out frames hold too few windows of this length.
            RuntimeError: If ``setup()`` was not called.
        """
        self.split("val")
        num_sequences = require_at_least("num_sequences", num_sequences, 1)
        num_steps = require_at_least("num_steps", num_steps, 1)
        rounds = non_overlapping(self._held_out, num_steps)
        available = sum(map(len, rounds))
        if available < num_sequences:
            longest = max(map(len, self._held_out))
            raise ValueError(
                f"Expected at most {available} sequences of {num_steps} held-out frames, but got "
                f"num_sequences={num_sequences}. Use fewer or shorter sequences (the longest "
                f"recording holds {longest} such frames), more actions or a smaller train_fraction."
            )
        return torch.stack(spread(rounds, num_sequences))

    def _windows(self, parts: list[Tensor]) -> TensorDataset:
        """Cut parts ``[F, D]`` into windows ``[N, window, D]`` and what follows, ``[N, D]``."""
        pieces = windows(parts, self._window + 1)
        if len(pieces) == 0:
            raise ValueError(
                f"Expected more than {self._window} frames (window) in a split of a recording, but "
                f"got at most {max(map(len, parts))}. Use a shorter window, or a train_fraction "
                "that leaves more frames to the shorter split."
            )
        inputs, targets = pieces[:, : self._window], pieces[:, self._window]
        return TensorDataset(inputs.contiguous(), targets.contiguous())

    def _describe(self, recordings: list[Tensor], statistics: Statistics) -> None:
        """Fill the public attributes; ``recordings`` are ``[F, 117]`` each."""
        self.columns = statistics.columns.tolist()
        self.num_recordings = len(recordings)
        self.num_frames = sum(map(len, recordings))
        self.num_usable_columns = statistics.num_usable


def _constant_and_copy_errors(split: TensorDataset, mean: Tensor) -> dict[str, float]:
    """Return the mean squared errors of the mean frame, ``[D]``, and of the last of a window."""
    inputs, targets = split.tensors
    guesses = {"constant": mean, "copy_last": inputs[:, -1]}
    return {name: (targets - guess).square().mean().item() for name, guess in guesses.items()}


def _known_actions(actions: Sequence[str]) -> list[str]:
    """Return the names of actions as plain strings; refuse none, one twice, an unknown one."""
    given = (actions,) if isinstance(actions, str) or not isinstance(actions, Iterable) else actions
    names = [str(action) for action in given]
    if not names or len(set(names)) < len(names) or not set(names) <= set(ACTIONS):
        raise ValueError(
            f"Expected actions to be distinct names out of {ACTIONS}, but got {names}."
        )
    return names


def _require_fractions(min_std: float, train_fraction: float) -> None:
    """Refuse a standard deviation or a fraction out of its range."""
    if not min_std >= 0:
        raise ValueError(f"Expected min_std to be at least 0, but got {min_std!r}.")
    if not 0 < train_fraction < 1:
        raise ValueError(
            f"Expected train_fraction to lie between 0 and 1, both excluded, but got "
            f"{train_fraction!r}."
        )
