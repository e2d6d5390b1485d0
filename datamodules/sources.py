"""Decide where a data set lies: a given folder, the cache of fetched files, or a stand-in.

All data folders share one layout: ``warpeace/input.txt`` and
``cmu_mocap/{train,test}/ACTION/ACTION_N.txt``.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pytorch_lightning.utilities import rank_zero_warn

from datamodules.cache import cache_folder, write_once
from datamodules.fetching import FetchError, fetch, holds, require_address

SOURCES = ("auto", "real", "synthetic")
UNRESOLVED = "unresolved"
_announced: set[str] = set()


class Location(NamedTuple):
    """Where data was found and what it is.

    Attributes:
        path: The data folder, or a single file.
        resolved_source: "real", "synthetic", or "file".
    """

    path: Path
    resolved_source: str


@dataclass(frozen=True)
class Dataset:
    """What a data set consists of.

    Attributes:
        title: Its name in messages.
        files: Its files, as names of the registry.
        standin: Folder of its synthetic stand-in; carries the generator's version.
        write_standin: Writes the stand-in into an empty folder, in the layout of the data folder.
    """

    title: str
    files: tuple[str, ...]
    standin: str
    write_standin: Callable[[Path], None]


class Source(ABC):
    """Where a DataModule reads from."""

    @abstractmethod
    def prepare(self) -> None:
        """Bring the data to disk; called in one process per machine."""

    @abstractmethod
    def locate(self) -> Location:
        """Find the data by looking at the disk only, so that all processes agree.

        Returns:
            The location.
        """


class GivenFile(Source):
    """A file of the user's own."""

    def __init__(self, path: Path) -> None:
        """Remember the file.

        Args:
            path: The file, which has to exist.

        Raises:
            FileNotFoundError: If it does not.
        """
        if not path.is_file():
            raise FileNotFoundError(
                f"Expected text to name a UTF-8 file, but got {str(path)!r}, which is no file. "
                "Correct the path, or pass text=None for War and Peace."
            )
        self._path = path

    def prepare(self) -> None:
        """Do nothing: the file exists."""

    def locate(self) -> Location:
        """Point to the file.

        Returns:
            The file as "file".
        """
        return Location(self._path, "file")


