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
from lightning_lyap.sweeps.comparison import Comparison, Subject
from lightning_lyap.sweeps.correlation import Association
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
    finish(ax, f"{len(comparison.subjects)} runs · spectra of {when_measured(comparison)}")
    return figure, ax


def draw_spectra(ax: Any, comparison: Comparison, label: str = LOSS_LABEL) -> None:
    """Draw the spectra of all runs into axes, with a color bar of their lowest loss beside them.

    Args:
        ax: Axes.
        comparison: The comparison.
        label: Of the color bar.
    """
    colors, above = _colors(comparison.subjects)
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    for subject in sorted(comparison.subjects, key=lambda s: -s.best_loss):
        spectrum = subject.spectrum
        known = (spectrum.resolved & spectrum.exponents.isfinite()).cpu().numpy()
        values = np.where(known, spectrum.exponents.cpu().numpy(), np.nan)
        index = np.arange(1, values.size + 1)
        marker = "o" if values.size <= MAX_LABELS else None
        color = colors.to_rgba(subject.best_loss)
        ax.plot(index, values, color=color, linewidth=1.3, marker=marker, markersize=3.5)
    bar = ax.figure.colorbar(colors, ax=ax, label=label, extend="max" if above else "neither")
    bar.outline.set_visible(False)
    count = comparison.subjects[0].spectrum.num_exponents
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
    subjects = comparison.subjects
    values = [subject.statistics()[name] for subject in subjects]
    row = next(row for row in comparison.rows if row.name == name)
    colors, _ = _colors(subjects)
    losses = [subject.best_loss for subject in subjects]
    beyond = _scatter(ax, _finite(values), losses, np.inf, colors)
    ax.xaxis.get_major_locator().set_params(nbins=5, integer=name.startswith("num_"))
    ax.set_xlabel(LABELS.get(name, name.replace("_", " ")))
    ax.set_title(_caption(row.spearman), fontsize="small")
    return beyond


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

    subjects = comparison.subjects
    table = [subject.statistics() for subject in subjects]
    rows = [row for row in comparison.rows if row.spearman.value is not None]
    panels = [([each[row.name] for each in table], row) for row in rows]
    panels.append(([subject.early_loss for subject in subjects], comparison.baseline))
    high = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(9.0, 2.7 * high + 0.5), dpi=DPI, layout="constrained")
    grid = figure.subplots(high, COLUMNS, sharey=True, squeeze=False)
    colors, _ = _colors(subjects)
    clipped = False
    losses = [subject.best_loss for subject in subjects]
    axes = list(grid.flat)
    for ax, (values, row) in zip(axes, panels, strict=False):
        label, right = LABELS.get(row.name, row.name.replace("_", " ")), np.inf
        if row is comparison.baseline:
            label, right = f"validation loss after epoch {comparison.early_epoch:g}", _end(values)
            ax.set_facecolor("0.95")
        clipped |= _scatter(ax, _finite(values), losses, right, colors)
        ax.xaxis.get_major_locator().set_params(nbins=5, integer=row.name.startswith("num_"))
        ax.set_xlabel(label)
        ax.set_title(_caption(row.spearman), fontsize="small")
    for ax in axes[len(panels) :]:
        ax.remove()
    figure.supylabel(LOSS_LABEL, fontsize="medium")
    beyond = " · triangles: beyond the axes" if clipped else ""
    figure.suptitle(
        f"{len(subjects)} runs · spectra of {when_measured(comparison)}\n"
        f"Spearman's correlation [95 % interval] · shaded: the loss alone{beyond}",
        fontsize="medium",
    )
    return figure, axes[: len(panels)]


def _scatter(
    ax: Any, values: NDArray[np.float64], losses: Sequence[float], right: float, colors: Any
) -> bool:
    """Draw a point for each run; those beyond the scales lie on their ends, as triangles.

    Args:
        ax: Axes.
        values: Of a statistic, ``[n]``.
        losses: ``[n]``.
        right: End of the scale of the values.
        colors: Scale of the losses.

    Returns:
        Whether there are such.
    """
    loss, top = np.asarray(losses), colors.norm.vmax
    beyond = (loss > top) | (values > right)
    style = {"s": 26, "edgecolors": "0.2", "linewidths": 0.4}
    for chosen, marker in ((~beyond, "o"), (beyond, "^")):
        if chosen.any():
            x, y = np.minimum(values[chosen], right), np.minimum(loss[chosen], top)
            color = colors.to_rgba(loss[chosen])
            ax.scatter(x, y, c=color, marker=marker, clip_on=False, **style)
    finish(ax, None)
    ax.margins(0.08)
    return bool(beyond.any())


def _colors(subjects: Sequence[Subject]) -> tuple[Any, bool]:
    """Make the color scale of the losses; runs that diverged would use up all of it.

    Args:
        subjects: The runs.

    Returns:
        The scale, and whether losses lie above its end.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    losses = np.array([subject.best_loss for subject in subjects])
    top = _end(losses)
    # Without its end: yellow lines can't be seen on white.
    cut = ListedColormap(colormaps["viridis"](np.linspace(0, 0.92, 256)))
    spread = (losses.min(), top) if top > losses.min() else (top - 0.5, top + 0.5)
    return ScalarMappable(Normalize(*spread), cut), bool((losses > top).any())


def _end(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Find the largest value that is no outlier: three interquartile ranges above the quartile."""
    array = np.asarray(values)
    lower, upper = np.percentile(array, [25, 75])
    return float(array[array <= upper + 3 * (upper - lower)].max())


def _finite(values: Sequence[float]) -> NDArray[np.float64]:
    """Turn numbers into an array with NaN, which is not drawn, for what is not finite."""
    array = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(array), array, np.nan)


def _caption(association: Association) -> str:
    """Set a coefficient with a true minus sign."""
    return format_association(association).replace("-", "\N{MINUS SIGN}")
