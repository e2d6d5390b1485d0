"""Fig. 3: spectra over training, for several initialization parameters (CharRNN).

``python -m paper.fig3 [scale=paper] [data_dir=PATH]``. How the paper is read: the "reduced
mean-squared error between successive epochs" is the squared difference of the i-th exponents of
epochs t and t - 1, averaged over the exponents. Exponents that are lost in rounding noise at some
epoch of a run take no part in that run's averages.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from omegaconf import DictConfig

from lightning_lyap.plotting.canvas import EXPONENT_LABEL, INDEX_LABEL, finish
from paper.command import Figure, Finding, Result, main
from paper.confidence import interval
from paper.courses import EQUAL, Course, course
from paper.drawing import letter, new_figure
from paper.networks import charrnn_by_init
from paper.records import Record

SHOWN = 4  # epochs of panel (b)
MOSTLY = 0.75  # of the epochs
MIN_EPOCHS = 3


def make(records: Sequence[Record], cfg: DictConfig) -> Result:
    """Make Fig. 3.

    Args:
        records: The networks.
        cfg: Settings of the command.

    Returns:
        The figure.

    Raises:
        ValueError: If no network has three epochs.
    """
    courses = [course(record) for record in records if record.epochs >= MIN_EPOCHS]
    if not courses:
        raise ValueError(
            f"Expected networks of at least {MIN_EPOCHS} epochs, but got none. Train longer."
        )
    rows = [
        {
            "init_p": c.p,
            "epoch": epoch,
            "mean": c.mean[i],
            "max": c.exponents[i].max(),
            "squared_difference_to_last_epoch": c.distances[i],
            "squared_difference_to_epoch_before": c.steps[i - 1] if i else "",
            "exponents_kept": int(c.kept.sum()),
        }
        for c in courses
        for i, epoch in enumerate(c.epochs)
    ]
    return Result(draw(courses), rows, findings(courses))


def findings(courses: Sequence[Course]) -> list[Finding]:
    """Test the claims of Section 5.2.

    Args:
        courses: The networks.

    Returns:
        Findings.
    """
    settled = [c.settled for c in courses]
    last = f"{min(c.epochs[-1] for c in courses):g}"
    slow, fast = max(settled), min(settled)
    slopes = np.array([c.slope for c in courses])
    low, high = interval(slopes)
    right, zero = low <= -1 <= high, low <= 0 <= high
    count = len(courses)
    return [
        Finding(
            "Fig. 3",
            "The spectrum settles within a few epochs, for every p.",
            f"90 % of the squared distance to the spectrum of epoch {last} is gone after "
            f"{np.median(settled):g} epochs (median; {fast:g} to {slow:g} over {count} networks)",
            "yes" if slow <= SHOWN else "no" if fast > SHOWN else "undecided",
            "charrnn",
        ),
        Finding(
            "Fig. 3d",
            "The reduced squared difference between successive epochs falls like 1/t.",
            f"like t^{slopes.mean():.2f} [{low:.2f}, {high:.2f}] (mean and 95 % interval over "
            f"{count} networks; single ones {slopes.min():.2f} to {slopes.max():.2f})",
            "undecided" if right and zero else "yes" if right else "no",
            "charrnn",
        ),
        from_one_side(
            "The mean exponent converges from below, for every p (the words of Section 5.2).",
            "lie below it",
            [c.below for c in courses],
        ),
        from_one_side(
            "The difference that is drawn, last mean minus mean at t, converges from below, for "
            "every p (the quantity of the caption).",
            "lie above it",
            [1 - c.below for c in courses],
        ),
    ]


def from_one_side(claim: str, where: str, fractions: Sequence[float]) -> Finding:
    """Test whether means come to the last one from one side.

    Args:
        claim: The claim.
        where: On which side that is.
        fractions: The part of the epochs on that side, for each network.

    Returns:
        The finding.
    """
    mostly, count = sum(fraction >= MOSTLY for fraction in fractions), len(fractions)
    return Finding(
        "Fig. 3e",
        claim,
        f"in {mostly} of {count} networks at least three quarters of the epochs whose mean differs "
        f"from the last by more than {EQUAL} {where} ({min(fractions):.0%} to "
        f"{max(fractions):.0%})",
        "yes" if mostly == count else "no" if 2 * mostly <= count else "undecided",
        "charrnn",
    )


def draw(courses: Sequence[Course]) -> Any:
    """Draw the five panels.

    Args:
        courses: The networks.

    Returns:
        A figure.
    """
    figure = new_figure(9.0, 6.0)
    grid = figure.add_gridspec(2, 6)
    top = [figure.add_subplot(grid[0, 2 * i : 2 * i + 2]) for i in range(3)]
    bottom = [figure.add_subplot(grid[1, 3 * i : 3 * i + 3]) for i in range(2)]
    last = int(min(c.epochs[-1] for c in courses))
    letter([*top, *bottom])
    for ax, epoch in zip(top, (0, min(SHOWN, last - 1), last), strict=True):
        for number, c in enumerate(courses):
            _spectrum(ax, c, epoch, f"C{number}")
        ax.set(xlabel=INDEX_LABEL, ylim=_limits(courses))
        finish(ax, "before training" if epoch == 0 else f"epoch {epoch}")
    top[0].set_ylabel(EXPONENT_LABEL)
    lines = top[0].get_lines()
    labels = [f"$p={line.get_label()}$" for line in lines]
    figure.legend(lines, labels, loc="outside upper center", ncols=len(lines), frameon=False)
    for number, c in enumerate(courses):
        style = {"color": f"C{number}", "marker": "o", "markersize": 2.5, "linewidth": 1}
        bottom[0].plot(c.epochs[1:], c.steps, **style)
        bottom[1].plot(c.epochs, c.mean[-1] - c.mean, **style)
    _reference(bottom[0], courses)
    bottom[0].set(xscale="log", yscale="log", xlabel="epoch $t$")
    bottom[0].set_ylabel(
        r"$\langle(\lambda_i(t)-\lambda_i(t-1))^2\rangle_i$ ((nats per step)$^2$)",
        fontsize="small",
    )
    bottom[1].axhline(0, color="0.6", linewidth=0.8)
    bottom[1].set(xlabel="epoch $t$")
    bottom[1].set_ylabel(
        r"$\langle\lambda\rangle_{\mathrm{last}}-\langle\lambda\rangle_t$ (nats per step)",
        fontsize="small",
    )
    for ax in bottom:
        finish(ax, None)
    return figure


def _spectrum(ax: Any, c: Course, epoch: int, color: str) -> None:
    """Draw the spectrum of one epoch.

    Args:
        ax: Axes.
        c: The network.
        epoch: Epochs completed.
        color: Of the line.
    """
    (where,) = np.flatnonzero(c.epochs == epoch)
    values = np.where(c.kept, c.exponents[where], np.nan)
    ax.plot(np.arange(1, values.size + 1), values, color=color, linewidth=1.2, label=f"{c.p:g}")


def _limits(courses: Sequence[Course]) -> tuple[float, float]:
    """Find a scale that holds the spectra of all epochs.

    Args:
        courses: The networks.

    Returns:
        Lower and upper end, nats per step.
    """
    low = min(c.exponents[:, c.kept].min() for c in courses)
    high = max(0.0, max(c.exponents[:, c.kept].max() for c in courses))
    margin = 0.04 * (high - low)
    return float(low - margin), float(high + margin)


def _reference(ax: Any, courses: Sequence[Course]) -> None:
    """Draw 1/t through the middle of the first differences.

    Args:
        ax: Axes.
        courses: The networks.
    """
    longest = max((c.epochs[1:] for c in courses), key=len)
    start = float(np.exp(np.mean([np.log(c.steps[0]) for c in courses])))
    ax.plot(longest, start / longest, "k--", linewidth=1, label=r"$\propto t^{-1}$")
    ax.legend(fontsize="small", frameon=False)


FIGURE = Figure("fig3", charrnn_by_init, make)

if __name__ == "__main__":
    main(FIGURE)