class DataSource(Source):
    """The real data of a task, or its synthetic stand-in.

    "real" looks in the given folder, or else in the cache, and fetches what the cache lacks.
    "auto" does the same with little patience and falls back on the stand-in when the data cannot
    be fetched; a given folder without the data is an error there too. "synthetic" takes the
    stand-in. With several machines that share no disk, each decides "auto" for itself: choose
    "real" or "synthetic" there.
    """

    def __init__(
        self,
        dataset: Dataset,
        source: str = "auto",
        *,
        data_dir: str | None = None,
        cache_dir: str | None = None,
        mirror: str | None = None,
        connect_seconds: float = 5.0,
        fetch_seconds: float = 30.0,
    ) -> None:
        """Check and keep the arguments; the disk is read later.

        Args:
            dataset: What to find.
            source: "auto", "real" or "synthetic".
            data_dir: Folder that holds the real data; None stands for the environment variable
                ``LYAP_DATA_DIR``, and if that is unset too, for the cache.
            cache_dir: Folder for fetched files and stand-ins; None stands for ``LYAP_CACHE_DIR``,
                and if that is unset too, for the user's cache.
            mirror: Address of a folder in the layout of the data folder, to fetch from instead of
                the public addresses.
            connect_seconds: Seconds that "auto" waits for the first bytes of a file.
            fetch_seconds: Seconds after which "auto" gives up fetching.

        Raises:
            ValueError: If ``source`` is no such word, ``data_dir`` is empty, or ``mirror`` no
                address.
        """
        if not isinstance(source, str) or source not in SOURCES:
            raise ValueError(f"Expected source to be one of {SOURCES}, but got {source!r}.")
        if data_dir == "":
            raise ValueError(
                "Expected data_dir to name a folder, but got ''. Pass None to use the cache."
            )
        if mirror is not None:
            require_address(mirror)
        self._dataset = dataset
        self._source = source
        self._data_dir = data_dir
        self._cache_dir = cache_dir
        self._mirror = mirror
        self._patience = (connect_seconds, fetch_seconds)
        self._prepared = False

    def prepare(self) -> None:
        """Bring the data to disk: check, fetch, or write the stand-in; once per object.

        Raises:
            FileNotFoundError: If the given folder does not hold the data.
            FetchError: If "real" data could not be fetched.
            OSError: If the cache cannot be written.
        """
        if self._prepared:
            return
        if self._source == "synthetic":
            self._write_standin()
        elif self._given_folder() is not None or holds(
            cache_folder(self._cache_dir), self._dataset.files
        ):
            self.locate()
        elif self._source == "real":
            self._fetch()
        else:
            self._fetch_or_stand_in()
        self._prepared = True

    def locate(self) -> Location:
        """Find the data by looking at the disk only.

        Returns:
            The data folder as "real" or "synthetic".

        Raises:
            FileNotFoundError: If the given folder does not hold the data, or nothing was prepared.
        """
        standin = self._standin()
        if self._source == "synthetic" and standin.is_dir():
            return Location(standin, "synthetic")
        if self._source != "synthetic":
            given = self._given_folder()
            if given is not None:
                self._require_files(given)
                return Location(given, "real")
            if holds(cache_folder(self._cache_dir), self._dataset.files):
                return Location(cache_folder(self._cache_dir), "real")
        if self._source == "auto" and standin.is_dir():
            self._announce("no data_dir is given and the cache does not hold it")
            return Location(standin, "synthetic")
        raise FileNotFoundError(
            f"Expected {self._dataset.title} (source={self._source!r}) in "
            f"{cache_folder(self._cache_dir)}, but got no complete copy. Call "
            "prepare_data() before setup(), as the Trainer does."
        )

    def _given_folder(self) -> Path | None:
        """Return ``data_dir``, else ``LYAP_DATA_DIR``, else None."""
        folder = self._data_dir or os.environ.get("LYAP_DATA_DIR")
        return Path(folder).expanduser() if folder else None

    def _standin(self) -> Path:
        """Return the folder of the stand-in, in the cache."""
        return cache_folder(self._cache_dir) / "synthetic" / self._dataset.standin

    def _require_files(self, folder: Path) -> None:
        """Refuse a given folder that lacks a file; the content of files is not checked."""
        missing = [name for name in self._dataset.files if not (folder / name).is_file()]
        if missing:
            origin = "data_dir" if self._data_dir else "LYAP_DATA_DIR"
            state = f"{len(missing)} of {len(self._dataset.files)} files missing there"
            raise FileNotFoundError(
                f"Expected {self._dataset.title} at {folder / missing[0]} ({origin} is {folder}), "
                f"but got {state if folder.is_dir() else 'no such folder'}. Correct {origin}, or "
                "leave it unset to fetch the data, or choose the synthetic stand-in with "
                "data=synthetic (source='synthetic')."
            )

    def _fetch(self, connect_seconds: float = 10.0, total_seconds: float | None = None) -> None:
        """Fetch what the cache lacks, within ``total_seconds`` if there is such a limit."""
        fetch(
            self._dataset.files,
            cache_folder(self._cache_dir),
            title=self._dataset.title,
            mirror=self._mirror,
            connect_seconds=connect_seconds,
            total_seconds=total_seconds,
        )

    def _fetch_or_stand_in(self) -> None:
        """Fetch with little patience, else write the stand-in and say so."""
        try:
            self._fetch(*self._patience)
        except FetchError as error:
            self._write_standin()
            self._announce(error.reason)

    def _write_standin(self) -> None:
        """Write the stand-in unless it exists."""
        write_once(self._standin(), self._dataset.write_standin)

    def _announce(self, reason: str) -> None:
        """Warn, once per process and data set, that a stand-in replaces the real data."""
        title = self._dataset.title
        if title in _announced:
            return
        _announced.add(title)
        rank_zero_warn(
            f"SYNTHETIC STAND-IN, NOT {title}: results say nothing about the real data. Reason: "
            f"{reason}. To get the real data, set data_dir or LYAP_DATA_DIR to a folder that holds "
            "it, or fetch it with source='real' (data=real). source='synthetic' (data=synthetic) "
            "chooses the stand-in without this warning.",
            category=UserWarning,
        )
