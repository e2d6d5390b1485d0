"""Trains the networks of several figures in one queue.

``python -m paper.compute figures=[fig3,fig4] scale=paper data_dir=PATH``. The networks of the first
figure come first. With ``deadline=SECONDS`` it stops in time and goes on at the next call; with
``jobs=N`` it trains N networks at a time. The figures' own commands then find what they need, and
``python -m paper.collect`` packs it.
"""

import sys
from importlib import import_module

from omegaconf import DictConfig

from paper.command import Figure, compute, run


def figure_of(name: str) -> Figure:
    """Find a figure.

    Args:
        name: Of its command.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no such figure.
    """
    try:
        figure: Figure = import_module(f"paper.{name}").FIGURE
    except (ModuleNotFoundError, AttributeError):
        raise ValueError(
            f"Expected `figures` to be names of figures, such as fig3, but got {name!r}."
        ) from None
    return figure


def train_networks(cfg: DictConfig) -> None:
    """Train them, and measure them for the figures that need it.

    Args:
        cfg: Settings of the command.

    Raises:
        SystemExit: If networks failed, after the others are done.
    """
    figures = [figure_of(name) for name in cfg.figures]
    _, failures = compute(figures, cfg)
    if failures:
        sys.exit("\n".join([f"{len(failures)} networks failed:", *failures]))


if __name__ == "__main__":
    run(train_networks)
