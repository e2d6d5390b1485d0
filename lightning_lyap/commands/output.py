"""The folder a command writes to: looked at before the work, which may take hours."""

from pathlib import Path


def check_output(folder: Path | None) -> None:
    """Refuse an output folder that can't be made.

    Args:
        folder: The folder, or None.

    Raises:
        NotADirectoryError: If it, or a folder above it, is a file.
    """
    if folder is None:
        return
    for place in (folder, *folder.absolute().parents):
        if place.exists():
            if not place.is_dir():
                raise NotADirectoryError(
                    f"Expected `--output` to name a folder, but {place} is a file. Name another."
                )
            return
