"""Characters of War and Peace: the paper's CharRNN task (Section 5.1, Appendix A.1)."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from datamodules.base import TensorDataModule, as_text, require_at_least
from datamodules.sources import Dataset, DataSource, GivenFile, Source
from datamodules.synthetic_text import VERSION, write_text

TEXT_FILE = "warpeace/input.txt"
TRAIN_END, VAL_END = 0.8, 0.9


class CharTextDataModule(TensorDataModule):
    """Predict the next character: windows of a text and the same windows one character on.

    The text is cut once, in order, into 80 % training, 10 % validation and 10 % test characters,
    each cut into windows that do not overlap; only the last, incomplete window of a split is left
    out. A batch is ``(x, y)`` of int64 tokens ``[B, T]``, ``y[:, t]`` the character after
    ``x[:, t]``.

    Attributes:
        vocabulary: The distinct characters of the whole text in order of their code points; a token
            is an index into it.
        vocab_size: Number of distinct characters (War and Peace: 82).
        num_characters: Length of the whole text (War and Peace: 3,202,303).
        resolved_source: "real", "synthetic", or "file" for a text of the user's own; "unresolved"
            before ``prepare_data()`` or ``setup()``.

    Reference:
        Vogt, Puelma Touzel, Shlizerman, Lajoie: On Lyapunov exponents for RNNs, Appendix A.1
        (80/10/10 split, batches of 100, 100 time steps).
    """

    def __init__(
        self,
        data_dir: str | Path | None = None,
        source: str = "auto",
        text: str | Path | None = None,
        sequence_length: int = 100,
        batch_size: int = 100,
        num_workers: int = 0,
        seed: int = 0,
        cache_dir: str | Path | None = None,
        mirror: str | None = None,
    ) -> None:
        """Check the arguments; the disk is read later.

        Args:
            data_dir: Folder that holds ``warpeace/input.txt``; None stands for ``LYAP_DATA_DIR``,
                then the cache.
            source: "real", "synthetic", or "auto": real if it can be had within seconds, else the
                stand-in, with a warning.
            text: Path of another UTF-8 text; ``source`` and ``data_dir`` are then ignored.
            sequence_length: Characters T in a window; 100 as in Appendix A.1.
            batch_size: Windows B in a batch; 100 as in Appendix A.1.
            num_workers: Worker processes of each DataLoader.
            seed: Seed of the synthetic stand-in; the real text ignores it.
            cache_dir: Folder for fetched files and stand-ins; None stands for ``LYAP_CACHE_DIR``,
                then the user's cache.
            mirror: Address of a folder that holds ``warpeace/input.txt``, to fetch from instead of
                the public address.

        Raises:
            TypeError: If a path is none.
            ValueError: If a number or ``source`` is out of its range.
            FileNotFoundError: If ``text`` names no file.
        """
        sequence_length = require_at_least("sequence_length", sequence_length, 1)
        batch_size = require_at_least("batch_size", batch_size, 1)
        num_workers = require_at_least("num_workers", num_workers, 0)
        seed = require_at_least("seed", seed, 0)
        data_dir, cache_dir = as_text("data_dir", data_dir), as_text("cache_dir", cache_dir)
        text = as_text("text", text)
        dataset = Dataset(
            "War and Peace", (TEXT_FILE,), f"{VERSION}_seed{seed}", partial(write_text, seed=seed)
        )
        given = DataSource(dataset, source, data_dir=data_dir, cache_dir=cache_dir, mirror=mirror)
        chosen: Source = given if text is None else GivenFile(Path(text).expanduser())
        super().__init__(chosen, batch_size, num_workers)
        self.save_hyperparameters()
        self._sequence_length = sequence_length
        self.vocabulary: tuple[str, ...] = ()
        self.num_characters = 0
        self._test_tokens = torch.empty(0, dtype=torch.int64)

    @property
    def vocab_size(self) -> int:
        """Count the distinct characters.

        Returns:
            Their number; 0 before ``setup()``.
        """
        return len(self.vocabulary)

    def load(self, path: Path) -> dict[str, TensorDataset]:
        """Read the text, encode it and cut it into splits.

        Args:
            path: A data folder, or the user's text file.

        Returns:
            The splits, with windows ``[N, T]`` of inputs and targets.

        Raises:
            ValueError: If the text is no UTF-8, or too short for a window in each split.
        """
        file = path / TEXT_FILE if path.is_dir() else path
        vocabulary, tokens = encode(read_text(file))
        ends = int(TRAIN_END * len(tokens)), int(VAL_END * len(tokens))
        parts = dict(zip(("train", "val", "test"), torch.tensor_split(tokens, ends), strict=True))
        shortest = min(len(part) for part in parts.values())
        if shortest <= self._sequence_length:
            raise ValueError(
                f"Expected more than {self._sequence_length} characters (sequence_length) in each "
                f"split of {file}, but got {shortest}. Use a longer text or a shorter "
                "sequence_length."
            )
        self.vocabulary, self.num_characters = vocabulary, len(tokens)
        self._test_tokens = parts["test"]
        return {name: self._windows(part) for name, part in parts.items()}

    def lyapunov_sequences(self, num_sequences: int, num_steps: int) -> Tensor:
        """Take held-out inputs for a Lyapunov spectrum, evenly spaced over the test split.

        Args:
            num_sequences: Number B of windows; they do not overlap.
            num_steps: Length T of a window in characters.

        Returns:
            Tokens ``[B, T]`` (int64), the same at every call.

        Raises:
            ValueError: If the test split is too short.
            RuntimeError: If ``setup()`` was not called.
        """
        self.split("test")
        num_sequences = require_at_least("num_sequences", num_sequences, 1)
        num_steps = require_at_least("num_steps", num_steps, 1)
        length = len(self._test_tokens)
        if num_sequences * num_steps > length:
            raise ValueError(
                f"Expected at most {length} characters, the length of the test split, but got "
                f"{num_sequences} sequences of {num_steps} steps. Use fewer or shorter sequences, "
                "or a longer text."
            )
        starts = [index * length // num_sequences for index in range(num_sequences)]
        return torch.stack([self._test_tokens[start : start + num_steps] for start in starts])

    def _windows(self, tokens: Tensor) -> TensorDataset:
        """Cut tokens ``[n]`` into inputs ``[N, T]``, without overlap, and the same one token on."""
        length = self._sequence_length
        num_windows = (len(tokens) - 1) // length
        inputs = tokens[: num_windows * length].view(num_windows, length)
        targets = tokens[1 : num_windows * length + 1].view(num_windows, length)
        return TensorDataset(inputs, targets)


def read_text(file: Path) -> str:
    """Read a text without touching its line ends.

    Args:
        file: A UTF-8 text.

    Returns:
        Its characters.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no UTF-8.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"Expected {file} to be a text in UTF-8, but it is no file. Correct the path."
        )
    try:
        return file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Expected {file} to be a text in UTF-8, but got {error}. Convert it, for example with "
            "`iconv -t UTF-8`."
        ) from error


def encode(text: str) -> tuple[tuple[str, ...], Tensor]:
    r"""Number the characters of a text.

    Args:
        text: Any text of n characters.

    Returns:
        The distinct characters in order of their code points, and tokens ``[n]`` (int64).

    Example:
        >>> encode("abba\n")
        (('\n', 'a', 'b'), tensor([1, 2, 2, 1, 0]))
    """
    code_points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    distinct, tokens = np.unique(code_points, return_inverse=True)
    return tuple(map(chr, distinct)), torch.from_numpy(tokens.astype(np.int64))
