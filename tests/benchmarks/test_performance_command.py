"""The command of the performance benchmark: which sections it measures, and the page."""

import re
from pathlib import Path

import pytest
import torch

import run
from performance.table import Result
from performance.timing import threads
from tests.toy_sections import CPU, TOYS


class TestCommand:
    @pytest.fixture(autouse=True)
    def _toys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        names = ("overhead", "union")
        devices = {"overhead": ("cpu", "cuda"), "union": ("cpu",)}
        toys = {name: run.Section(TOYS[name], TOYS[name], devices[name]) for name in names}
        monkeypatch.setattr(run, "SECTIONS", toys)

    def test_sections_measured_one_by_one_make_a_page(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        store, target = tmp_path / "store", tmp_path / "page.md"
        run.main(["--sections", "union", "--store", str(store)])
        assert "## Layers by themselves" in capsys.readouterr().out
        run.main(["--sections", "overhead", "--store", str(store), "--write", str(target)])
        text = target.read_text(encoding="utf-8")
        assert text.index("## Overhead") < text.index("## Layers by themselves")
        assert "GRU, 8 units" in text
        before = text
        run.main(["--sections", "--store", str(store), "--write", str(target)])
        assert target.read_text(encoding="utf-8") == before

    def test_all_sections_are_measured_unless_some_are_named(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run.main(["--quick"])
        assert capsys.readouterr().out.count("\n## ") >= 2

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--device", "cuda", "--sections", "union"], r"run on cuda, but got \['union'\]"),
            (["--quick", "--write", "x"], "Expected --write alone"),
            (["--sections", "union", "--write", "x"], r"but not \['overhead'\]"),
            (["--sections", "nonsense"], "invalid choice"),
        ],
    )
    def test_what_cannot_be_is_said_before_anything_is_measured(
        self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            run.main(arguments)
        error = " ".join(capsys.readouterr().err.split())
        assert re.search(message, error)

    def test_a_section_has_one_thread_and_says_what_torch_had(self) -> None:
        seen = []

        def measure(device: torch.device) -> Result:
            seen.append(torch.get_num_threads())
            return Result("x", "y")

        with threads(2):
            found = run.measured(run.Section(measure, measure), CPU, quick=True)
        assert seen == [1]
        assert (found.machine.threads, found.quick) == (2, True)


def test_quick_sections_are_smaller_than_full_ones() -> None:
    for name, each in run.SECTIONS.items():
        assert each.full.args != each.quick.args, name  # type: ignore[attr-defined]
    assert {name for name, each in run.SECTIONS.items() if "cuda" in each.devices} == {
        "overhead",
        "leading",
        "cuda",
        "replayed",
        "waits",
        "over_time",
    }
