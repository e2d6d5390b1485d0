"""All performance ratios of the package: `python -m benchmarks.run [--quick] [--write]`.

Each section measures what it compares in turn, in one run, prints medians and spread, and checks
what it measures against a naive twin in float64. All of them take less than ten minutes on two idle
cores, with ``--quick`` less than two. ``--sections`` chooses some, ``--store FOLDER`` keeps what is
measured, so that ``--write`` can make docs/PERFORMANCE.md of sections measured one by one.
``--device cuda`` measures what is aimed at on a GPU, in less than three minutes.
"""

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))  # with -m that is not there

from performance import (
    crossover,
    fit,
    laws,
    leading,
    on_gpu,
    over_time,
    overhead,
    parallel,
    peaks,
    replayed,
    union,
    waits,
)
from performance.page import Machine, Measured, compose, keep, kept, missed, start_up
from performance.table import Result
from performance.timing import threads

PAGE = Path(__file__).resolve().parents[1] / "docs" / "PERFORMANCE.md"
Measure = Callable[[torch.device], Result]


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        full: Measures it.
        quick: Measures it with small sizes.
        devices: Types of the devices it can be measured on.
    """

    full: Measure
    quick: Measure
    devices: tuple[str, ...] = ("cpu",)


def _section(
    measure: Callable[..., Result], full: object, quick: object, devices: tuple[str, ...] = ("cpu",)
) -> Section:
    """Make a section of a function and its sizes.

    Args:
        measure: Takes sizes and a device.
        full: The sizes.
        quick: Small ones.
        devices: See `Section`.

    Returns:
        The section.
    """
    full_size: Measure = partial(measure, full)
    return Section(full_size, partial(measure, quick), devices)


ANYWHERE = ("cpu", "cuda")
ON_GPU = ("cuda",)
SECTIONS = {
    "cuda": _section(on_gpu.measure, on_gpu.FULL, on_gpu.QUICK, ON_GPU),
    "replayed": _section(replayed.measure, on_gpu.FULL, on_gpu.QUICK, ON_GPU),
    "overhead": _section(overhead.measure, overhead.FULL, overhead.QUICK, ANYWHERE),
    "leading": _section(leading.measure, leading.FULL, leading.QUICK, ANYWHERE),
    "laws": _section(laws.measure, laws.FULL, laws.QUICK),
    "crossover": _section(crossover.measure, crossover.FULL, crossover.QUICK),
    "peaks": _section(peaks.measure, peaks.FULL, peaks.QUICK),
    "union": _section(union.measure, union.FULL, union.QUICK),
    "parallel": _section(parallel.measure, parallel.FULL, parallel.QUICK),
    "over_time": _section(over_time.measure, over_time.FULL, over_time.QUICK, ANYWHERE),
    "callback": _section(fit.measure, fit.FULL, fit.QUICK),
    # The last: launching kernels may take longer once a profiler was there.
    "waits": _section(waits.measure, waits.FULL, waits.QUICK, ON_GPU),
}


def measured(section: Section, device: torch.device, quick: bool) -> Measured:
    """Measure a section on one thread, as far as it does not ask for more.

    Args:
        section: The section.
        device: Where.
        quick: Whether to take small sizes.

    Returns:
        What it found, and where.
    """
    machine, load = Machine.this(device), os.getloadavg()[0]
    with threads(1):
        result = (section.quick if quick else section.full)(device)
    return Measured(result, machine, load, quick)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    own = argparse.ArgumentParser(description=__doc__)
    own.add_argument("--quick", action="store_true", help="small sizes, few rounds")
    own.add_argument("--device", choices=ANYWHERE, default="cpu")
    own.add_argument("--sections", nargs="*", choices=SECTIONS, help="those alone")
    own.add_argument("--store", type=Path, help="folder that keeps what is measured")
    own.add_argument(
        "--write",
        type=Path,
        nargs="?",
        const=PAGE,
        help="write the page, of what is measured and what is in the folder of --store",
    )
    return own


def of_device(kind: str) -> list[str]:
    """Return the names of the sections of a type of device, in order."""
    return [name for name, each in SECTIONS.items() if kind in each.devices]


def check(own: argparse.ArgumentParser, arguments: argparse.Namespace, names: list[str]) -> None:
    """Refuse, before anything is measured, what cannot be.

    Args:
        own: Ends the process with a message.
        arguments: What was given.
        names: The sections to measure.
    """
    elsewhere = [name for name in names if arguments.device not in SECTIONS[name].devices]
    if elsewhere:
        own.error(f"Expected sections that run on {arguments.device}, but got {elsewhere}.")
    if arguments.write and (arguments.quick or arguments.device != "cpu"):
        own.error(
            "Expected --write alone, but got --quick or a device: the page is that of a CPU, in "
            "full size. With --device cuda, --store keeps what is printed."
        )
    if arguments.device == "cuda" and not torch.cuda.is_available():
        own.error("Expected a CUDA device for --device cuda, but torch finds none.")


def measure_all(
    names: list[str], device: torch.device, quick: bool, store: Path | None
) -> dict[str, Measured]:
    """Measure sections, print each, and keep it if there is a folder.

    One that fails is told of, and the others are measured nevertheless.

    Args:
        names: The sections.
        device: Where.
        quick: Whether to take small sizes.
        store: The folder, or None.

    Returns:
        Those that did not fail, by name.
    """
    found = {}
    for name in names:
        begin = time.perf_counter()
        try:
            found[name] = measured(SECTIONS[name], device, quick)
        except Exception:
            traceback.print_exc()
            continue
        print(f"\n{found[name].result.markdown()}\n{name}: ", end="")
        print(f"{time.perf_counter() - begin:.0f} s", flush=True)
        if store:
            keep(store, name, found[name])
    return found


def main(given: list[str] | None = None) -> None:
    """Measure and print, and write the page if asked to.

    Args:
        given: The command line. Default: that of the process.
    """
    arguments = (own := parser()).parse_args(given)
    chosen = arguments.sections
    names = of_device(arguments.device) if chosen is None else chosen
    check(own, arguments, names)
    page = of_device("cpu")
    before = kept(arguments.store, page) if arguments.store else {}
    missing = [name for name in page if name not in names and name not in before]
    if arguments.write and missing:
        own.error(f"Expected --write with all sections measured or in --store, but not {missing}.")
    device = torch.device(arguments.device)
    print(Machine.this(device))
    found = measure_all(names, device, arguments.quick, arguments.store)
    if found:
        print(missed(each.result for each in found.values()))
    failed = [name for name in names if name not in found]
    if failed:
        sys.exit(f"Failed, see above: {failed}")
    if arguments.write:
        arguments.write.write_text(compose(before | found, page), encoding="utf-8")
    elif chosen is None:
        print(start_up())


if __name__ == "__main__":
    main()
