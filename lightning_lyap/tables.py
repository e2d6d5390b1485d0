"""Tables in files: CSV with a header, read and written whole."""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as CSV; the file appears whole.

    Args:
        path: The file; its folder is made if it is not there.
        columns: Names in the header.
        rows: Values by column; what a row lacks is left empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_table(path: Path, required: Iterable[str] = ()) -> list[dict[str, str]]:
    """Read a CSV file.

    Args:
        path: The file.
        required: Columns it must have.

    Returns:
        Its rows, text by column.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it lacks a column.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or ())
        missing = [name for name in required if name not in columns]
        if missing:
            raise ValueError(
                f"Expected {path} to be a CSV file with the columns {', '.join(required)}, but "
                f"got {', '.join(columns) or 'an empty file'}. Write them in its first line."
            )
        return [{name: text or "" for name, text in row.items() if name} for row in reader]
