"""The spectra of a run as a heat map."""

from itertools import pairwise
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
from lightning_lyap.plotting.root_scale import root_norm, root_ticks

GRAY, BORDER = "0.75", "0.2"


def plot_history(
    epochs: Tensor,
    exponents: Tensor,
    resolved: Tensor | None = None,
    *,
    settled: Tensor | None = None,
    title: str | None = None,
    ax: Any = None,
) -> tuple[Any, Any]:
    """Draw the spectra of a run as a heat map, epoch by index.

    Colors go with the square root of an exponent's size, so that exponents near zero can be told
    apart. Where the spectra have exponents of both signs, zero is white, each sign has its own
    scale, and a line, marked on the scale too, follows the border between expanding and contracting
    directions. The colors span all values but the lowest 1 %; what is unresolved, infinite or NaN
    is gray.

    Args:
        epochs: Epochs completed at each measurement, ``[E]``, ascending.
        exponents: ``[E, K]``, descending in each row, nats per step.
        resolved: ``[E, K]``, bool; None for all that are finite.
        settled: ``[E, K]``, bool; what has not settled is hatched. None for all.
        title: Title or None.
        ax: Axes to draw into, or None.

    Returns:
        Figure and axes.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    figure, ax = new_axes(ax)
    values, when = finite_array(exponents), epochs.double().cpu().numpy()
    note = NOT_FINITE
    if resolved is not None and (lost := np.isfinite(values) & ~resolved.cpu().numpy()).any():
        values, note = np.where(lost, np.nan, values), "unresolved"
    low, high = _range(values)
    edges, norm, both = _edges(when), root_norm(low, high), low < 0 < high
    ax.set_facecolor(GRAY)
    mesh = ax.pcolormesh(
        edges,
        np.arange(values.shape[1] + 1) + 0.5,
        np.ma.masked_invalid(values.T),
        cmap="RdBu_r" if both else "viridis",
        norm=norm,
        rasterized=True,
    )
    _add_scale(figure, ax, mesh, extend="min" if (values < low).any() else "neither")
    if both:
        ax.stairs((values > 0).sum(1) + 0.5, edges, baseline=None, color=BORDER, linewidth=0.8)
    moving = np.zeros(values.shape, bool) if settled is None else ~settled.cpu().numpy()
    moving &= ~np.isnan(values)
    _hatch(ax, edges, moving)
    _epoch_ticks(ax, when)
    index_ticks(ax.yaxis, values.shape[1])
    ax.set(xlabel="epochs trained", ylabel=INDEX_LABEL, ylim=(values.shape[1] + 0.5, 0.5))
    gray = f"gray: {note}" if np.isnan(values).any() else None
    hatched = "hatched: not settled" if moving.any() else None
    finish(ax, title, " · ".join(filter(None, (gray, hatched))))
    return figure, ax


def _range(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return what the colors span, of values ``[E, K]`` with NaN for what has no color."""
    # From the first percentile on: a few very low values would take all colors for themselves.
    known = values[np.isfinite(values)]
    if not known.size:
        return -1.0, 0.0
    low, high = float(np.percentile(known, 1)), float(known.max())
    return (low, high) if low < high else (high - (abs(high) / 10 or 1.0), high)


def _hatch(ax: Any, edges: NDArray[np.float64], moving: NDArray[np.bool_]) -> None:
    """Hatch some cells, ``[E, K]``: a rectangle for each run of neighbors in a column."""
    from matplotlib.collections import PolyCollection

    corners = []
    for column, (left, right) in zip(moving, pairwise(edges), strict=True):
        changes = np.flatnonzero(np.diff(np.concatenate([[0], column.astype(int), [0]]))) + 0.5
        for top, bottom in changes.reshape(-1, 2):
            corners.append([(left, top), (right, top), (right, bottom), (left, bottom)])
    if corners:
        style: dict[str, Any] = {
            "facecolors": "none",
            "edgecolors": BORDER,
            "linewidths": 0,
            "hatch": "////",
        }
        ax.add_collection(PolyCollection(corners, rasterized=True, **style), autolim=False)


def _add_scale(figure: Any, ax: Any, mesh: Any, extend: str) -> None:
    """Add the scale of the colors, with zero marked on it if it lies within."""
    bar = figure.colorbar(mesh, ax=ax, label=EXPONENT_LABEL, extend=extend)
    ticks = root_ticks(mesh.norm)
    bar.set_ticks(ticks, labels=[f"{tick:g}".replace("-", "\N{MINUS SIGN}") for tick in ticks])
    bar.minorticks_off()
    if mesh.norm.vmin < 0 < mesh.norm.vmax:
        bar.ax.axhline(0, color=BORDER, linewidth=0.8)


def _epoch_ticks(ax: Any, when: NDArray[np.float64]) -> None:
    """Label the epochs that were measured, ``[E]``, if they are few, else whole ones."""
    if when.size <= MAX_LABELS:
        shown = _apart(when)
        ax.set_xticks(shown, [f"{epoch:g}" for epoch in shown])
    elif when[-1] - when[0] >= MAX_LABELS / 2:
        ax.xaxis.get_major_locator().set_params(integer=True)


def _edges(centers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return cell borders, ``[E + 1]``, half-way between neighboring measurements, ``[E]``."""
    if centers.size == 1:
        return np.array([centers[0] - 0.5, centers[0] + 0.5])
    middle = (centers[1:] + centers[:-1]) / 2
    first, last = centers[0] - (middle[0] - centers[0]), centers[-1] + (centers[-1] - middle[-1])
    return np.concatenate([[first], middle, [last]])


def _apart(positions: NDArray[np.float64]) -> list[float]:
    """Leave out positions, ``[E]``, too close to the next for two labels, but not the last."""
    gap = (positions[-1] - positions[0]) / 20
    kept = [float(positions[-1])]
    for position in positions[-2::-1]:
        if kept[-1] - position >= gap:
            kept.append(float(position))
    return kept[::-1]
