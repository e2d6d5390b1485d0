"""Figures of spectra: their shape, their convergence and their history.

Every function returns ``(figure, axes)`` and draws into ``ax`` where one is given. Figures are made
without pyplot, so nothing is registered globally and no display is needed. Only this module knows
matplotlib, and only when it draws.
"""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

EXPONENT_LABEL = r"exponent $\lambda_i$ (nats per step)"
INDEX_LABEL = r"index $i$"
BAND_LABEL = "± 1 standard deviation over sequences"
NOISE_LABEL = "lost in rounding noise"
NOT_FINITE = r"$-\infty$ or NaN"
MAX_LINES = 64
MAX_LABELS = 8
GRAY = "0.75"


def plotting_available() -> bool:
    """Tell whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def plot_spectrum(
    exponents: Tensor,
    std: Tensor | None = None,
    resolved: Tensor | None = None,
    *,
    title: str | None = None,
    ax: Any = None,
) -> tuple[Any, Any]:
    """Draw a spectrum with its band over sequences.

    Args:
        exponents: ``[K]``, descending, nats per step.
        std: Half-width of the band, ``[K]``, or None.
        resolved: ``[K]``, bool; unresolved exponents are drawn apart, infinite ones are counted.
        title: Title or None.
        ax: Axes to draw into, or None.

    Returns:
        Figure and axes.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    figure, ax = _axes(ax)
    values = _finite(exponents)
    index = np.arange(1, values.size + 1)
    known = np.ones(values.size, bool) if resolved is None else resolved.cpu().numpy()
    marker = "o" if values.size <= MAX_LINES else None
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    line = ax.plot(
        index, np.where(known, values, np.nan), marker=marker, markersize=3, label="mean"
    )[0]
    if std is not None and bool(std.isfinite().any()):
        width = np.where(known, _finite(std), np.nan)
        style = {"color": line.get_color(), "alpha": 0.3, "label": BAND_LABEL}
        if values.size > 1:
            ax.fill_between(index, values - width, values + width, linewidth=0, **style)
        else:
            ax.errorbar(index, values, width, fmt="none", linewidth=6, **style)
    noise = np.where(known, np.nan, values)
    if np.isfinite(noise).any():
        ax.plot(index, noise, ":", marker=marker, markersize=3, color="0.5", label=NOISE_LABEL)
    if np.isnan(values).any():
        ax.plot(
            [], [], " ", label=f"not drawn: {np.isnan(values).sum()} of {values.size}, {NOT_FINITE}"
        )
    ax.set(xlabel=INDEX_LABEL, ylabel=EXPONENT_LABEL, xlim=(0.5, values.size + 0.5))
    ax.legend(frameon=False, fontsize="small", loc="lower left")
    _index_ticks(ax.xaxis, values.size)
    _finish(ax, title)
    return figure, ax


def plot_convergence(
    running: Tensor, steps: Tensor, *, title: str | None = None, ax: Any = None
) -> tuple[Any, Any]:
    """Draw the estimate of every exponent against the number of steps it was taken over.

    Args:
        running: ``[M, K]``, nats per step; see `SpectrumEstimate.running_exponents`.
        steps: Steps after which each row holds, ``[M]``.
        title: Title or None.
        ax: Axes to draw into, or None.

    Returns:
        Figure and axes.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.

    Reference:
        Vogt et al., On Lyapunov Exponents for RNNs, Fig. 2a.
    """
    figure, ax = _axes(ax)
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    values, time = _finite(running), steps.cpu().numpy()
    count = values.shape[1]
    shown = np.unique(np.linspace(0, count - 1, min(count, MAX_LINES)).round().astype(int))
    # Without its end: yellow lines can't be seen on white.
    colors = ListedColormap(colormaps["viridis"](np.linspace(0, 0.9, 256)))
    scale = ScalarMappable(Normalize(1, max(count, 2)), colors)
    marker = "o" if time.size == 1 else None
    for index in shown:
        color = scale.to_rgba(index + 1)
        ax.plot(time, values[:, index], color=color, linewidth=0.9, marker=marker, markersize=3)
    if count > 1:
        bar = figure.colorbar(scale, ax=ax, label=INDEX_LABEL)
        _index_ticks(bar.ax.yaxis, count)
        bar.ax.invert_yaxis()
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    right = time[-1] if time.size > 1 else time[-1] + 1
    ax.set(xlabel="steps averaged over", ylabel=EXPONENT_LABEL, xlim=(0, right))
    ax.xaxis.get_major_locator().set_params(integer=True)
    _finish(ax, title, f"{shown.size} of {count} exponents" if shown.size < count else None)
    return figure, ax


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
    figure, ax = _axes(ax)
    from matplotlib.colors import Normalize, TwoSlopeNorm

    values, when = _finite(exponents), epochs.double().cpu().numpy()
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
    _index_ticks(ax.yaxis, values.shape[1])
    ax.set(xlabel="epochs trained", ylabel=INDEX_LABEL, ylim=(values.shape[1] + 0.5, 0.5))
    _finish(ax, title, f"gray: {NOT_FINITE}" if known.size < values.size else None)
    return figure, ax


def _axes(ax: Any) -> tuple[Any, Any]:
    """Return figure and axes, new ones if none are given.

    Args:
        ax: Axes or None.

    Returns:
        Figure and axes.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    if ax is not None:
        return ax.figure, ax
    if not plotting_available():
        raise ModuleNotFoundError(
            "Expected matplotlib to draw a figure, but it is not installed. "
            'Install it with `pip install "lightning-lyap[plots]"`.'
        )
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    return figure, figure.add_subplot()


def _finite(values: Tensor) -> NDArray[np.float64]:
    """Turn a tensor into an array with NaN, which is left blank, for what is not finite."""
    array = values.detach().to(torch.float64).cpu().numpy()
    return np.where(np.isfinite(array), array, np.nan)


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


def _index_ticks(axis: Any, count: int) -> None:
    """Label whole numbers alone: every index if there are few.

    Args:
        axis: The axis of the index.
        count: K.
    """
    if count <= MAX_LABELS:
        axis.set_ticks(range(1, count + 1))
    else:
        axis.get_major_locator().set_params(integer=True)


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


def _finish(ax: Any, title: str | None, note: str | None = None) -> None:
    """Set the title and take away the frame's upper and right side.

    Args:
        ax: Axes.
        title: Title or None.
        note: What the figure does not show, or None; ends the title.
    """
    heading = " · ".join(filter(None, (title, note)))
    if heading:
        ax.set_title(heading, fontsize="medium")
    ax.spines[["top", "right"]].set_visible(False)


def render(figure: Any) -> NDArray[np.uint8]:
    """Draw a figure into an image, without a display.

    Args:
        figure: A matplotlib figure.

    Returns:
        ``[height, width, 4]``, red, green, blue and opacity.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).copy()


def save_png(image: NDArray[np.uint8], path: Path) -> None:
    """Write an image as PNG; the file appears whole.

    Args:
        image: What `render` returned.
        path: The file.
    """
    from matplotlib.image import imsave

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        imsave(partial, image, format="png")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
