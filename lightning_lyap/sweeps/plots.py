"""Figures of a sweep: spectra colored by loss, and statistics of spectra against loss.

They follow Figs. 4 and 7 of Vogt et al., On Lyapunov Exponents for RNNs. Every function returns
``(figure, axes)``, made without pyplot.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_lyap.plotting.canvas import (
    EXPONENT_LABEL,
    INDEX_LABEL,
    MAX_LABELS,
    finish,
    index_ticks,
)
from lightning_lyap.sweeps.comparable_runs import ComparedRun
from lightning_lyap.sweeps.comparison import Comparison, Correlations
from lightning_lyap.sweeps.report import format_association, when_measured

LOSS_LABEL = "lowest validation loss"
COLUMNS = 3
DPI = 200
NATS = "nats per step"
LABELS = {
    "max": f"largest exponent ({NATS})",
    "mean": f"mean exponent ({NATS})",
    "mean_all": f"mean, noise included ({NATS})",
    "variance": "variance of exponents ((nats per step)$^2$)",
    "variance_all": "variance, noise included ((nats per step)$^2$)",
    "min": f"smallest exponent ({NATS})",
    "std_over_sequences": f"std. over sequences ({NATS})",
    "num_positive": "number of positive exponents",
    "num_positive_estimates": "number of values above zero",
    "kaplan_yorke_dimension": "Kaplan-Yorke dimension",
    "kolmogorov_sinai_entropy": f"Kolmogorov-Sinai entropy ({NATS})",
}


def plot_spectra_by_loss(comparison: Comparison) -> tuple[Any, Any]:
    """Draw the spectra of all runs, colored by their lowest loss, the best ones on top.

    Args:
        comparison: The comparison.

    Returns:
        Figure and axes.

    Reference:
        Vogt et al., On Lyapunov Exponents for RNNs, Fig. 4 (a, c).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), dpi=DPI, layout="constrained")
    ax: Any = figure.add_subplot()
    draw_spectra(ax, comparison)
    finish(ax, f"{len(comparison.runs)} runs · spectra of {when_measured(comparison)}")
    return figure, ax


def draw_spectra(ax: Any, comparison: Comparison, label: str = LOSS_LABEL) -> None:
    """Draw the spectra of all runs into axes, with a color bar of their lowest loss beside them.

    Args:
        ax: Axes.
        comparison: The comparison.
        label: Of the color bar.
    """
    colors, above = _colors(comparison.runs)
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    for run in sorted(comparison.runs, key=lambda run: -run.best_loss):
        spectrum = run.spectrum
        known = (spectrum.resolved & spectrum.exponents.isfinite()).cpu().numpy()
        values = np.where(known, spectrum.exponents.cpu().numpy(), np.nan)
        index = np.arange(1, values.size + 1)
        marker = "o" if values.size <= MAX_LABELS else None
        color = colors.to_rgba(run.best_loss)
        ax.plot(index, values, color=color, linewidth=1.3, marker=marker, markersize=3.5)
    bar = ax.figure.colorbar(colors, ax=ax, label=label, extend="max" if above else "neither")
    bar.outline.set_visible(False)
    count = comparison.runs[0].spectrum.num_exponents
    ax.set(xlabel=INDEX_LABEL, ylabel=EXPONENT_LABEL, xlim=(0.5, count + 0.5))
    index_ticks(ax.xaxis, count)
    finish(ax, None)


def draw_statistic(ax: Any, comparison: Comparison, name: str) -> bool:
    """Draw a statistic of the spectra of all runs against their lowest loss into axes.

    Args:
        ax: Axes.
        comparison: The comparison.
        name: The statistic, one of those in ``comparison.rows``.

    Returns:
        Whether losses lie beyond the end of the scale, as triangles.
    """
    row = next(row for row in comparison.rows if row.name == name)
    values = [run.statistics()[name] for run in comparison.runs]
    return _draw_row(ax, comparison, row, values, _label(name), np.inf)


