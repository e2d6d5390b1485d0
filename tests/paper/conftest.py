"""A text of a few thousand characters, and commands run in this process, each once."""

import io
import logging
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from paper.command import Figure, produce, run
from paper.settings import Settings

LIGHTNING = ("pytorch_lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric")


@dataclass(frozen=True)
class Done:
    """What a command left: the folder of its figure, and what it printed."""

    folder: Path
    said: str


class Commands:
    """Runs commands in this process, with networks of one folder."""

    def __init__(self, out: Path, text: Path) -> None:
        self.out = out
        self.text = text
        self._done: dict[str, Done] = {}

    def words(self, out: Path) -> list[str]:
        own = f"+scale.charrnn.task.text={self.text}"
        return ["scale=tiny", "data=synthetic", "accelerator=cpu", f"out={out}", own]

    def run(self, figure: Figure, *more: str, out: Path | None = None) -> Done:
        return self.call(figure.name, lambda cfg: produce(figure, cfg), *more, out=out)

    def call(
        self, name: str, task: Callable[[DictConfig], Any], *more: str, out: Path | None = None
    ) -> Done:
        """Run a command; it ends this process's hold on Hydra, as the real one does."""
        where = out or self.out
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
            patch.setattr(sys, "argv", [f"paper.{name}", *self.words(where), *more])
            # Hydra takes a tracer, that of coverage too, for a debugger.
            patch.setattr("hydra._internal.utils.is_under_debugger", lambda: False)
            patch.setenv("LYAP_CACHE_DIR", str(self.out / "cache"))
            run(task)
        return Done(where / name, said.getvalue())

    def once(self, figure: Figure) -> Done:
        """Run a figure's command unless it was run."""
        if figure.name not in self._done:
            self._done[figure.name] = self.run(figure)
        return self._done[figure.name]


@pytest.fixture(autouse=True)
def _loggers_as_loud_as_before() -> Iterator[None]:
    """Commands that train many networks quiet Lightning for the rest of their process."""
    loggers = [logging.getLogger(name) for name in LIGHTNING]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    folder = tmp_path_factory.mktemp("paper")
    text = folder / "letters.txt"
    text.write_text("".join(random.Random(0).choices("abcdefg .", k=6000)))
    return Commands(folder / "shared", text)


@pytest.fixture
def text(commands: Commands) -> Path:
    return commands.text


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "out", accelerator="cpu")
