"""The page docs/COVERAGE.md."""

import math
import platform
from typing import Any, Literal

import torch

from covering.counting import coverage
from covering.networks import DRIVE, GAIN, LONG_DRAWS, SEQUENCES, TRAINING_STEPS, UNITS
from covering.replicates import CASES, STATISTICS, Case

TITLES = {
    "tanh-full": "tanh, chaotic",
    "LSTM-full": "LSTM, full",
    "LSTM-hidden": "LSTM, hidden",
    "GRU-full": "GRU",
}
HEADER = (
    "| network | K | sequences x steps | replicates | resolved | settled | covered | "
    "worst exponent (its bias, spread) | largest exponent |\n| --- " + "| ---: " * 8 + "|"
)
TEXT = """# What the intervals cover

Made by `python -m benchmarks.interval_coverage --out FOLDER --write` (torch {torch}, Python
{python}, float32, {units} units each); don't edit.

How often a 95 % interval covers the exponent of a long run, measured with the default arguments:
half of the steps are warm-up.

- *tanh, chaotic*: random weights (g = {gain:g}), driven by weak white noise (s² = {drive:g}), from
  the state zero. Its largest exponent is {tanh:+.3f} nats per step. The long run has {draws}
  sequences of 4000 counted steps.
- *LSTM*, *GRU*: trained for {training} steps on War and Peace, measured on windows of the test
  split. Their largest exponents are {lstm:+.3f} (full), {hidden:+.3f} (hidden) and {gru:+.3f}. The
  long run counts every character of the split once.

The long run is in float64, after 1000 steps of warm-up; its own margin is allowed for.

**Resolved** is the share of the exponents that are, in each of the ten sequences (see
[Rounding](errors.md#rounding)): the share in single sequences to the tenth power. The others are
judged like them. **Settled** is the share of the exponents said to be settled. Of these,
**covered** is the share whose interval covers. By chance the share of a single exponent over
{number} replicates lies between {low:.0%} and {high:.0%}, and the worst of twenty or forty lower.
**Bias** is the mean deviation of the worst exponent in margins, **spread** its standard deviation
over replicates in standard errors: 0 and 1 are right.

{after}

## Statistics

The share of the intervals of `measures()`, of complete spectra, that hold what the long run gives.
Without chaos dimension, entropy and number of positive exponents are zero, and known to be.

{statistics}

## Without a warm-up

The same with `warmup_steps=0`, every step counted, state and basis as they start (Algorithm 1 of
the paper): intervals see chance only, not where everything comes from.

{before}
"""


def line(case: Case, found: dict[str, Any]) -> str:
    """Return the row of a case, in Markdown."""
    network = f"{case.network}-{case.state}"
    counted = coverage(found[case.name], found[f"{network}-long"])
    worst = "-"
    if counted.worst_index is not None:
        worst = (
            f"{counted.worst:.0%}: no. {counted.worst_index + 1} "
            f"({counted.bias:+.2f}, {counted.spread:.2f})"
        )
    cells = (
        TITLES[network],
        case.count or len(found[case.name][0]["exponents"]),
        f"{SEQUENCES} x {case.steps}",
        len(found[case.name]),
        _share(counted.resolved),
        _share(counted.settled),
        _share(counted.covered),
        worst,
        _share(counted.largest),
    )
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _share(value: float) -> str:
    """Write a share; a dash where it is of nothing."""
    return "-" if math.isnan(value) else f"{value:.1%}"


def statistics_table(found: dict[str, Any]) -> str:
    """Return the table of complete spectra's statistics, in Markdown."""
    cases = [case for case in CASES if case.warmup_steps == "auto" and case.count is None]
    counted = [
        coverage(found[case.name], found[f"{case.network}-{case.state}-long"]) for case in cases
    ]
    names = [name for name in STATISTICS if all(name in one.statistics for one in counted)]
    if not names:
        return "They have no intervals."
    columns = " | ".join(f"`{name}`" for name in names)
    rows = [
        f"| {TITLES[f'{case.network}-{case.state}']} | {SEQUENCES} x {case.steps} | "
        + " | ".join(_share(one.statistics[name]) for name in names)
        + " |"
        for case, one in zip(cases, counted, strict=True)
    ]
    header = f"| network | sequences x steps | {columns} |\n| --- " + "| ---: " * (len(names) + 1)
    return "\n".join([header + "|", *rows])


def page(found: dict[str, Any]) -> str:
    """Write the page of docs.

    Args:
        found: What the files hold.

    Returns:
        Markdown.
    """
    largest = {network: found[f"{network}-long"]["exponents"][0] for network in TITLES}
    number = len(found[CASES[0].name])
    chance = 1.96 * math.sqrt(0.95 * 0.05 / number)
    return TEXT.format(
        torch=torch.__version__.split("+")[0],
        python=platform.python_version(),
        number=number,
        units=UNITS,
        gain=GAIN,
        drive=DRIVE,
        training=TRAINING_STEPS,
        draws=LONG_DRAWS,
        tanh=largest["tanh-full"],
        lstm=largest["LSTM-full"],
        hidden=largest["LSTM-hidden"],
        gru=largest["GRU-full"],
        low=0.95 - chance,
        high=0.95 + chance,
        after=_table("auto", found),
        statistics=statistics_table(found),
        before=_table(0, found),
    )


def _table(warmup_steps: int | Literal["auto"], found: dict[str, Any]) -> str:
    """Return the table of all cases with this warm-up, in Markdown."""
    cases = [case for case in CASES if case.warmup_steps == warmup_steps]
    return "\n".join([HEADER, *(line(case, found) for case in cases)])
