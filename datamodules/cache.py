"""The folder for fetched files and stand-ins, and writing a folder into it all at once."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_folder(cache_dir: str | None) -> Path:
    """Name the cache.

    Args:
        cache_dir: The folder the user chose, or None.

    Returns:
        ``cache_dir``, else the environment variable ``LYAP_CACHE_DIR``, else pooch's cache folder
        of the user, or ``~/.cache/lightning_lyap`` where pooch is not installed.
    """
    folder = cache_dir or os.environ.get("LYAP_CACHE_DIR")
    if folder:
        return Path(folder).expanduser()
    try:
        import pooch
    except ImportError:
        return Path("~/.cache/lightning_lyap").expanduser()
    return Path(pooch.os_cache("lightning_lyap"))


def write_once(folder: Path, write: Callable[[Path], None]) -> None:
    """Write a folder unless it exists, so that it is there completely or not at all.

    Args:
        folder: The folder.
        write: Creates the folder it is given and fills it.

    Raises:
        OSError: If the cache cannot be written.
    """
    if folder.is_dir():
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="writing-") as temporary:
            draft = Path(temporary) / folder.name
            write(draft)
            _move_into_place(draft, folder)
    except OSError as error:
        raise OSError(
            f"Expected to write {folder}, but got {error}. Choose a folder that can be written "
            "with cache_dir or LYAP_CACHE_DIR."
        ) from error


def _move_into_place(draft: Path, folder: Path) -> None:
    """Rename a finished folder; another process may have finished first."""
    try:
        os.replace(draft, folder)
    except OSError:
        if not folder.is_dir():
            raise
