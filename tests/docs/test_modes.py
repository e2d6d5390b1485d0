"""The matrix of modes: made of its data, with tests that exist."""

from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.documents import ROOT, ROWS, modes

hooks: Any = import_module("docs.hooks")


def test_every_mode_names_a_test_that_exists() -> None:
    for _, row in ROWS:
        file, _, name = row["test"].partition("::")
        assert (ROOT / file).is_file(), file
        assert name.split("[")[0].split("::")[-1].startswith("test_"), name
        assert hooks.line_of(name, (ROOT / file).read_text()) is not None, row["test"]


def test_modes_are_told_once() -> None:
    seen = Counter((group, row["mode"]) for group, row in ROWS)
    assert [mode for mode, count in seen.items() if count > 1] == []
    assert len(ROWS) > 40


def test_the_matrix_is_made_of_its_data() -> None:
    assert modes.PAGE.read_text() == modes.page(modes.read_groups()), (
        "run `python docs/generate_modes.py`"
    )


def test_a_row_without_its_test_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "modes.yaml"
    data.write_text("- group: g\n  rows:\n    - {mode: m, promise: p}\n")
    monkeypatch.setattr(modes, "DATA", data)
    with pytest.raises(ValueError, match="Expected `mode`, `promise` and `test`"):
        modes.read_groups()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("test_a", 1),
        ("test_a[case-1]", 1),
        ("TestB::test_c", 4),
        ("test_c", None),
        ("TestB::test_a", None),
        ("test_d", 6),
    ],
)
def test_tests_are_found_in_their_files(name: str, line: int | None) -> None:
    source = (
        "def test_a(): ...\n\nclass TestB:\n    def test_c(self): ...\n\nasync def test_d(): ...\n"
    )
    assert hooks.line_of(name, source) == line
