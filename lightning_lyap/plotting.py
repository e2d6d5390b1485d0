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
MAX_LINES = 64


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
        resolved: ``[K]``, bool; unresolved exponents are drawn apart.
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
        ax.fill_between(
            index,
            values - width,
            values + width,
            alpha=0.3,
            color=line.get_color(),
            linewidth=0,
            label="± 1 standard deviation over sequences",
        )
    if not known.all():
        noise = np.where(known, np.nan, values)
        ax.plot(index, noise, ":", color="0.5", label="below the floor of the arithmetic")
    ax.set(xlabel=INDEX_LABEL, ylabel=EXPONENT_LABEL, xlim=(0, values.size + 1))
    ax.legend(frameon=False, fontsize="small")
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
    from matplotlib.colors import Normalize

    values, time = _finite(running), steps.cpu().numpy()
    count = values.shape[1]
    shown = np.unique(np.linspace(0, count - 1, min(count, MAX_LINES)).round().astype(int))
    scale = ScalarMappable(Normalize(1, max(count, 2)), colormaps["viridis"])
    for index in shown:
        ax.plot(time, values[:, index], color=scale.to_rgba(index + 1), linewidth=0.9)
    if count > 1:
        figure.colorbar(scale, ax=ax, label=INDEX_LABEL)
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    ax.set(xlabel="steps averaged over", ylabel=EXPONENT_LABEL, xlim=(0, time[-1]))
    note = f"{shown.size} of {count} exponents" if shown.size < count else None
    _finish(ax, " · ".join(filter(None, (title, note))) or None)
    return figure, ax


def plot_history(
    epochs: Tensor, exponents: Tensor, *, title: str | None = None, ax: Any = None
) -> tuple[Any, Any]:
    """Draw the spectra of a run as a heat map, epoch by index.

    Zero is white where the spectra have exponents of both signs, so the border between contracting
    and expanding directions can be seen. The colors span the central 98 % of the values.

    Args:
        epochs: Epochs completed at each measurement, ``[E]``, ascending.
        exponents: ``[E, K]``, nats per step.
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
    low, high = np.percentile(known, [1, 99]) if known.size else (-1.0, 0.0)
    high = max(high, known.max(initial=high))
    both = low < 0 < high
    norm = TwoSlopeNorm(0, low, high) if both else Normalize(low, high)
    mesh = ax.pcolormesh(
        _edges(when),
        np.arange(values.shape[1] + 1) + 0.5,
        np.ma.masked_invalid(values.T),
        cmap="RdBu_r" if both else "viridis",
        norm=norm,
        rasterized=True,
    )
    figure.colorbar(mesh, ax=ax, label=EXPONENT_LABEL, extend="min")
    ax.invert_yaxis()
    ax.set(xlabel="epochs trained", ylabel=INDEX_LABEL)
    _finish(ax, title)
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

    figure = Figure(figsize=(6.4, 4.0), dpi=120, layout="constrained")
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


def _finish(ax: Any, title: str | None) -> None:
    """Set the title and take away the frame's upper and right side.

    Args:
        ax: Axes.
        title: Title or None.
    """
    if title:
        ax.set_title(title, fontsize="medium")
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
