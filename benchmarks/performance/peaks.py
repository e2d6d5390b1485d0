"""Peak memory: how it grows, and whether `lightning_lyap.estimator.batching` estimates enough."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lightning_lyap.estimator.batching import PER_DIRECTION, PER_VECTOR
from performance.fits import law
from performance.peak import Task
from performance.table import Bar, Result, Row
from performance.timing import Spread

TEXT = (
    "Peak memory beyond the network and its inputs, each measured in a fresh process after a tiny "
    "spectrum (`VmHWM` of Linux, with torch's own number of threads, float32). First the exponents "
    "of its power laws; then the measured peak over `bytes_per_sequence(...) * B` of "
    "`lightning_lyap.estimator.batching`, which decides how many sequences are run at the same "
    "time: above 1 it estimates too little. It allows for {vectors} N K + {directions} N² numbers "
    "for each sequence."
)
FOLDERS = [str(Path(__file__).resolve().parents[k]) for k in (1, 2)]
GIGABYTE = 1e9


@dataclass(frozen=True)
class Sizes:
    """How much to compute.

    Attributes:
        units: Values of N, at least three.
        counts: Values of K, at least three.
        partial: K of partial spectra.
        fixed: N where K is varied.
        batch: B.
        systems: What is compared with the estimate.
        large: The one whose peak has a bar.
        rounds: How often the power laws are measured.
    """

    units: tuple[int, ...]
    counts: tuple[int, ...]
    partial: int
    fixed: int
    batch: int
    systems: tuple[Task, ...]
    large: Task
    rounds: int


SYSTEMS = (
    Task("LSTM", 512, 10),
    Task("LSTM", 256, 10, state="full"),
    Task("LSTM", 512, 10, every="auto", steps=10),
    Task("LSTM", 512, 10, count=32),
    Task("LSTM", 512, 10, count=1),
    Task("GRU", 512, 10),
    Task("GRU", 512, 10, count=64),
    Task("RNN", 512, 10),
    Task("GRU", 128, 10, stack=3),
    Task("GRU", 256, 10, stack=2, layers="union"),
)
LARGE = Task("LSTM", 2048, 10, count=64)
FULL = Sizes((256, 512, 1024, 2048), (8, 32, 128, 512), 32, 1024, 4, SYSTEMS, LARGE, 1)
QUICK = replace(FULL, units=(256, 512, 1024), counts=(16, 64, 256), systems=SYSTEMS[:2])


def peak(task: Task) -> dict[str, Any]:
    """Measure in a fresh process.

    Args:
        task: What to measure.

    Returns:
        See `performance.peak.measure`.
    """
    path = os.pathsep.join([*FOLDERS, os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "performance.peak", task.as_json()]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def growth(what: str, sizes: Sequence[int], tasks: Sequence[Task], rounds: int) -> Row:
    """Fit a power law to peaks.

    Args:
        what: In words.
        sizes: The sizes.
        tasks: A task for each size.
        rounds: How often.

    Returns:
        The row.
    """
    found = [[peak(task) for task in tasks] for _ in range(rounds)]
    exponents, error = law(sizes, [[each["peak"] for each in row] for row in found])
    differences = [e["difference"] for row in found for e in row if e["difference"] is not None]
    name = f"exponent of the peak in {what} ({sizes[0]} to {sizes[-1]})"
    return Row(name, exponents, error=error, difference=max(differences, default=None))


def measure(sizes: Sizes, device: torch.device) -> Result:
    """Measure the section.

    Args:
        sizes: How much.
        device: The CPU.

    Returns:
        Power laws, the peak of a large system, and the ratios to the estimates.
    """
    rows = []
    for what, count in (("N, complete", None), (f"N, K = {sizes.partial}", sizes.partial)):
        tasks = [Task("LSTM", units, sizes.batch, count=count) for units in sizes.units]
        rows.append(growth(what, sizes.units, tasks, sizes.rounds))
    tasks = [Task("LSTM", sizes.fixed, sizes.batch, count=count) for count in sizes.counts]
    rows.append(growth(f"K, N = {sizes.fixed}", sizes.counts, tasks, sizes.rounds))
    large = peak(sizes.large)
    found = Spread.of([large["peak"] / GIGABYTE])
    rows.append(Row(f"{sizes.large.name}: peak in GB", found, Bar("<", 1.5)))
    measured = [(sizes.large, large), *((task, peak(task)) for task in sizes.systems)]
    ratios = [each["peak"] / each["estimated"] for _, each in measured]
    for value, (task, each) in zip(ratios, measured, strict=True):
        what = f"{task.name}: peak over estimate"
        rows.append(Row(what, Spread.of([value]), difference=each["difference"]))
    whole = Spread.of(ratios)
    worst = Spread(whole.highest, whole.highest, whole.highest, 1)
    rows.append(Row("largest peak over estimate", worst, Bar("<=", 1.0)))
    text = TEXT.format(vectors=PER_VECTOR, directions=PER_DIRECTION)
    return Result("Peak memory", text, rows)
