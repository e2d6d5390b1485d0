"""The README is true: its code runs, its commands are those that are run, its keys those logged."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_lyap import (
    LyapunovSpectrumCallback,
    lyapunov_spectrum,
    unregister_recurrence,
)
from lightning_lyap.callback import outputs
from tests.documents import ROOT, blocks, run_python
from tests.networks import Predictor, Windows

README = (ROOT / "README.md").read_text()


@pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
def test_the_python_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(outputs, "render", lambda figure: np.zeros((4, 6, 4), np.uint8))
    names: dict[str, Any] = {"model": Predictor(), "datamodule": Windows()}
    shorter = README.replace("20_000", "300").replace("max_epochs=10", "max_epochs=2")
    assert run_python(shorter, "README.md", names) == 5
    assert len(names["history"]) == 3
    assert len(lyapunov_spectrum(names["LeakyCell"](), torch.zeros(1, 9, 3)).exponents) == 8
    unregister_recurrence(names["LeakyCell"])
    # Finite-time exponents of 200 steps: the fluctuations are about 0.3 / sqrt(200).
    expected = torch.tensor([0.4192, -1.6232], dtype=torch.float64)
    torch.testing.assert_close(names["estimate"].exponents, expected, rtol=0, atol=0.1)


def test_both_setup_commands_take_one_line_and_tested_versions() -> None:
    commands = [block.strip() for block in blocks(README, "bash") if "pip install -c" in block]
    assert len(commands) == 2
    for command, run in zip(
        commands, ("python train.py task=mocap init_p=0.3", "python -m pytest -n auto"), strict=True
    ):
        assert "\n" not in command
        assert command.startswith("python -m pip install -c constraints.txt -e ")
        assert command.endswith(f"&& {run}")


def test_ci_runs_the_test_command_of_the_readme() -> None:
    marked = README.split("<!-- test command -->")[1]
    assert marked.lstrip().startswith(
        '```bash\npython -m pip install -c constraints.txt -e ".[dev]"'
    )
    assert "<!-- test command -->" in (ROOT / ".ci" / "run").read_text()


def test_the_keys_are_those_of_the_callback() -> None:
    described = set(re.findall(r"^\| `(lyapunov/\w+)`", README, flags=re.MULTILINE))
    documented = re.findall(
        r"^ +``(lyapunov/\w+)``  ", LyapunovSpectrumCallback.__doc__ or "", re.M
    )
    assert described == set(documented)
    assert len(described) == 19


def test_the_picture_is_there() -> None:
    for path in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / path).is_file()


def test_constraints_pin_what_the_project_asks_for() -> None:
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    asked = re.findall(r'"([a-z-]+)>=', (ROOT / "pyproject.toml").read_text())
    assert set(asked) - {"setuptools"} <= pinned
    assert {"torch", "hydra-core", "pytest"} <= pinned
