"""The validation table: it agrees, it can differ, and the page in docs has all its rows."""

import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import validate
from validation.dense import third_party_cell
from validation.row import QUICK, Effort, Row, farthest, table

ROOT = Path(__file__).resolve().parents[2]
EXACT = Row("map", "sum", "theory", known=1.0, estimate=1.0 + 1e-12, tolerance=1e-10)
STATISTICAL = Row("map", "exponent", "theory", 1.0, 1.2, standard_error=0.08, known_error=0.06)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return validate.measure(QUICK)


@pytest.mark.slow
def test_every_row_of_the_quick_table_agrees(rows: list[Row]) -> None:
    assert len(rows) > 35
    assert [row.name for row in rows if not row.agrees] == []


@pytest.mark.slow
def test_names_are_unique(rows: list[Row]) -> None:
    assert len({row.name for row in rows}) == len(rows)


@pytest.mark.slow
def test_a_planted_wrong_value_differs(rows: list[Row]) -> None:
    """Ten standard errors or ten tolerances away, in either direction, for every row."""
    for row in rows:
        if math.isfinite(row.known):
            shift = 10 * (row.error if row.tolerance is None else row.tolerance)
            assert not replace(row, known=row.known + shift).agrees, row.name
            assert not replace(row, known=row.known - shift).agrees, row.name
        else:
            assert not replace(row, known=-30.0).agrees, row.name


@pytest.mark.slow
def test_the_page_has_every_row(rows: list[Row]) -> None:
    page = (ROOT / "docs" / "VALIDATION.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| (.+?) +\| (.+?) +\| ", page, flags=re.MULTILINE)
    assert [f"{system}: {quantity}" for system, quantity in lines[2:]] == [r.name for r in rows]
    assert "python benchmarks/validate.py --write" in page
    assert "torch " in page
    assert "seed 0" in page


def test_verdicts() -> None:
    assert EXACT.agrees
    assert not replace(EXACT, tolerance=1e-13).agrees
    assert STATISTICAL.error == pytest.approx(0.1)
    assert STATISTICAL.agrees
    assert not replace(STATISTICAL, known_error=0.0, standard_error=0.05).agrees
    assert not replace(STATISTICAL, standard_error=math.nan).agrees
    assert not replace(EXACT, estimate=math.nan).agrees
    assert replace(EXACT, known=-math.inf, estimate=-math.inf, tolerance=0.0).agrees
    assert not replace(EXACT, known=-math.inf, estimate=-30.0).agrees


def test_the_farthest_exponent_decides() -> None:
    known = torch.tensor([1.0, 0.5, -math.inf])
    row = farthest("map", "all", "theory", known, torch.tensor([1.0, 0.25, -math.inf]), 0.1)
    assert (row.known, row.estimate, row.agrees) == (0.5, 0.25, False)
    assert not farthest("map", "all", "theory", known, known.new_tensor([1, 0.5, -9]), 0.1).agrees
    assert not farthest("map", "all", "theory", known, known * math.nan, 0.1).agrees
    with pytest.raises(ValueError, match="Expected 3 exponents, but got 2"):
        farthest("map", "all", "theory", known, known[:2], 0.1)


def test_the_table_is_markdown() -> None:
    lines = table([EXACT, replace(STATISTICAL, source="log |det|")]).splitlines()
    assert [line.count(" | ") for line in lines] == [6, 6, 6, 6]
    assert r"log \|det\|" in lines[3]
    assert "+2.0 SE" in lines[3]
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize(("known", "status"), [(1.0, 0), (2.0, 1)])
def test_the_exit_status_tells(
    known: float,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def section(effort: Effort) -> list[Row]:
        return [replace(EXACT, known=known)]

    monkeypatch.setattr(validate, "SECTIONS", (section,))
    monkeypatch.setattr(validate, "DOCUMENT", tmp_path / "VALIDATION.md")
    assert validate.main(["--write"]) == status
    printed = capsys.readouterr().out
    assert ("DIFFERS" in printed) == (status == 1)
    assert printed.splitlines()[0] in (tmp_path / "VALIDATION.md").read_text(encoding="utf-8")


def test_a_quick_table_is_not_written() -> None:
    with pytest.raises(SystemExit):
        validate.main(["--quick", "--write"])


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ncps.torch", None)
    with pytest.raises(ImportError, match=r"ncps.*`dev` extra"):
        third_party_cell(QUICK)