def plot_statistics_by_loss(comparison: Comparison) -> tuple[Any, Any]:
    """Draw each statistic of the spectra against the lowest loss, and the early loss beside them.

    Statistics that are the same in all runs are left out.

    Args:
        comparison: The comparison.

    Returns:
        Figure and its axes, the last one that of the early loss.

    Reference:
        Vogt et al., On Lyapunov Exponents for RNNs, Figs. 4 (b, d) and 7.
    """
    from matplotlib.figure import Figure

    rows = [row for row in comparison.rows if row.spearman.value is not None]
    count = len(rows) + 1
    high = -(-count // COLUMNS)
    figure = Figure(figsize=(9.0, 2.7 * high + 0.5), dpi=DPI, layout="constrained")
    axes = list(figure.subplots(high, COLUMNS, sharey=True, squeeze=False).flat)
    beyond = [draw_statistic(ax, comparison, row.name) for ax, row in zip(axes, rows, strict=False)]
    early = [run.early_loss for run in comparison.runs]
    label = f"validation loss after epoch {comparison.early_epoch:g}"
    shaded = axes[count - 1]
    shaded.set_facecolor("0.95")
    beyond.append(_draw_row(shaded, comparison, comparison.baseline, early, label, _end(early)))
    for ax in axes[count:]:
        ax.remove()
    figure.supylabel(LOSS_LABEL, fontsize="medium")
    clipped = " · triangles: beyond the axes" if any(beyond) else ""
    figure.suptitle(
        f"{len(comparison.runs)} runs · spectra of {when_measured(comparison)}\n"
        f"Spearman's correlation [95 % interval] · shaded: the loss alone{clipped}",
        fontsize="medium",
    )
    return figure, axes[:count]


def _label(name: str) -> str:
    """Return the label of a statistic."""
    return LABELS.get(name, name.replace("_", " "))


def _draw_row(
    ax: Any,
    comparison: Comparison,
    row: Correlations,
    values: Sequence[float],
    label: str,
    right: float,
) -> bool:
    """Draw a quantity, ``[n]``, against the lowest losses; return whether some lie beyond the ends.

    Those, losses above the scale and values above ``right``, are drawn on its ends as triangles.
    """
    colors, _ = _colors(comparison.runs)
    x, y = (
        np.asarray(values, dtype=np.float64),
        np.array([run.best_loss for run in comparison.runs]),
    )
    x[~np.isfinite(x)] = np.nan  # not drawn
    top = colors.norm.vmax
    beyond = (y > top) | (x > right)
    style = {"s": 26, "edgecolors": "0.2", "linewidths": 0.4}
    for chosen, marker in ((~beyond, "o"), (beyond, "^")):
        if chosen.any():
            at = np.minimum(x[chosen], right), np.minimum(y[chosen], top)
            ax.scatter(*at, c=colors.to_rgba(y[chosen]), marker=marker, clip_on=False, **style)
    finish(ax, None)
    ax.margins(0.08)
    ax.xaxis.get_major_locator().set_params(nbins=5, integer=row.name.startswith("num_"))
    ax.set_xlabel(label)
    minus = "\N{MINUS SIGN}"  # a hyphen is too short beside a plus
    ax.set_title(format_association(row.spearman).replace("-", minus), fontsize="small")
    return bool(beyond.any())


def _colors(runs: Sequence[ComparedRun]) -> tuple[Any, bool]:
    """Return the color scale of the losses, and whether losses of diverged runs lie above it."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    losses = np.array([run.best_loss for run in runs])
    top = _end(losses)
    # Without its end: yellow lines can't be seen on white.
    cut = ListedColormap(colormaps["viridis"](np.linspace(0, 0.92, 256)))
    spread = (losses.min(), top) if top > losses.min() else (top - 0.5, top + 0.5)
    return ScalarMappable(Normalize(*spread), cut), bool((losses > top).any())


def _end(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Return the largest value within three interquartile ranges above the upper quartile."""
    array = np.asarray(values)
    lower, upper = np.percentile(array, [25, 75])
    return float(array[array <= upper + 3 * (upper - lower)].max())
