"""CONTRIBUTING.md is true: its commands, layers, paths and markers are those of the project."""

import re
import shutil
import sysconfig
from importlib.util import find_spec
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.documents import ROOT, blocks

PAGE = (ROOT / "CONTRIBUTING.md").read_text()
PROJECT = (ROOT / "pyproject.toml").read_text()
SCRIPT = (ROOT / ".ci" / "run").read_text()
HOOKS: Any = OmegaConf.to_container(OmegaConf.load(ROOT / ".pre-commit-config.yaml"))
LINES = [line.split(" #")[0] for block in blocks(PAGE, "bash") for line in block.splitlines()]
COMMANDS = [command.strip() for line in LINES for command in line.split("&&")]
INSTALLED_BY_THE_PAGE = {"build", "twine"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_exists(command: str) -> None:
    first, *rest = command.split()
    if first in {"source", *INSTALLED_BY_THE_PAGE}:
        return
    if first.startswith("python"):
        assert rest[0] == "-m"
        assert rest[1] in INSTALLED_BY_THE_PAGE or find_spec(rest[1]), command
    else:
        assert shutil.which(first, path=sysconfig.get_path("scripts")), command


def test_what_the_page_installs_by_itself_is_what_it_uses() -> None:
    installed = "python -m pip install " + " ".join(sorted(INSTALLED_BY_THE_PAGE))
    assert installed in COMMANDS


def test_markers_are_those_of_the_project() -> None:
    described = set(re.findall(r"pytest -m (\w+)", PAGE))
    registered = set(re.findall(r'^    "(\w+): .*pytest -m', PROJECT, flags=re.MULTILINE))
    assert described == registered == {"slow", "gpu"}


def test_layers_are_those_of_the_import_contract() -> None:
    shown = [re.split(r"  +", line)[0] for line in blocks(PAGE, "text")[0].splitlines()]
    contract = re.search(r"^layers = \[\n(.*?)^\]", PROJECT, flags=re.DOTALL | re.MULTILINE)
    assert contract
    assert shown == re.findall(r'"(.+)"', contract[1])


def test_paths_exist() -> None:
    named = re.findall(r"`([\w./]*(?:/|\.py|\.toml|\.txt|\.cff|\.md))`", PAGE)
    links = re.findall(r"\]\((?!https:)(.+?)\)", PAGE)
    assert len(named) > 10
    beside = ROOT / "lightning_lyap" / "dynamics"
    for path in {*named, *links} - {"utils.py"}:
        places = (
            ROOT / path,
            ROOT / "tests" / path,
            ROOT / "lightning_lyap" / path,
            beside / path,
        )
        assert any(place.exists() for place in places), path


def test_it_takes_one_page() -> None:
    assert len(PAGE.splitlines()) < 120


def test_hooks_are_the_checks_of_continuous_integration() -> None:
    (local,) = HOOKS["repos"]
    entries = {hook["id"]: hook["entry"] for hook in local["hooks"]}
    assert {hook["language"] for hook in local["hooks"]} == {"system"}
    checks = {"ruff-check", "ruff-format", "codespell", "lint-imports", "mypy"}
    assert set(entries) == {*checks, "large-files"}
    steps = [" ".join(line.split()[:2]) for line in SCRIPT.splitlines()]
    for name in checks:
        assert " ".join(entries[name].split()[:2]).removesuffix(" --force-exclude") in steps


def test_public_ci_runs_the_same_script_on_supported_versions() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    supported = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PROJECT)
    assert f'python: ["{supported[0]}", "{supported[-1]}"]' in workflow
    assert f'requires-python = ">={supported[0]}"' in PROJECT
    assert "- run: .ci/run\n" in workflow
