"""Sections 5.4 and 6: what the spectra of early epochs tell about the final loss.

``python -m paper.readout [scale=paper] [data_dir=PATH]``, with the networks of Fig. 4. For every
epoch e: the rank correlation of each statistic at e with the lowest loss of the whole run, beside
that of the validation loss at e, which costs nothing, and what the statistic adds to the latter
(partial rank correlation).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from omegaconf import DictConfig

from lightning_lyap.plotting.canvas import finish
from lightning_lyap.sweeps.comparison import MIN_RUNS, Comparison, Correlations, compare_runs
from lightning_lyap.sweeps.correlation import Association
from lightning_lyap.sweeps.report import format_association
from paper.claims import Verdict, negative, positive
from paper.command import Figure, Finding, Result, main
from paper.drawing import TASK_NAMES, letter, new_figure
from paper.fig4 import SHOWN
from paper.networks import of_tasks
from paper.records import Record, complete

DRAWN = {"max": "C0", "mean": "C1", "variance": "C2"}
NEAR = 0.1  # of the way from the first epoch to the last
RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class Readout:
    """Correlations with the lowest loss by epoch.

    Attributes:
        task: The task.
        records: Its networks.
        comparisons: By epochs completed, 1 and later.
    """

    task: str
    records: Sequence[Record]
    comparisons: dict[float, Comparison]

    @property
    def early(self) -> float:
        """The first epoch after a tenth of the training, or the first measured after it."""
        last = max(self.comparisons)
        return min(epoch for epoch in self.comparisons if epoch >= 0.1 * last)

    def row(self, epoch: float, name: str) -> Correlations | None:
        """Return the row of a statistic at an epoch; None where it is the same in all networks."""
        rows = self.comparisons[epoch].rows
        return next((row for row in rows if row.name == name), None)


def read_out(task: str, records: Sequence[Record]) -> Readout:
    """Compare networks at every epoch at which all of them were measured.

    Args:
        task: The task.
        records: Its networks.

    Returns:
        Correlations by epoch.
    """
    shared = set.intersection(*(set(r.history.epochs) & set(r.losses) for r in records))
    runs = [record.run() for record in records]
    return Readout(
        task,
        records,
        {
            epoch: compare_runs(runs, epoch=epoch, early_epoch=epoch, num_resamples=RESAMPLES)
            for epoch in sorted(shared)
        },
    )


def make(records: Sequence[Record], cfg: DictConfig) -> Result:
    """Make the readout.

    Args:
        records: The networks.
        cfg: Settings of the command.

    Returns:
        The figure; the table holds all correlations.

    Raises:
        ValueError: If no task has enough networks.
    """
    groups = {task: complete(records, task) for task in cfg.tasks}
    readouts = [read_out(t, group) for t, group in groups.items() if len(group) >= MIN_RUNS]
    if not readouts:
        raise ValueError(
            f"Expected at least {MIN_RUNS} networks of a task, trained to the end, but got "
            f"{ {task: len(group) for task, group in groups.items()} }. Train more."
        )
    rows = [row for readout in readouts for row in table(readout)]
    return Result(draw(readouts), rows, [f for readout in readouts for f in findings(readout)])


def table(readout: Readout) -> list[dict[str, Any]]:
    """List all correlations of a task.

    Args:
        readout: The task.

    Returns:
        A row for each epoch and statistic, the validation loss at the epoch among them.
    """
    return [
        {
            "task": readout.task,
            "epoch": epoch,
            "quantity": "validation loss" if row is comparison.baseline else row.name,
            "networks": row.num_runs,
            **columns("spearman", row.spearman),
            **columns("given_loss", row.given_early_loss),
        }
        for epoch, comparison in readout.comparisons.items()
        for row in (*comparison.rows, comparison.baseline)
    ]


def columns(name: str, association: Association | None) -> dict[str, Any]:
    """Set a coefficient and its interval as three columns, empty where not defined.

    Args:
        name: Of the first column.
        association: The coefficient, or None.

    Returns:
        Values by column.
    """
    known = association is not None and association.value is not None
    low, high = (association.interval if known and association else None) or ("", "")
    value = association.value if known and association else ""
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def findings(readout: Readout) -> list[Finding]:
    """Test the claims of Sections 5.4 and 6.

    Args:
        readout: A task.

    Returns:
        Findings.
    """
    task, told, epoch = readout.task, SHOWN[readout.task], readout.early
    comparison, row = readout.comparisons[epoch], readout.row(epoch, told)
    nothing = Association(None, None)
    along = nothing if row is None else row.spearman
    beyond = (None if row is None else row.given_early_loss) or nothing
    last, count = max(readout.comparisons), len(comparison.runs)
    where = f"epoch {epoch:g} of {last:g}, n = {count}"
    return [
        Finding(
            "Section 5.4",
            f"{TASK_NAMES[task]}: the {told} exponent early in training tells the final loss.",
            f"{where}: Spearman's correlation with the lowest loss {format_association(along)}; "
            f"that of the validation loss at the same epoch "
            f"{format_association(comparison.baseline.spearman)}",
            negative(along),
            task,
        ),
        Finding(
            "Section 6",
            f"{TASK_NAMES[task]}: it adds to what the validation loss of that epoch tells.",
            f"{where}: partial rank correlation given that loss {format_association(beyond)}",
            _excludes_zero(beyond),
            task,
        ),
        slower(readout),
    ]


def _excludes_zero(association: Association) -> Verdict:
    """Say yes if an interval excludes zero; that it does not is no proof of nothing."""
    return "undecided" if positive(association) == "undecided" else "yes"


def slower(readout: Readout) -> Finding:
    """Test that the maximum converges more slowly than the mean (Section 6).

    Args:
        readout: A task.

    Returns:
        The finding, from the epochs after which each stays near its last value.
    """
    means = [converged(record, "mean") for record in readout.records]
    tops = [converged(record, "max") for record in readout.records]
    later = sum(top > mean for top, mean in zip(tops, means, strict=True))
    sooner = sum(top < mean for top, mean in zip(tops, means, strict=True))
    chance = sign_test(later, sooner)
    decided: Verdict = "yes" if later > sooner else "no"
    return Finding(
        "Section 6",
        f"{TASK_NAMES[readout.task]}: the mean converges quickly, the maximum more slowly.",
        f"within {NEAR:.0%} of the last value (of the range since before training) after "
        f"{np.median(means):g} epochs (mean) and {np.median(tops):g} (maximum), medians; the "
        f"maximum later in {later} networks, sooner in {sooner} (sign test p = {chance:.2g})",
        decided if chance < 0.05 else "undecided",
        readout.task,
    )


def converged(record: Record, name: str) -> float:
    """Find the epoch from which a statistic stays near its last value.

    Args:
        record: A network.
        name: The statistic.

    Returns:
        Epochs.
    """
    scalars = [spectrum.measures().scalars()[name] for spectrum in record.history.spectra]
    values = np.asarray(scalars)
    far = np.flatnonzero(np.abs(values - values[-1]) > NEAR * np.ptp(values))
    return record.history.epochs[far[-1] + 1] if far.size else record.history.epochs[0]


def sign_test(more: int, less: int) -> float:
    """Compute the two-sided probability of such a split, or a more uneven one, by chance.

    Args:
        more: Cases of one kind.
        less: Cases of the other.

    Returns:
        A probability.

    Example:
        >>> sign_test(5, 0)
        0.0625
    """
    count = more + less
    tail = sum(math.comb(count, k) for k in range(min(more, less) + 1)) / 2**count
    return min(1.0, 2 * tail)


def draw(readouts: Sequence[Readout]) -> Any:
    """Draw correlations by epoch: with the lowest loss, and given the loss at the epoch.

    Args:
        readouts: The tasks.

    Returns:
        A figure.
    """
    figure = new_figure(9.0, 3.2 * len(readouts) + 0.4)
    grid = figure.subplots(len(readouts), 2, squeeze=False, sharey=True)
    letter(list(grid.flat))
    for (left, right), readout in zip(grid, readouts, strict=True):
        for name, color in DRAWN.items():
            rows = {epoch: readout.row(epoch, name) for epoch in readout.comparisons}
            known = {epoch: row for epoch, row in rows.items() if row is not None}
            curve(left, {epoch: row.spearman for epoch, row in known.items()}, name, color)
            partial = {epoch: row.given_early_loss for epoch, row in known.items()}
            curve(right, partial, name, color)
        right.set_xlim(left.get_xlim())
        if not right.get_lines():
            words = "not defined: the validation loss orders\nthe networks as the lowest loss does"
            right.text(0.5, 0.6, words, ha="center", fontsize="small", transform=right.transAxes)
        baseline = {e: c.baseline.spearman for e, c in readout.comparisons.items()}
        curve(left, baseline, "validation loss at the epoch", "k")
        count = len(readout.records)
        finish(left, f"{TASK_NAMES[readout.task]}, {count} networks")
        finish(right, "given the validation loss at the epoch")
        left.set_ylabel("rank correlation with\nthe lowest loss of the run")
        right.set_ylabel("partial rank correlation")
        for ax in (left, right):
            ax.axhline(0, color="0.6", linewidth=0.8)
            ax.set(xlabel="epoch of spectrum and loss", ylim=(-1.05, 1.05))
            ax.xaxis.get_major_locator().set_params(integer=True)
    lines, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside upper center", ncols=len(lines), frameon=False)
    return figure


def curve(ax: Any, by_epoch: Mapping[float, Association | None], name: str, color: str) -> None:
    """Draw a coefficient by epoch with its 95 % interval.

    Args:
        ax: Axes.
        by_epoch: Coefficients; what is not defined is left out.
        name: For the legend.
        color: Of line and band.
    """
    known = {e: a for e, a in by_epoch.items() if a is not None and a.value is not None}
    if not known:
        return
    values = [a.value for a in known.values()]
    ax.plot(list(known), values, color=color, marker="o", markersize=2.5, linewidth=1.3, label=name)
    sure = {e: a.interval for e, a in known.items() if a.interval is not None}
    low, high = ([ends[side] for ends in sure.values()] for side in (0, 1))
    ax.fill_between(list(sure), low, high, color=color, alpha=0.12, linewidth=0)


FIGURE = Figure("readout", of_tasks, make)

if __name__ == "__main__":
    main(FIGURE)
