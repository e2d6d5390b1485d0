"""The panels of Fig. 1."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lightning_lyap.plotting.canvas import EXPONENT_LABEL, INDEX_LABEL, finish, index_ticks
from lightning_lyap.systems import mean_field_exponent
from paper.drawing import letter, new_figure
from paper.driven import DRIVE_VARIANCE
from paper.regimes import Example, Regimes

# (light, dark) of the two drives; blue, gray and green as in the paper
COLORS = {
    "stable": ("#7db7e0", "#0b4f8a"),
    "marginal": ("#b0b0b0", "#404040"),
    "chaotic": ("#86cf8f", "#14702b"),
}
SHOWN_STEPS = 50
LEADING = 20  # caption


def draw(seen: Regimes, curve: Sequence[float]) -> Any:
    """Draw the six panels.

    Args:
        seen: What was measured.
        curve: Gains of panel (f).

    Returns:
        A figure.
    """
    figure = new_figure(9.0, 6.0)
    grid = figure.add_gridspec(3, 3, height_ratios=[1, 1, 2.2])
    top = [[figure.add_subplot(grid[j, i]) for j in range(2)] for i in range(3)]
    bottom = [figure.add_subplot(grid[2, i]) for i in range(3)]
    letter([*(pair[0] for pair in top), *bottom])
    for pair, (name, one) in zip(top, seen.examples.items(), strict=True):
        _activity(pair, name, one)
    top[0][0].set_ylabel(r"$h_1$, drive $x$")
    top[0][1].set_ylabel(r"$h_1$, drive $x'$")
    _spectra(bottom[0], seen, seen.size)
    _spectra(bottom[1], seen, min(LEADING, seen.size))
    bottom[0].legend(
        fontsize="small", frameon=False, title="light: $x$, dark: $x'$", title_fontsize="small"
    )
    _by_gain(bottom[2], seen, curve)
    return figure


def _activity(pair: Sequence[Any], name: str, one: Example) -> None:
    """Draw a unit's activity from all initial states, under each drive.

    Args:
        pair: Axes of the drives.
        name: Of the regime.
        one: Its network.
    """
    for ax, activity, color in zip(pair, one.activity, COLORS[name], strict=True):
        shown = activity[:, :SHOWN_STEPS].T.numpy()
        ax.plot(np.arange(1, len(shown) + 1), shown, color=color, linewidth=0.7, alpha=0.8)
        ax.set(ylim=(-1.08, 1.08), yticks=[-1, 0, 1], xlim=(0, len(shown)))
        finish(ax, None)
    pair[0].set_title(f"{name}, $g={one.gain:.3g}$", fontsize="medium", color=COLORS[name][1])
    pair[0].tick_params(labelbottom=False)
    pair[1].set_xlabel("step $t$")


def _spectra(ax: Any, seen: Regimes, count: int) -> None:
    """Draw the leading exponents of all regimes under both drives.

    Args:
        ax: Axes.
        seen: What was measured.
        count: How many.
    """
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    marker = "." if count <= LEADING else ""
    for name, one in seen.examples.items():
        light, dark = COLORS[name]
        values = one.spectrum.per_sequence.sort(1, descending=True).values[:, :count].numpy()
        index = np.arange(1, count + 1)
        ax.plot(index, values[0], color=light, marker=marker, linewidth=2.6)
        ax.plot(index, values[1], color=dark, marker=marker, markersize=3, linewidth=1, label=name)
    index_ticks(ax.xaxis, count)
    ax.set(xlabel=INDEX_LABEL, ylabel=EXPONENT_LABEL)
    finish(ax, f"first {count}" if count < seen.size else f"all {count}")


def _by_gain(ax: Any, seen: Regimes, curve: Sequence[float]) -> None:
    """Draw the largest exponent against the gain, beside mean-field theory.

    Args:
        ax: Axes.
        seen: What was measured.
        curve: The gains.
    """
    fine = np.linspace(min(curve), max(curve), 40)
    theory = [mean_field_exponent(gain, DRIVE_VARIANCE) for gain in fine]
    root = seen.marginal
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    ax.plot(fine, theory, color="black", linewidth=1, label=r"mean field, $N\to\infty$")
    for gain in curve:
        mean = seen.largest[gain]
        errors = [[mean.value - mean.low], [mean.high - mean.value]]
        color = COLORS["stable" if mean.value < 0 else "chaotic"][1]
        ax.errorbar([gain], [mean.value], errors, fmt="o", markersize=4, color=color, capsize=2)
    ax.plot(
        [], [], "o", color="black", markersize=4, markerfacecolor="none", label=f"$N={seen.size}$"
    )
    ax.errorbar(
        [root.value],
        [0],
        xerr=[[root.value - root.low], [root.high - root.value]],
        fmt="D",
        markersize=4,
        color=COLORS["marginal"][1],
        capsize=3,
        label=f"$g={root.value:.3f}\\pm{root.high - root.value:.3f}$",
    )
    ax.set(xlabel="gain $g$", ylabel=r"$\lambda_{\mathrm{max}}$ (nats per step)")
    ax.legend(fontsize="small", frameon=False, loc="lower right")
    finish(ax, None)
