"""`python -m benchmarks.run --device cuda`, with toy sections on the CPU."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import run
from performance.page import Machine
from performance.table import Bar, Result, Row
from performance.timing import Spread

asked: list[torch.device] = []


def toy(title: str, value: float) -> Callable[[torch.device], Result]:
    def measure(device: torch.device) -> Result:
        asked.append(device)
        row = Row("seconds", Spread(value, value, value, 1), Bar("<", 0.5))
        return Result(title, "text", [row])

    return measure


def broken(device: torch.device) -> Result:
    raise ArithmeticError("out of luck")


def section(measure: Callable[[torch.device], Result], *devices: str) -> run.Section:
    return run.Section(measure, measure, devices)


@pytest.fixture(autouse=True)
def _a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    asked.clear()
    sections = {
        "cuda": section(toy("Targets", 0.4), "cuda"),
        "overhead": section(toy("Overhead", 0.6), "cpu", "cuda"),
        "union": section(toy("Union", 0.1), "cpu"),
    }
    monkeypatch.setattr(run, "SECTIONS", sections)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    machine = Machine("Some GPU", 16, 16, "2.11.0", "3.11.7")
    monkeypatch.setattr(Machine, "this", lambda device: machine)


def test_measures_what_runs_there_and_tells_what_is_missed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run.main(["--device", "cuda", "--quick"])
    printed = capsys.readouterr().out
    assert asked == [torch.device("cuda")] * 2
    assert printed.startswith("torch 2.11.0, Python 3.11.7; Some GPU")
    assert "| seconds | 0.4 | - | 1 | < 0.5 | met | - |" in printed
    assert "Of 2 bars 1 are not met:\n\n- Overhead: seconds: 0.6, bar < 0.5" in printed
    assert "Union" not in printed


def test_what_is_measured_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run.main(["--device", "cuda", "--store", str(tmp_path)])
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {"cuda.json", "cuda.md", "overhead.json", "overhead.md"}
    assert json.loads((tmp_path / "cuda.json").read_text())["machine"]["device"] == "Some GPU"
    text = (tmp_path / "cuda.md").read_text(encoding="utf-8")
    assert "Some GPU" in text
    assert text.split("\n\n", 1)[1] in capsys.readouterr().out


def test_one_that_fails_does_not_take_the_others_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(run.SECTIONS, "cuda", section(broken, "cuda"))
    with pytest.raises(SystemExit, match=r"Failed, see above: \['cuda'\]"):
        run.main(["--device", "cuda", "--store", str(tmp_path)])
    printed = capsys.readouterr()
    assert "ArithmeticError: out of luck" in printed.err
    assert "## Overhead" in printed.out
    assert {path.name for path in tmp_path.iterdir()} == {"overhead.json", "overhead.md"}


def test_no_page_is_made_of_sections_that_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(run.SECTIONS, "union", section(broken, "cpu"))
    with pytest.raises(SystemExit, match="Failed"):
        run.main(["--write", str(tmp_path / "page.md")])
    assert not (tmp_path / "page.md").exists()


def test_the_page_of_a_cpu_wants_no_section_of_a_gpu(tmp_path: Path) -> None:
    run.main(["--write", str(tmp_path / "page.md")])
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert re.findall("^## (.*)", text, re.MULTILINE)[:2] == ["Overhead", "Union"]
    assert "Targets" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "cuda", "--write", "x"], "With --device cuda, --store keeps"),
        (["--device", "cuda", "--sections", "union"], r"run on cuda, but got \['union'\]"),
        (["--sections", "cuda"], r"run on cpu, but got \['cuda'\]"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_measured(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run.main(arguments)
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
    assert asked == []


def test_a_machine_without_a_gpu_is_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        run.main(["--device", "cuda"])
    assert "Expected a CUDA device for --device cuda" in capsys.readouterr().err
