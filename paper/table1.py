"""Table 1: what a spectrum costs beside training, and how long training takes (both tasks).

``python -m paper.table1 [scale=paper] [data_dir=PATH] [tasks=[mocap]]``. Nothing is trained to its
end. The first network of Fig. 4 is trained for some steps, each timed as the Trainer does it (batch
loaded, forward, backward, optimizer; validation left out), and spectra of it are timed between
them, on the same device: 10 sequences of 100 steps, all exponents of the hidden state, interval 1,
as in the paper; and cheaper ones. A cost is the median over rounds, its interval the lowest and
highest of them. CharRNN counts epochs: the time of a step times the batches of an epoch. With one
thread (``OMP_NUM_THREADS=1``) processor time is taken, and other work does not count.

The units needed are those at the lowest validation loss of the networks of Fig. 4 that were
trained to their end, in ``out`` or ``results=FILE``; without any, that is said.

Verdicts, by a rule set before the table was made: a number agrees with the paper's if it lies
within a factor of two of it. Yes if that holds for the whole interval, no if for none of it. For
the fraction of training the interval is the 95 % interval of the mean over networks, widened by
that of the cost.
"""

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
from omegaconf import DictConfig

from lightning_lyap.plotting.canvas import finish
from paper.claims import Verdict
from paper.command import Figure, Finding, Result, main
from paper.confidence import interval
from paper.costs import PAPERS_KIND, Row, mean_and_deviation, with_needed
from paper.drawing import TASK_NAMES, letter, new_figure
from paper.networks import of_tasks
from paper.records import Record
from paper.settings import Settings, resolve_data
from paper.timing import Kind, time_task
from paper.training import for_task

FACTOR = 2
KINDS = (PAPERS_KIND, Kind("auto"), Kind(1, 32), Kind("auto", 32))


def make(records: Sequence[Record], cfg: DictConfig) -> Result:
    """Time both tasks and make Table 1.

    Args:
        records: The networks of Fig. 4 that are there.
        cfg: Settings of the command.

    Returns:
        The table.
    """
    settings = Settings.of(cfg)
    first = {network.task: network for network in reversed(of_tasks(cfg))}
    sources = resolve_data(list(first.values()), settings)
    rows = []
    for task in cfg.tasks:
        where = for_task(settings, sources[task])
        timing = time_task(first[task], where, KINDS, cfg.scale.table1)
        rows.append(with_needed(timing, records))
    found = [f for row in rows for f in findings(row, cfg.scale.name)]
    return Result(draw(rows), [line for row in rows for line in table(row)], found)


def table(row: Row) -> list[dict[str, Any]]:
    """List the costs of each kind of spectrum beside the paper's row.

    Args:
        row: A task.

    Returns:
        Rows; the paper's numbers stand beside its own kind of spectrum.
    """
    timing, printed = row.timing, row.printed
    lines = []
    for kind in KINDS:
        cost, own = row.cost(kind), kind == PAPERS_KIND
        needed, fraction = mean_and_deviation(row.needed), mean_and_deviation(row.fractions(kind))
        line: dict[str, Any] = {"task": timing.task, "exponents": timing.exponents[kind]}
        line |= {"interval": kind.interval, "unit": printed.unit}
        line |= {"cost": cost.median, "cost_low": cost.low, "cost_high": cost.high}
        line |= {"needed": needed[0], "needed_std": needed[1], "networks": len(row.needed)}
        line |= {"fraction": fraction[0], "fraction_std": fraction[1]}
        for name in ("needed", "cost", "fraction"):
            value, deviation = getattr(printed, name) if own else ("", "")
            line |= {f"paper_{name}": value, f"paper_{name}_std": deviation}
        line |= {"steps_per_spectrum": statistics.median(timing.in_steps(kind))}
        line |= {"seconds_per_step": statistics.median(timing.steps)}
        line |= {"seconds_per_spectrum": statistics.median(timing.spectra[kind])}
        line |= {"steps_per_epoch": timing.steps_per_epoch, "rounds": len(timing.steps)}
        lines.append(line | {"size": timing.size, "data": timing.data, "device": timing.device})
    return lines


def findings(row: Row, scale: str) -> list[Finding]:
    """Compare a row with the paper's.

    Args:
        row: A task.
        scale: Name of the scale.

    Returns:
        Findings: the cost in units of training, and the fraction of training.
    """
    timing, printed, cost = row.timing, row.printed, row.cost(PAPERS_KIND)
    name, unit = TASK_NAMES[timing.task], printed.unit
    where = f"{scale}, {timing.data} data; {timing.size}; {timing.device}"
    cheaper = ", ".join(
        f"{row.cost(kind).median:.3g} with {describe(kind)}"
        for kind in KINDS
        if kind != PAPERS_KIND
    )
    said = (
        f"{cost.median:.3g} {unit} [{cost.low:.3g}, {cost.high:.3g}] (median, lowest and highest "
        f"of {len(timing.steps)} rounds), {compare(cost.median, printed.cost[0])} the paper's; "
        f"{cheaper}"
    )
    fraction, verdict = judge_fraction(row)
    return [
        Finding(
            "Table 1",
            f"{name}: a spectrum takes the time of {printed.cost[0]:g} {unit} of training.",
            said,
            judge(cost.low, cost.high, printed.cost[0]),
            scale=where,
        ),
        Finding(
            "Table 1",
            f"{name}: a spectrum takes {printed.fraction[0]:.0%} of the training it takes to reach "
            "the lowest validation loss.",
            fraction,
            verdict,
            scale=where,
        ),
    ]


