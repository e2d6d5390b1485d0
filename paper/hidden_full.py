"""Beyond the paper: does the loss follow the spectrum of h alone, or that of (h, c)?

``python -m paper.hidden_full [scale=paper] [data_dir=PATH]``, with the networks of Fig. 4, each at
the epoch of its lowest validation loss, measured in both ways on the same sequences. The paper
linearizes h with c held fixed (B.1) and names the full state as an open point (Section 6).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig

from lightning_lyap.sweeps.comparison import MIN_RUNS, Comparison, compare_runs
from lightning_lyap.sweeps.correlation import associate, spearman
from lightning_lyap.sweeps.plots import draw_statistic
from lightning_lyap.sweeps.report import format_association
from paper.claims import positive
from paper.command import Figure, Finding, Result, main
from paper.drawing import LOSS_NAMES, TASK_NAMES, letter, new_figure
from paper.fig4 import stronger_by
from paper.networks import of_tasks
from paper.records import Record, complete

STATES = {"hidden": "hidden state $h$", "full": "full state $(h, c)$"}
STATISTICS = ("max", "mean")
Pair = Mapping[str, Comparison]


def compare_states(records: Sequence[Record], tasks: Sequence[str]) -> dict[str, Pair]:
    """Compare the networks that were measured in both ways.

    Args:
        records: Networks.
        tasks: Tasks in order.

    Returns:
        Comparisons by task and state, of the same networks.

    Raises:
        ValueError: If no task has enough.
    """
    pairs: dict[str, Pair] = {}
    for task in tasks:
        both = [
            record
            for record in complete(records, task)
            if all(record.best_spectrum(state) is not None for state in STATES)
        ]
        if len(both) >= MIN_RUNS:
            pairs[task] = {
                state: compare_runs([record.run_at_best(state) for record in both])
                for state in STATES
            }
    if not pairs:
        raise ValueError(
            f"Expected at least {MIN_RUNS} networks of a task with hidden and full spectra, but "
            "got fewer. Train them to the end, with full=true."
        )
    return pairs


def make(records: Sequence[Record], cfg: DictConfig) -> Result:
    """Make the comparison.

    Args:
        records: The networks.
        cfg: Settings of the command.

    Returns:
        The figure.

    Raises:
        ValueError: If no task has enough networks.
    """
    pairs = compare_states(records, cfg.tasks)
    rows = [row for task, pair in pairs.items() for row in table(task, pair)]
    found = [finding(task, pair, name) for task, pair in pairs.items() for name in STATISTICS]
    return Result(draw(pairs), rows, found)


def table(task: str, pair: Pair) -> list[dict[str, Any]]:
    """List the networks with the statistics of both spectra.

    Args:
        task: The task.
        pair: Comparisons by state.

    Returns:
        A row for each network.
    """
    rows = []
    for hidden, full in zip(pair["hidden"].runs, pair["full"].runs, strict=True):
        row: dict[str, Any] = {"network": hidden.name, "task": task, "best_epoch": hidden.epoch}
        row["loss"] = hidden.best_loss
        for state, subject in (("hidden", hidden), ("full", full)):
            values = subject.statistics()
            row |= {f"{state}_{name}": values[name] for name in (*STATISTICS, "variance")}
        rows.append(row)
    return rows


def finding(task: str, pair: Pair, name: str) -> Finding:
    """Say which spectrum's statistic the loss follows more.

    Args:
        task: The task.
        pair: Comparisons by state.
        name: The statistic.

    Returns:
        The finding; its claim is that the hidden spectrum tells more.
    """
    values = {
        state: [subject.statistics()[name] for subject in comparison.runs]
        for state, comparison in pair.items()
    }
    loss = [subject.best_loss for subject in pair["hidden"].runs]
    said = ", ".join(
        f"{state} {format_association(associate(spearman, x, loss))}" for state, x in values.items()
    )
    more = associate(stronger_by, values["hidden"], values["full"], loss)
    return Finding(
        "Beyond",
        f"{TASK_NAMES[task]}: the loss follows the {name} exponent of the hidden spectrum more "
        "than that of the full one.",
        f"Spearman's correlation with the loss: {said}; |hidden| larger by "
        f"{format_association(more)}, n = {len(loss)}",
        positive(more),
        task,
    )


def draw(pairs: Mapping[str, Pair]) -> Any:
    """Draw maximum and mean of both spectra against the loss.

    Args:
        pairs: Comparisons by task and state.

    Returns:
        A figure.
    """
    figure = new_figure(12.0, 2.9 * len(pairs))
    grid = figure.subplots(len(pairs), len(STATES) * len(STATISTICS), squeeze=False, sharey="row")
    letter(list(grid.flat))
    for line, (task, pair) in zip(grid, pairs.items(), strict=True):
        panels = [(state, name) for name in STATISTICS for state in STATES]
        for ax, (state, name) in zip(line, panels, strict=True):
            draw_statistic(ax, pair[state], name)
            ax.set_xlabel(f"{ax.get_xlabel()}\n{STATES[state]}", fontsize="small")
        count = len(pair["hidden"].runs)
        line[0].set_ylabel(f"{TASK_NAMES[task]}, {count} networks\n{LOSS_NAMES[task]}", fontsize=8)
    figure.suptitle("Spearman's correlation [95 % interval]", fontsize="medium")
    return figure


FIGURE = Figure("hidden_full", of_tasks, make)

if __name__ == "__main__":
    main(FIGURE)
