"""docs/modes.md: each mode is told once, and each promise names a test that exists."""

from collections import Counter
from importlib import import_module
from typing import Any

import pytest

from tests.documents import PROMISES, ROOT, Promise, promises

hooks: Any = import_module("docs.hooks")
TABLE = "# T\n\n## group\n\n| mode | promise | test |\n| --- | --- | --- |\n"


def test_every_mode_names_a_test_that_exists() -> None:
    for row in PROMISES:
        assert row.link == row.file, row
        assert (ROOT / row.file).is_file(), row
        assert row.test.split("[")[0].split("::")[-1].startswith("test_"), row
        assert hooks.line_of(row.test, (ROOT / row.file).read_text()) is not None, row


def test_modes_are_told_once() -> None:
    seen = Counter((row.group, row.mode) for row in PROMISES)
    assert [mode for mode, count in seen.items() if count > 1] == []
    assert len(PROMISES) > 200


def test_rows_are_read() -> None:
    line = "| a | 1 \\| 2 | [`tests/test_a.py::TestB::test_c[x y]`](../tests/test_a.py) |\n"
    expected = Promise(
        "group", "a", "1 \\| 2", "tests/test_a.py", "TestB::test_c[x y]", "tests/test_a.py"
    )
    assert promises(TABLE + line) == [expected]


@pytest.mark.parametrize(
    "line",
    [
        "| a | b |",
        "| a | b | tests/test_a.py::test_b |",
        "| a | b | [`tests/test_a.py`](../tests/test_a.py) |",
    ],
)
def test_a_row_without_its_test_is_refused(line: str) -> None:
    with pytest.raises(AssertionError, match="Expected a row with a link"):
        promises(TABLE + line)


def test_the_site_refuses_a_test_that_does_not_exist() -> None:
    link = "[`tests/docs/test_modes.py::test_nowhere`](../tests/docs/test_modes.py)"
    with pytest.raises(ValueError, match=r"Correct the row in docs/modes\.md"):
        hooks.LINK.sub(hooks._to_line, link)


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
