"""Fetch the public files of both tasks: checksummed, atomic, resumable, within a deadline."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC, EROFS
from functools import cache
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import Any

from tqdm import tqdm

from datamodules.transfer import Downloader

REGISTRY_FILE = Path(__file__).with_name("registry.txt")
PUBLIC_FOLDERS = {
    "warpeace": (
        "https://raw.githubusercontent.com/shlizee/lyapunov-hyperopt/"
        "5908e4526f06d46972b8e9266fcd3d739b176bbe/CharRNN/WP"
    ),
    "cmu_mocap": (
        "https://raw.githubusercontent.com/chaneyddtt/"
        "Convolutional-Sequence-to-Sequence-Model-for-Human-Dynamics/"
        "f27ccb4ed5b0568cde2b7cf096dd2683c901b4d8/data/cmu_mocap"
    ),
}


DISK_REMEDY = "Choose a folder that can be written with cache_dir or LYAP_CACHE_DIR."
DISK_ERRORS = (PermissionError, FileExistsError, NotADirectoryError, IsADirectoryError)
DISK_NUMBERS = (ENOSPC, EROFS, EDQUOT)
REMEDY = (
    "Check the connection and try again (finished files are kept), or point data_dir or "
    "LYAP_DATA_DIR to a folder that holds the data, or choose the synthetic stand-in with "
    "data=synthetic (source='synthetic')."
)


class FetchError(RuntimeError):
    """The public files could not be fetched.

    Attributes:
        reason: What happened, as a clause; the full message adds what to do instead.
    """

    def __init__(self, reason: str, remedy: str = REMEDY) -> None:
        """Join what happened and what to do.

        Args:
            reason: "Expected ..., but got ...", without a full stop.
            remedy: What to do, in whole sentences.
        """
        super().__init__(f"{reason}. {remedy}")
        self.reason = reason


@cache
def registry() -> dict[str, str]:
    """Read the checksums of all files that both tasks need.

    Returns:
        File name relative to the data folder, such as ``warpeace/input.txt``, to its sha256 sum in
        hexadecimal digits, in alphabetical order of the names.
    """
    lines = REGISTRY_FILE.read_text(encoding="utf-8").splitlines()
    pairs = (line.split() for line in lines if line and not line.startswith("#"))
    return {pair[0]: pair[1] for pair in pairs}


def holds(folder: Path, names: Sequence[str]) -> bool:
    """Check that a folder holds files with exactly the published content.

    Args:
        folder: The data folder.
        names: Names of the registry.

    Returns:
        True if every file exists and has the checksum of the registry.
    """
    return all(
        (folder / name).is_file()
        and sha256((folder / name).read_bytes()).hexdigest() == registry()[name]
        for name in names
    )


def address(name: str, mirror: str | None = None) -> str:
    """Name the address of a file.

    Args:
        name: Name of the registry.
        mirror: Address of a folder laid out like the data folder; None stands for the public
            repositories.

    Returns:
        The full address.
    """
    if mirror is not None:
        return f"{mirror.rstrip('/')}/{name}"
    folder, _, rest = name.partition("/")
    return f"{PUBLIC_FOLDERS[folder]}/{rest}"


def require_address(mirror: Any) -> None:
    """Check the address of a mirror.

    Args:
        mirror: Address of a folder laid out like the data folder.

    Raises:
        ValueError: If it is no address of a web server.
    """
    if not isinstance(mirror, str) or not mirror.startswith(("http://", "https://")):
        raise ValueError(
            "Expected mirror to be an address that begins with http:// or https://, but got "
            f"{mirror!r}. A folder on disk goes to data_dir."
        )


def _check(names: Sequence[str], mirror: Any, **seconds: Any) -> None:
    """Refuse what `fetch` can't do, before a connection is made."""
    strangers = [name for name in names if name not in registry()]
    if strangers:
        raise ValueError(f"Expected names of the registry, but got {strangers}.")
    if mirror is not None:
        require_address(mirror)
    for name, value in seconds.items():
        real = isinstance(value, int | float) and not isinstance(value, bool)
        endless = value is None and name == "total_seconds"
        if not endless and not (real and 0 < value < inf):
            raise ValueError(f"Expected {name} to be a number above 0, but got {value!r}.")


def fetch(
    names: Sequence[str],
    folder: Path,
    *,
    title: str,
    mirror: str | None = None,
    connect_seconds: float = 10.0,
    total_seconds: float | None = None,
) -> None:
    """Download the files that the folder does not hold yet.

    A file appears under its name only after its checksum matched. What was completed before a
    failure stays, so that the next call goes on from there.

    Args:
        names: Names of the registry.
        folder: The data folder; created if needed.
        title: What the files are, for the progress bar and messages.
        mirror: Address of a folder laid out like the data folder instead of the public addresses.
        connect_seconds: Seconds within which the server has to connect, and with a
            ``total_seconds`` to deliver the first bytes of a file.
        total_seconds: Seconds after which the whole download is given up, however slowly bytes
            still trickle in; None never gives up while bytes arrive.

    Raises:
        FetchError: If pooch is missing, a server does not deliver, a checksum differs, or the time
            is over.
        ValueError: If an argument is out of its range.
    """
    pooch = _import_pooch()
    _check(names, mirror, connect_seconds=connect_seconds, total_seconds=total_seconds)
    deadline = None if total_seconds is None else time.monotonic() + total_seconds
    downloads = pooch.create(
        path=folder,
        base_url="",
        registry={name: registry()[name] for name in names},
        urls={name: address(name, mirror) for name in names},
    )
    with _quiet(pooch.get_logger()), tqdm(unit="B", unit_scale=True, delay=1, disable=None) as bar:
        for number, name in enumerate(names, start=1):
            bar.set_description(f"Fetching {title}, file {number} of {len(names)}", refresh=False)
            _fetch_one(downloads, name, Downloader(pooch, bar, connect_seconds, deadline))


def _import_pooch() -> Any:
    """Return the module pooch, an optional dependency."""
    try:
        import pooch
    except ImportError as error:
        raise FetchError(
            "Expected pooch for fetching data, but got no such package: install it with pip "
            'install "lightning_lyap[tasks]"'
        ) from error
    return pooch


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Silence a logger's line for each of many small files; its level is put back afterwards."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _fetch_one(downloads: Any, name: str, downloader: Downloader) -> None:
    """Fetch one file; what fails is a FetchError."""
    url, target = downloads.get_url(name), downloads.abspath / name
    try:
        # Two processes may fetch at once, and pooch fails if the other one makes the folder.
        target.parent.mkdir(parents=True, exist_ok=True)
        downloads.fetch(name, downloader=downloader)
    except (OSError, ValueError) as error:
        if "does not match the known hash" not in str(error):
            on_disk = isinstance(error, DISK_ERRORS) or (
                type(error) is OSError and error.errno in DISK_NUMBERS
            )
            raise FetchError(
                f"Expected to fetch {url} into {target}, but got {_root_cause(error)}",
                DISK_REMEDY if on_disk else REMEDY,
            ) from error
        raise FetchError(
            f"Expected {url} to have the sha256 sum {registry()[name]}, but got other bytes; "
            f"nothing was kept at {target}"
        ) from error


def _root_cause(error: BaseException) -> str:
    """Return type and text of the error that a chain of wrapped network errors began with."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return f"{type(error).__name__}: {error}"
