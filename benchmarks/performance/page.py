"""The page docs/PERFORMANCE.md, made of sections that may have been measured one by one."""

import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from performance.table import Result, number

START_UP = Path(__file__).resolve().parents[1] / "startup.py"
TEXT = """# Performance

Made by `python -m benchmarks.run --write` ({machine}); don't edit.

All numbers are ratios, or exponents of power laws; what a section compares is measured in turn in
one run: median and lowest to highest of the rounds. Where it says one thread, it is processor time,
in which other work on the machine does not count; elsewhere it is wall time. When the sections
began the machine had a load of {load} (processes that run or wait, the benchmark's own among them).
Every section compares what it measures with a naive twin in float64: the cells' equations, dense
Jacobians by automatic differentiation and `torch.linalg.qr`, one step after the other. "Off by" is
the largest difference of a resolved exponent, nats per step. A bar is what was aimed at; the
verdict judges the median.
{missed}
"""


@dataclass(frozen=True)
class Machine:
    """Where a section was measured.

    Attributes:
        device: ``"CPU"`` or the name of the GPU.
        cores: Of the CPU.
        threads: That torch uses unless told otherwise.
        torch_version: Of torch.
        python_version: Of Python.
    """

    device: str
    cores: int
    threads: int
    torch_version: str
    python_version: str

    @staticmethod
    def this(device: torch.device) -> "Machine":
        """Describe this machine.

        Args:
            device: Where is measured.

        Returns:
            The facts.
        """
        return Machine(
            "CPU" if device.type == "cpu" else torch.cuda.get_device_name(device),
            os.cpu_count() or 1,
            torch.get_num_threads(),
            torch.__version__.split("+")[0],
            platform.python_version(),
        )

    def __str__(self) -> str:
        """Say it in words."""
        return (
            f"torch {self.torch_version}, Python {self.python_version}; {self.device}, machine "
            f"with {self.cores} CPU cores, {self.threads} threads of torch"
        )


@dataclass(frozen=True)
class Measured:
    """A section as it was measured.

    Attributes:
        result: What it found.
        machine: Where.
        load: Of the machine when it began.
        quick: Whether it was measured with small sizes.
    """

    result: Result
    machine: Machine
    load: float
    quick: bool


def keep(folder: Path, name: str, measured: Measured) -> None:
    """Keep a section for a page that is made later, and its Markdown to read.

    Args:
        folder: Where; it is made.
        name: Of the section.
        measured: The section.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(measured), indent=1)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    page = f"Measured on: {measured.machine}.\n\n{measured.result.markdown()}"
    (folder / f"{name}.md").write_text(page, encoding="utf-8")


def kept(folder: Path, names: Iterable[str]) -> dict[str, Measured]:
    """Read what was kept.

    Args:
        folder: Where.
        names: Of the sections.

    Returns:
        Those of them that are there, by name.
    """
    found = {}
    for name in names:
        path = folder / f"{name}.json"
        if path.is_file():
            given = json.loads(path.read_text(encoding="utf-8"))
            found[name] = Measured(
                Result.from_dict(given["result"]),
                Machine(**given["machine"]),
                given["load"],
                given["quick"],
            )
    return found


def compose(sections: Mapping[str, Measured], names: Iterable[str]) -> str:
    """Write the page.

    Args:
        sections: What was measured, by name.
        names: The sections that make up a page, in order.

    Returns:
        Markdown.

    Raises:
        ValueError: If a section is missing, was measured with small sizes, or on another machine.
    """
    names = list(names)
    missing = [name for name in names if name not in sections]
    quick = [name for name in names if name in sections and sections[name].quick]
    if missing or quick:
        raise ValueError(
            f"Expected all sections of a page, in full size, but got none of {missing} and only "
            f"quick ones of {quick}. Measure them without `--quick`, together or one by one with "
            "the same `--store`."
        )
    chosen = [sections[name] for name in names]
    machines = {each.machine for each in chosen}
    if len(machines) > 1:
        raise ValueError(
            f"Expected sections that were measured on one machine, but got {len(machines)}: "
            f"{'; '.join(sorted(map(str, machines)))}. Measure all of them on one."
        )
    loads = sorted(each.load for each in chosen)
    page = TEXT.format(
        machine=machines.pop(),
        load=f"{loads[0]:.1f} to {loads[-1]:.1f}",
        missed=missed([each.result for each in chosen]),
    )
    return page + "".join("\n" + each.result.markdown() for each in chosen) + start_up()


def missed(results: Iterable[Result]) -> str:
    """Tell which bars were not met.

    Args:
        results: The sections.

    Returns:
        A paragraph of Markdown.
    """
    lines, count = [], 0
    for result in results:
        for row in result.rows:
            if row.bar is not None:
                count += 1
                median = row.found.median
                if row.bar.verdict(median) == "not met":
                    bar = f"{row.bar.sign} {row.bar.value:g}"
                    lines.append(f"- {result.title}: {row.what}: {number(median)}, bar {bar}")
    if not lines:
        return f"\nAll {count} bars are met."
    return f"\nOf {count} bars {len(lines)} are not met:\n\n" + "\n".join(lines)


def start_up() -> str:
    """Point to the benchmark of the start-up, where there is one.

    Returns:
        Markdown.
    """
    if not START_UP.is_file():
        return ""
    return "\n## Start-up\n\nWhat importing the package takes: `python benchmarks/startup.py`.\n"
