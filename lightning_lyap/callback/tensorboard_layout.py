"""The few charts a reader of TensorBoard sees first: its CUSTOM SCALARS dashboard.

Of all keys below ``lyapunov/`` the dashboard shows a handful: the exponents beside the validation
loss, and in a second category what was counted and what it cost. The layout is plain data, in the
form that `SummaryWriter.add_custom_scalars` of torch and tensorboardX takes; in it tags are regular
expressions that match from the start.

The 95 % interval of the largest exponent is a curve of its own, not a band: TensorBoard's margin
charts take lower and upper ends that are tags, and what is logged is the half-width.

TensorBoard keeps one layout a run, the last that was written, and joins those of several runs by
their categories. So nothing is written into a run that has a layout, of an earlier fit or of the
user's; one that the user writes later takes this one's place.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from lightning_lyap.callback.loggers import layout_way

Charts = dict[str, list[Any]]
Layout = dict[str, Charts]
LAYOUT_TAG = b"custom_scalars__config__"
EVENT_FILES = "events.out.tfevents.*"
# The word loss and a word for validation, in any order and case: `val_loss`, `loss/valid_epoch`,
# `Validation Loss`, `valLoss`, `eval/lm_loss/dataloader_idx_1`; no `interval_loss`. Neither values
# by batch, which have steps of their own, nor the lowest so far.
VALIDATION_LOSS = (
    r"(?=.*(?<![A-Za-z])(?i:val|valid|validation|eval|dev)(?![a-z]))(?=.*(?i:loss))"
    r"(?!.*_(?:step|best)\b)"
)


def scalar_layout(modules_by_name: Mapping[str, Sequence[str]]) -> Layout:
    """Choose the charts for one or several callbacks.

    Args:
        modules_by_name: Names of the recurrent modules by the prefix of their tags.

    Returns:
        Charts by title, by category: one category for the exponents of each module, and one for
        counts and cost for each prefix.
    """
    layout: Layout = {}
    for name, modules in modules_by_name.items():
        infixes = [f"{module}/" for module in modules] if len(modules) > 1 else [""]
        for infix in infixes:
            layout[f"{name}/{infix}".rstrip("/")] = _exponents(f"{name}/{infix}")
        layout[f"{name}: counts and cost"] = _counts_and_cost(name, infixes)
    return layout


def lay_out_scalars(loggers: Iterable[Any], layout: Layout) -> None:
    """Send a layout to every logger that takes one as TensorBoard's does, once a run.

    Args:
        loggers: Lightning loggers, on rank zero.
        layout: What `scalar_layout` returned.
    """
    for logger in loggers:
        send = layout_way(logger)
        if send is not None and not _has_layout(logger):
            send(layout)


def _exponents(prefix: str) -> Charts:
    """Return the charts of one module by title, from the prefix of its tags with its slash."""
    return {
        "exponents: largest, mean, smallest (nats per step)": _lines(
            prefix + "max", prefix + "mean", prefix + "min"
        ),
        "validation loss": ["Multiline", [VALIDATION_LOSS]],
        "largest exponent, and half-width of its 95 % interval": _lines(
            prefix + "max", prefix + "max_margin"
        ),
    }


def _counts_and_cost(name: str, infixes: Sequence[str]) -> Charts:
    """Return the charts of counts for each module, and of the cost of all, by title."""
    return {
        "number of positive exponents": _lines(*(f"{name}/{i}num_positive" for i in infixes)),
        "number of exponents unresolved, and not settled": _lines(
            *(f"{name}/{i}{key}" for i in infixes for key in ("num_unresolved", "num_unsettled"))
        ),
        "seconds per measurement": _lines(f"{name}/seconds"),
        "fraction of the time of training": _lines(f"{name}/epoch_fraction"),
    }


def _lines(*tags: str) -> list[Any]:
    """Describe a chart with a line for each of some tags, and no other."""
    return ["Multiline", [f"{re.escape(tag)}$" for tag in tags]]


def _has_layout(logger: Any) -> bool:
    """Return whether an event file in a logger's folder has a layout."""
    folder = getattr(logger, "log_dir", None)
    if not isinstance(folder, str | PathLike):
        return False
    # Event files are not compressed: the layout's tag stands in them as it is.
    logger.experiment.flush()
    return any(_contains(path, LAYOUT_TAG) for path in Path(folder).glob(EVENT_FILES))


def _contains(path: Path, mark: bytes) -> bool:
    """Return whether a file holds some bytes, without a line break among them."""
    with path.open("rb") as file:
        return any(mark in line for line in file)
