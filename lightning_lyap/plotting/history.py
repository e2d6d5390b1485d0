"""The spectra of a run as a heat map."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightning_lyap.plotting.canvas import (
    EXPONENT_LABEL,
    INDEX_LABEL,
    MAX_LABELS,
    NOT_FINITE,
    finish,
    finite_array,
    index_ticks,
    new_axes,
)

GRAY = "0.75"


def plot_history(
    epochs: Tensor, exponents: Tensor, *, title: str | None = None, ax: Any = None
) -> tuple[Any, Any]:
    """Draw the spectra of a run as a heat map, epoch by index.

    Where the spectra have exponents of both signs, zero is white, each sign has its own scale, and
    a line follows the border between expanding and contracting directions. The colors span all
    values but the lowest 1 %; what is infinite or NaN is gray.

    Args:
        epochs: Epochs completed at each measurement, ``[E]``, ascending.
        exponents: ``[E, K]``, descending in each row, nats per step.
        title: Title or None.
        ax: Axes to draw into, or None.

    Returns:
        Figure and axes.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    figure, ax = new_axes(ax)
    from matplotlib.colors import Normalize, TwoSlopeNorm

    values, when = finite_array(exponents), epochs.double().cpu().numpy()
    known = values[np.isfinite(values)]
    low, high = (np.percentile(known, 1), known.max()) if known.size else (-1.0, 0.0)
    both = low < 0 < high
    edges = _edges(when)
    ax.set_facecolor(GRAY)
    mesh = ax.pcolormesh(
        edges,
        np.arange(values.shape[1] + 1) + 0.5,
        np.ma.masked_invalid(values.T),
        cmap="RdBu_r" if both else "viridis",
        norm=TwoSlopeNorm(0, low, high) if both else Normalize(low, high),
        rasterized=True,
    )
    below = bool(known.size) and known.min() < low
    bar = figure.colorbar(mesh, ax=ax, label=EXPONENT_LABEL, extend="min" if below else "neither")
    if both:
        ticks = _two_sided_ticks(low, high)
        bar.set_ticks(ticks, labels=[f"${tick:g}$" for tick in ticks])
        ax.stairs((values > 0).sum(1) + 0.5, edges, baseline=None, color="0.2", linewidth=0.8)
    if when.size <= MAX_LABELS:
        shown = _apart(when)
        ax.set_xticks(shown, [f"{epoch:g}" for epoch in shown])
    index_ticks(ax.yaxis, values.shape[1])
    ax.set(xlabel="epochs trained", ylabel=INDEX_LABEL, ylim=(values.shape[1] + 0.5, 0.5))
    finish(ax, title, f"gray: {NOT_FINITE}" if known.size < values.size else None)
    return figure, ax


def _edges(centers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Put cell borders half-way between neighbouring measurements.

    Args:
        centers: ``[E]``, ascending.

    Returns:
        ``[E + 1]``.
    """
    if centers.size == 1:
        return np.array([centers[0] - 0.5, centers[0] + 0.5])
    middle = (centers[1:] + centers[:-1]) / 2
    first, last = centers[0] - (middle[0] - centers[0]), centers[-1] + (centers[-1] - middle[-1])
    return np.concatenate([[first], middle, [last]])


def _apart(positions: NDArray[np.float64]) -> list[float]:
    """Leave out what stands too close to the one before for two labels, but not the last.

    Args:
        positions: ``[E]``, ascending.

    Returns:
        Some of them, at least a twentieth of the range apart.
    """
    gap = (positions[-1] - positions[0]) / 20
    kept = [float(positions[-1])]
    for position in positions[-2::-1]:
        if kept[-1] - position >= gap:
            kept.append(float(position))
    return kept[::-1]


def _two_sided_ticks(low: float, high: float) -> NDArray[np.float64]:
    """Choose round values on both sides of zero, each side on its own scale.

    Args:
        low: Below 0.
        high: Above 0.

    Returns:
        Ascending values in ``[low, high]`` with zero among them.
    """
    from matplotlib.ticker import MaxNLocator

    locator = MaxNLocator(4)
    ticks = np.concatenate([locator.tick_values(low, 0), locator.tick_values(0, high)])
    return np.unique(ticks[(low <= ticks) & (ticks <= high)])
