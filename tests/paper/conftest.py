"""A text of a few thousand characters, and commands run in this process."""

import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from paper.command import Figure, main
from paper.settings import Settings

Command = Callable[..., Path]


def words(out: Path, text: Path) -> list[str]:
    """Return the arguments of every command."""
    return [
        "scale=tiny",
        "data=synthetic",
        "accelerator=cpu",
        f"out={out}",
        f"+scale.charrnn.task.text={text}",
    ]


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "letters.txt"
    path.write_text("".join(random.Random(0).choices("abcdefg .", k=6000)))
    return path


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which figures find each other's networks."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, shared: Path, text: Path) -> Command:
    """Run a figure's command in this process; returns its folder."""
    monkeypatch.setenv("LYAP_CACHE_DIR", str(shared / "cache"))

    def run_figure(figure: Figure, *more: str, out: Path = shared) -> Path:
        arguments = [f"paper.{figure.name}", *words(out, text), *more]
        monkeypatch.setattr(sys, "argv", arguments)
        main(figure)
        return out / figure.name

    return run_figure


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "out", accelerator="cpu")
