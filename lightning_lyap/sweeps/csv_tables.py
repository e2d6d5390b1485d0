"""Tables in files: CSV with a header, read and written whole."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_lyap._atomic_files import whole_file


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as CSV; the file appears whole.

    Args:
        path: The file; its folder is made if it is not there.
        columns: Names in the header.
        rows: Values by column; what a row lacks is left empty.
    """
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def read_table(path: Path, required: Sequence[str] = ()) -> list[dict[str, str]]:
    """Read a CSV file.

    Args:
        path: The file.
        required: Columns it must have.

    Returns:
        Its rows, text by column.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no table, lacks a column or has one twice, or a line has more values
            than there are columns.
    """
    if not path.is_file():
        raise FileNotFoundError(f"Expected {path} to be a CSV file, but it is no file.")
    try:
        # Spreadsheets begin a file with a mark, which is no part of the first column's name.
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns = list(reader.fieldnames or ())
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"Expected {path} to be a CSV file in UTF-8, but it can't be read as one: {error}. "
            "Write it again, or leave it out."
        ) from error
    if len({*columns}) < len(columns) or not {*required} <= {*columns}:
        raise ValueError(
            f"Expected {path} to be a CSV file with distinct columns {', '.join(required)}, but "
            f"got {', '.join(columns) or 'an empty file'}. Write them in its first line."
        )
    for line, row in enumerate(rows, start=2):
        if None in row:  # where csv puts values beyond the last column
            raise ValueError(
                f"Expected {len(columns)} values in each line of {path}, but got more in line "
                f"{line}. Write it again, or leave it out."
            )
    return [{name: text or "" for name, text in row.items() if name} for row in rows]
