"""The command: found under both names, and saying which version it is."""

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import lightning_lyap
from lightning_lyap.__main__ import COMMANDS, main

ROOT = Path(__file__).resolve().parents[1]


def test_the_installed_script_is_this_function() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    (target,) = re.findall(r'^lightning-lyap = "(.+)"$', project, flags=re.MULTILINE)
    module, _, name = target.partition(":")
    assert getattr(import_module(module), name) is main


def test_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"lightning-lyap {lightning_lyap.__version__}\n"


def test_python_runs_it_as_a_module_from_any_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lightning_lyap", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == f"lightning-lyap {lightning_lyap.__version__}\n"


@pytest.mark.parametrize(
    ("started", "program"),
    [
        ("/environment/bin/lightning-lyap", "lightning-lyap"),
        ("lightning-lyap.exe", "lightning-lyap"),
        ("/project/lightning_lyap/__main__.py", "python -m lightning_lyap"),
        ("/project/train.py", "python -m lightning_lyap"),
    ],
)
@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_names_the_way_it_was_started(
    started: str,
    program: str,
    command: str | None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [command] if command else []
    monkeypatch.setattr(sys, "argv", [started, *words, "--help"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: {' '.join([program, *words])} ")
    assert command is not None or f"{program} compare --help" in said
