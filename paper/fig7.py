"""Fig. 7: all statistics of the spectra against the loss, both tasks.

``python -m paper.fig7 [scale=paper] [data_dir=PATH]``, with the networks of Fig. 4. A statistic
that is the same in all networks of a task is left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig

from lightning_lyap.sweeps.comparison import Comparison, Correlations
from lightning_lyap.sweeps.correlation import associate
from lightning_lyap.sweeps.plots import draw_statistic
from lightning_lyap.sweeps.report import format_association
from paper.claims import positive
from paper.command import Figure, Finding, Result, main
from paper.drawing import LOSS_NAMES, TASK_NAMES, new_figure
from paper.fig4 import SHOWN, compare_best, stronger_by
from paper.networks import of_tasks
from paper.records import Record

COLUMNS = 2  # of statistics, for each task
OTHER = {"charrnn": "mean", "mocap": "max"}


def make(records: Sequence[Record], cfg: DictConfig) -> Result:
    """Make Fig. 7.

    Args:
        records: The networks.
        cfg: Settings of the command.

    Returns:
        The figure; the table holds the correlations.

    Raises:
        ValueError: If no task has enough networks.
    """
    comparisons = compare_best(records, cfg.tasks)
    rows = [correlations(task, row) for task, c in comparisons.items() for row in c.rows]
    found = [finding(task, c) for task, c in comparisons.items()]
    return Result(draw(comparisons), rows, found)


def correlations(task: str, row: Correlations) -> dict[str, Any]:
    """List the correlations of a statistic with the lowest loss.

    Args:
        task: The task.
        row: Of its comparison.

    Returns:
        A row of the table; ends of 95 % bootstrap intervals beside each coefficient.
    """
    line: dict[str, Any] = {"task": task, "statistic": row.name, "networks": row.num_runs}
    for name, association in (("spearman", row.spearman), ("pearson", row.pearson)):
        low, high = association.interval or ("", "")
        value = "" if association.value is None else association.value
        line |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return line


def finding(task: str, comparison: Comparison) -> Finding:
    """Test that tasks differ in what goes with the loss (Section 5.4).

    Args:
        task: The task.
        comparison: Its networks.

    Returns:
        Whether the paper's statistic of the task is closest to the loss, and which one is.
    """
    told = SHOWN[task]
    rows = {row.name: row for row in comparison.rows if row.spearman.value is not None}
    ordered = sorted(rows.values(), key=lambda row: -abs(row.spearman.value or 0))
    statistics = [subject.statistics() for subject in comparison.runs]
    loss = [subject.best_loss for subject in comparison.runs]
    own, other = ([line[name] for line in statistics] for name in (told, OTHER[task]))
    more = associate(stronger_by, own, other, loss)
    best = "; ".join(f"{row.name} {format_association(row.spearman)}" for row in ordered[:3])
    return Finding(
        "Fig. 7",
        f"{TASK_NAMES[task]}: of maximum and mean, the {told} goes more with the loss.",
        f"|Spearman| larger by {format_association(more)}, n = {len(loss)}; the strongest of all "
        f"statistics: {best}",
        positive(more),
        task,
    )


def draw(comparisons: Mapping[str, Comparison]) -> Any:
    """Draw all statistics, each task on its own side, as in the paper.

    Args:
        comparisons: By task.

    Returns:
        A figure.
    """
    shown = {
        task: [row.name for row in c.rows if row.spearman.value is not None and is_shown(row.name)]
        for task, c in comparisons.items()
    }
    high = max(-(-len(names) // COLUMNS) for names in shown.values())
    figure = new_figure(6.4 * len(shown), 2.3 * high + 0.4)
    parts = figure.subfigures(1, len(shown), squeeze=False, wspace=0.03)[0]
    for part, (task, names) in zip(parts, shown.items(), strict=True):
        grid = part.subplots(high, COLUMNS, squeeze=False, sharey=True)
        for ax, name in zip(grid.flat, names, strict=False):
            draw_statistic(ax, comparisons[task], name)
            ax.xaxis.label.set_fontsize("small")
        for ax in list(grid.flat)[len(names) :]:
            ax.remove()
        count = len(comparisons[task].runs)
        part.suptitle(
            f"{TASK_NAMES[task]}, {count} networks: Spearman's correlation [95 % interval]",
            fontsize="medium",
        )
        part.supylabel(LOSS_NAMES[task], fontsize="medium")
    return figure


def is_shown(name: str) -> bool:
    """Tell whether a statistic is drawn: not those with the exponents lost in noise."""
    return not name.endswith("_all")


FIGURE = Figure("fig7", of_tasks, make)

if __name__ == "__main__":
    main(FIGURE)
