"""Make docs/modes.md of docs/modes.yaml, the matrix of modes: `python docs/generate_modes.py`."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

DATA = Path(__file__).with_name("modes.yaml")
PAGE = Path(__file__).with_name("modes.md")
HEADING = """# What is promised, and which test shows it

One row for each way of using the package. Made by `python docs/generate_modes.py` from
`docs/modes.yaml`; don't edit. A row whose test does not exist fails the tests.
"""


def read_groups() -> list[dict[str, Any]]:
    """Read the matrix.

    Returns:
        Groups with a ``group`` (its title) and ``rows``, each with ``mode``, ``promise`` and
        ``test``, a node of pytest: ``tests/file.py::name``.

    Raises:
        ValueError: If a row lacks one of these, or has something else.
    """
    groups: Any = OmegaConf.to_container(OmegaConf.load(DATA))
    for group in groups:
        for row in group["rows"]:
            if set(row) != {"mode", "promise", "test"}:
                raise ValueError(
                    f"Expected `mode`, `promise` and `test` in every row of {DATA.name}, but got "
                    f"{row} in {group['group']!r}."
                )
    return groups


def page(groups: list[dict[str, Any]]) -> str:
    """Render the matrix.

    Args:
        groups: What `read_groups` returned.

    Returns:
        Markdown; a test links to its file.
    """
    parts = [HEADING]
    for group in groups:
        rows = [f"\n## {group['group']}\n", "| mode | promise | test |", "| --- | --- | --- |"]
        for row in group["rows"]:
            file = row["test"].partition("::")[0]
            promise = " ".join(row["promise"].split()).replace("|", "\\|")
            rows.append(f"| {row['mode']} | {promise} | [`{row['test']}`](../{file}) |")
        parts.append("\n".join(rows) + "\n")
    return "".join(parts)


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(read_groups()), encoding="utf-8")


if __name__ == "__main__":
    main()
