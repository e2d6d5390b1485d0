"""The documentation is true: its code runs, its commands exist, its figures are there."""

import ast
import doctest
import re
import struct
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_lyap.callback import outputs
from tests.documents import (
    DOCS,
    EVERY_PAGE,
    PAGES,
    ROOT,
    blocks,
    check_command,
    commands,
    run_python,
)
from tests.networks import Predictor, Windows

hooks: Any = import_module("docs.hooks")
docstrings: Any = import_module("docs.docstrings")


@pytest.mark.parametrize(
    "path",
    [path for path in PAGES if blocks(path.read_text(), "python") and path.stem != "quickstart"],
    ids=lambda path: path.name,
)
def test_the_python_code_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, Any] = {"model": Predictor(), "datamodule": Windows(), "__name__": path.stem}
    assert run_python(path.read_text(), path.name, names) > 0


@pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
def test_the_quickstart_runs_and_leaves_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(outputs, "render", lambda figure: np.zeros((4, 6, 4), np.uint8))
    names: dict[str, Any] = {"model": Predictor(), "datamodule": Windows()}
    assert run_python((DOCS / "quickstart.md").read_text(), "quickstart.md", names) == 5
    assert names["history"].exponents().shape == (3, 6)
    assert names["estimate"].exponents.shape == (128,)
    assert {"lyapunov/max", "lyapunov/max_margin"} <= set(names["trainer"].callback_metrics)


COMMANDS = {command: path for path in EVERY_PAGE for command in commands(path.read_text())}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[:60])
def test_every_command_exists(command: str) -> None:
    check_command(command)


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("python train.py task=mocaap", "mocaap"),
        ("python train.py task.learning_rate=1", "learning_rate"),
        ("python train.py init_p=0.1,0.2", "a sweep without -m"),
        ("python -m lightning_lyap spectre x.ckpt", "spectre"),
        ("python -m lightning_lyap spectrum x.ckpt --steps 3", "--steps"),
    ],
)
def test_a_command_that_does_not_exist_would_be_seen(command: str, error: str) -> None:
    with pytest.raises(Exception, match=error):
        check_command(command)


def test_commands_are_found_behind_others_and_without_their_comments() -> None:
    text = "```bash\npip install x && python train.py -m a=1,2 # sweep\nls\n```\n"
    assert commands(text) == ["python train.py -m a=1,2"]
    assert len(COMMANDS) > 15


@pytest.mark.parametrize("module", [docstrings, hooks], ids=lambda module: module.__name__)
def test_examples_of_the_generators_hold(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_figures_are_there_and_small() -> None:
    for path in EVERY_PAGE:
        for name in re.findall(r"!\[.+?\]\((.*?)\)", path.read_text()):
            figure = path.parent / name
            assert figure.stat().st_size < 100_000, name
            width, height = struct.unpack(">II", figure.read_bytes()[16:24])
            assert width > 800, name
            assert height > 300, name


def test_continuous_integration_builds_the_site_with_warnings_as_errors() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    steps = [line for line in script.splitlines() if line and not line.startswith("#")]
    assert steps.index("mypy") < next(
        i for i, s in enumerate(steps) if "mkdocs build --strict" in s
    )
    assert "site/" in (ROOT / ".gitignore").read_text().split()


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.py")), ids=lambda path: path.name)
def test_scripts_say_how_they_are_run(path: Path) -> None:
    said = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert f"python docs/{path.name}" in said or "mkdocs" in said
