"""What README and docs/ say, taken at its word: their code run, their commands parsed."""

import re
import shlex
from argparse import ArgumentParser
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override

from lightning_lyap.__main__ import COMMANDS
from tests.train.test_train import composed

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
EVERY_PAGE = [*PAGES, *sorted(DOCS.glob("*/*.md")), ROOT / "README.md"]
PROGRAMS = ("python train.py", "python -m lightning_lyap")
TABLE_LINE = re.compile(r"\| (.+) \| (.+) \| \[`(tests/[\w/]+\.py)::([^`]+)`\]\(\.\./(\S+)\) \|")


class Promise(NamedTuple):
    """A row of docs/modes.md."""

    group: str
    mode: str
    promise: str
    file: str
    test: str
    link: str


def promises(page: str) -> list[Promise]:
    """Return the rows of all tables below second-level headings; any other row is an error."""
    rows = []
    for section in page.split("\n## ")[1:]:
        group, *lines = section.splitlines()
        table = [line for line in lines if line.startswith("|")]
        assert table[:2] == ["| mode | promise | test |", "| --- | --- | --- |"], group
        for line in table[2:]:
            match = TABLE_LINE.fullmatch(line)
            assert match, f"Expected a row with a link to its test, but got {line}"
            rows.append(Promise(group, *match.groups()))
    return rows


PROMISES = promises((DOCS / "modes.md").read_text())


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def run_python(text: str, name: str, names: dict[str, Any]) -> int:
    """Run all Python of a page in one namespace and return the number of blocks."""
    found = blocks(text, "python")
    for block in found:
        exec(compile(block, name, "exec"), names)
    return len(found)


def commands(text: str) -> list[str]:
    """Return the commands of our two programs, without comments, those joined by && apart."""
    bash = "\n".join(blocks(text, "bash")).replace("\\\n", " ")
    lines = bash.splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    joined = [part.strip() for line in words for part in " ".join(line).split("&&")]
    return [command for command in joined if command.startswith(PROGRAMS)]


def check_command(command: str) -> None:
    """Compose the configuration of a training, or parse the arguments of a subcommand."""
    words = command.split()
    if command.startswith(PROGRAMS[0]):
        check_overrides([word for word in words[2:] if word not in ("-m", "--help")], "-m" in words)
    else:
        name, *arguments = words[3:]
        assert name in COMMANDS, name
        parser = StrictParser(prog=name)
        import_module(f"lightning_lyap.cli.{name}").configure(parser)
        parser.parse_args(arguments)


def check_overrides(words: list[str], multirun: bool) -> None:
    """Compose with the first choice of every sweep; only a multirun may have sweeps."""
    parsed = OverridesParser.create().parse_overrides(words)
    swept = any(override.is_sweep_override() for override in parsed)
    assert multirun or not swept, "a sweep without -m"
    assert composed(*(first_choice(override) for override in parsed))


def first_choice(override: Override) -> str:
    """Return an override as it is, or with the first value of its sweep."""
    if not override.is_sweep_override():
        return str(override.input_line)
    value = override.value()
    if isinstance(value, IntervalSweep):
        return f"{override.key_or_group}={value.start}"
    return f"{override.key_or_group}={next(override.sweep_string_iterator())}"


class StrictParser(ArgumentParser):
    """Raises instead of leaving the process."""

    def error(self, message: str) -> Any:
        raise ValueError(f"{self.prog}: {message}")
