"""Fig. 4: spectra of trained networks, and what of them goes with the loss (both tasks).

``python -m paper.fig4 [scale=paper] [data_dir=PATH] [tasks=[mocap]]``. CharRNN over random dropout
and learning rate, CMU Mocap over the initialization parameter; each network at the epoch of its
lowest validation loss (A.1). Where the paper colors six networks chosen by eye, all are colored by
their loss here. A command that was stopped goes on where it was; networks come in a fixed order.
"""

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike
from omegaconf import DictConfig

from lightning_lyap.sweeps.comparison import MIN_RUNS, Comparison, compare_runs
from lightning_lyap.sweeps.correlation import associate, spearman
from lightning_lyap.sweeps.plots import draw_spectra, draw_statistic
from lightning_lyap.sweeps.report import format_association
from paper.claims import positive
from paper.command import Figure, Finding, Result, main
from paper.drawing import LOSS_NAMES, TASK_NAMES, letter, new_figure
from paper.networks import of_tasks
from paper.records import Record, complete

SHOWN = {"charrnn": "max", "mocap": "mean"}  # Fig. 4 (b), (d)
PANELS = {"charrnn": "Fig. 4b", "mocap": "Fig. 4d"}
CLAIMS = {
    "charrnn": "Networks with a maximum exponent closer to zero have a lower validation loss.",
    "mocap": "Networks with a larger mean exponent have a lower validation loss.",
}
SHAPES = {
    "charrnn": "The gross shape (mean exponent) goes less with the loss than the maximum.",
    "mocap": "The gross shape (mean exponent) goes more with the loss than the maximum.",
}


def compare_best(records: Sequence[Record], tasks: Sequence[str]) -> dict[str, Comparison]:
    """Compare the networks of each task at the epochs of their lowest losses.

    Args:
        records: Networks.
        tasks: Tasks in order.

    Returns:
        Comparisons of the tasks that have enough networks.

    Raises:
        ValueError: If none has.
    """
    found = {task: complete(records, task) for task in tasks}
    enough = {task: group for task, group in found.items() if len(group) >= MIN_RUNS}
    if not enough:
        counts = ", ".join(f"{len(group)} of {task}" for task, group in found.items())
        raise ValueError(
            f"Expected at least {MIN_RUNS} networks of a task, trained to the end, but got "
            f"{counts}. Call again without a deadline, or with a later one, to train more."
        )
    return {task: compare_runs([r.run_at_best() for r in group]) for task, group in enough.items()}


def table(comparison: Comparison, records: Sequence[Record]) -> list[dict[str, Any]]:
    """List the networks of a comparison.

    Args:
        comparison: The comparison.
        records: Networks, those of the comparison among them.

    Returns:
        A row for each: what it is, its losses, the statistics of its spectrum.
    """
    by_name = {record.name: record for record in records}
    rows = []
    for subject in comparison.runs:
        record = by_name[subject.name]
        row: dict[str, Any] = {"network": subject.name, "task": record.task}
        row |= {name: record.facts.get(name, "") for name in ("init_p", "dropout", "lr")}
        row |= {"epochs": record.epochs, "best_epoch": subject.epoch, "loss": subject.best_loss}
        rows.append(row | subject.statistics())
    return rows


def make(records: Sequence[Record], cfg: DictConfig) -> Result:
    """Make Fig. 4.

    Args:
        records: The networks.
        cfg: Settings of the command.

    Returns:
        The figure.

    Raises:
        ValueError: If no task has enough networks.
    """
    comparisons = compare_best(records, cfg.tasks)
    rows = [row for c in comparisons.values() for row in table(c, records)]
    found = [finding for task, c in comparisons.items() for finding in findings(task, c)]
    return Result(draw(comparisons), rows, found)


def findings(task: str, comparison: Comparison) -> list[Finding]:
    """Test the claims of Section 5.4.

    Args:
        task: The task.
        comparison: Its networks.

    Returns:
        Findings.
    """
    values = [subject.statistics() for subject in comparison.runs]
    loss = [subject.best_loss for subject in comparison.runs]
    top, mean = ([row[name] for row in values] for name in ("max", "mean"))
    count = len(loss)
    # Signs such that the claim is a positive coefficient.
    quality, told = [-value for value in loss], SHOWN[task]
    near = [-abs(value) for value in top] if told == "max" else mean
    along = associate(spearman, near, quality)
    stronger, weaker = (top, mean) if told == "max" else (mean, top)
    more = associate(stronger_by, stronger, weaker, loss)
    words = "-|max|" if told == "max" else "mean"
    return [
        Finding(
            PANELS[task],
            CLAIMS[task],
            f"Spearman's correlation of {words} with -loss: {format_association(along)}, "
            f"n = {count}",
            positive(along),
            task,
        ),
        Finding(
            "Section 5.4",
            SHAPES[task],
            f"|Spearman| of {told} with the loss exceeds that of the other by "
            f"{format_association(more)}, n = {count}",
            positive(more),
            task,
        ),
    ]


def stronger_by(x: ArrayLike, y: ArrayLike, loss: ArrayLike) -> Any:
    """Compute by how much more x goes with the loss than y, whatever the signs.

    Args:
        x: ``[..., n]``.
        y: ``[..., n]``.
        loss: ``[..., n]``.

    Returns:
        Difference of the absolute rank correlations, ``[...]``.
    """
    return abs(spearman(x, loss)) - abs(spearman(y, loss))


def draw(comparisons: dict[str, Comparison]) -> Any:
    """Draw spectra and a statistic of each task.

    Args:
        comparisons: By task.

    Returns:
        A figure.
    """
    figure = new_figure(9.0, 3.4 * len(comparisons))
    grid = figure.subplots(len(comparisons), 2, squeeze=False)
    letter(list(grid.flat))
    for (left, right), (task, comparison) in zip(grid, comparisons.items(), strict=True):
        draw_spectra(left, comparison, "validation loss")
        left.set_title(f"{TASK_NAMES[task]}, {len(comparison.runs)} networks", fontsize="small")
        draw_statistic(right, comparison, SHOWN[task])
        caption = right.get_title()
        right.set_title(f"Spearman {caption}", fontsize="small")
        right.set_ylabel(LOSS_NAMES[task])
    return figure


FIGURE = Figure("fig4", of_tasks, make)

if __name__ == "__main__":
    main(FIGURE)