def judge_fraction(row: Row) -> tuple[str, Verdict]:
    """Compare the fraction of training with the paper's.

    Args:
        row: A task.

    Returns:
        What came out, and the verdict.
    """
    printed, cost, count = row.printed, row.cost(PAPERS_KIND), len(row.needed)
    if not count:
        part = cost.median / printed.needed[0]
        said = (
            f"not known: no network of {row.timing.task} was found trained to its end, so how many "
            f"{printed.unit} are needed is missing; of the {printed.needed[0]:g} of the paper it "
            f"would be {part:.2%}"
        )
        return said, "undecided"
    fractions = np.array(row.fractions(PAPERS_KIND))
    low, high = interval(fractions)
    low, high = low * cost.low / cost.median, high * cost.high / cost.median
    verdict = judge(low, high, printed.fraction[0])
    said = (
        f"{fractions.mean():.2%} [{low:.2%}, {high:.2%}], "
        f"{compare(fractions.mean(), printed.fraction[0])} the paper's; lowest loss after "
        f"{plus_minus(row.needed)} {printed.unit} (n = {count}; at the last epoch in {row.at_end}; "
        f"the paper's: {printed.needed[0]:g} ± {printed.needed[1]:g})"
    )
    return said, verdict


def plus_minus(values: Sequence[float]) -> str:
    """Write mean and standard deviation."""
    mean, deviation = mean_and_deviation(values)
    return f"{mean:.4g}" + (f" ± {deviation:.4g}" if deviation != "" else "")


def judge(low: float, high: float, printed: float) -> Verdict:
    """Judge whether an interval agrees with a number of the paper: within a factor of two.

    Args:
        low: Lower end.
        high: Upper end.
        printed: The paper's number.

    Returns:
        Yes if all of the interval does, no if none, else undecided.

    Example:
        >>> judge(0.6, 0.9, 1.0), judge(0.1, 0.2, 1.0), judge(0.4, 0.6, 1.0)
        ('yes', 'no', 'undecided')
    """
    least, most = printed / FACTOR, printed * FACTOR
    if least <= low and high <= most:
        return "yes"
    return "no" if high < least or low > most else "undecided"


def compare(value: float, printed: float) -> str:
    """Say in words how a cost compares with the paper's.

    Args:
        value: The cost.
        printed: The paper's.

    Returns:
        Words that go before "the paper's".

    Example:
        >>> compare(0.05, 1.0), compare(0.8, 1.0), compare(3.0, 1.0)
        ('20 times cheaper than', 'equal within a factor of two to', '3 times more than')
    """
    if value < printed / FACTOR:
        return f"{printed / value:.2g} times cheaper than"
    if value > printed * FACTOR:
        return f"{value / printed:.2g} times more than"
    return "equal within a factor of two to"


def describe(kind: Kind) -> str:
    """Say which exponents at which interval.

    Args:
        kind: A kind of spectrum.

    Returns:
        Text.

    Example:
        >>> describe(Kind("auto", 32))
        'the leading 32, interval auto'
    """
    count = "all exponents" if kind.leading is None else f"the leading {kind.leading}"
    return f"{count}, interval {kind.interval}"


def draw(rows: Sequence[Row]) -> Any:
    """Draw the costs of each task as points, the paper's as a mark.

    Args:
        rows: The tasks.

    Returns:
        A figure.
    """
    figure = new_figure(4.6 * len(rows) + 0.4, 2.8)
    grid = figure.subplots(1, len(rows), squeeze=False, sharey=True)[0]
    letter(list(grid))
    for ax, row in zip(grid, rows, strict=True):
        costs = [row.cost(kind) for kind in KINDS]
        values = [cost.median for cost in costs]
        ends = [[c.median - c.low for c in costs], [c.high - c.median for c in costs]]
        ax.errorbar(values, range(len(KINDS)), xerr=ends, fmt="o", capsize=3, label="here")
        for place, value in enumerate(values):
            ax.annotate(
                f"{value:.2g}", (value, place), (0, 6), textcoords="offset points", ha="center"
            )
        paper, deviation = row.printed.cost
        ax.errorbar([paper], [0], xerr=[deviation], fmt="D", color="C3", label="the paper")
        ax.annotate(f"{paper:g}", (paper, 0), (0, 6), textcoords="offset points", ha="center")
        ax.set(xscale="log", xlabel=f"a spectrum in {row.printed.unit} of training")
        ax.set_yticks(range(len(KINDS)), [describe(kind) for kind in KINDS])
        ax.set_ylim(len(KINDS) - 0.5, -0.7)
        ax.margins(x=0.15)
        finish(ax, TASK_NAMES[row.timing.task])
    marks, labels = grid[0].get_legend_handles_labels()
    figure.legend(marks, labels, loc="outside upper center", ncols=2, frameon=False)
    return figure


FIGURE = Figure("table1", of_tasks, make, trains=False)

if __name__ == "__main__":
    main(FIGURE)
