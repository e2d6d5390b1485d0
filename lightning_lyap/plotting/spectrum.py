"""The shape of a spectrum, with its spread and its error."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightning_lyap.plotting.canvas import (
    EXPONENT_LABEL,
    INDEX_LABEL,
    MAX_LINES,
    NOT_FINITE,
    finish,
    finite_array,
    index_ticks,
    new_axes,
)

BAND_LABEL = "± 1 standard deviation over sequences"
INTERVAL_LABEL = "95 % interval of the mean"
NOISE_LABEL = "lost in rounding noise"
UNSETTLED_LABEL = "not settled: growth over these steps"


def plot_spectrum(
    exponents: Tensor,
    std: Tensor | None = None,
    resolved: Tensor | None = None,
    *,
    settled: Tensor | None = None,
    margins: Tensor | None = None,
    layer: Tensor | None = None,
    title: str | None = None,
    ax: Any = None,
) -> tuple[Any, Any]:
    """Draw a spectrum with its band over sequences and the 95 % interval of its mean.

    Args:
        exponents: ``[K]``, descending, nats per step.
        std: Half-width of the band, ``[K]``, or None.
        resolved: ``[K]``, bool; unresolved exponents are drawn apart, infinite ones are counted.
        settled: ``[K]``, bool; exponents that have not settled are hollow, of many every few. None
            for all.
        margins: Half-width of the interval, ``[K]``, or None.
        layer: The layer each exponent belongs to, from 0, ``[K]``, for points in its color; or
            None.
        title: Title or None.
        ax: Axes to draw into, or None.

    Returns:
        Figure and axes.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    figure, ax = new_axes(ax)
    values = finite_array(exponents)
    index = np.arange(1, values.size + 1)
    known = np.ones(values.size, bool) if resolved is None else resolved.cpu().numpy()
    marker = "o" if values.size <= MAX_LINES else None
    mean = np.where(known, values, np.nan)
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    if layer is None:
        color = ax.plot(index, mean, marker=marker, markersize=3, label="mean")[0].get_color()
    else:
        color = "0.5"
        ax.plot(index, mean, color=color, linewidth=0.6, label="mean")
        _draw_layers(ax, index, mean, layer.cpu().numpy())
    _draw_band(ax, index, mean, std, (color, 0.25), BAND_LABEL)
    _draw_band(ax, index, mean, margins, (color, 0.5), INTERVAL_LABEL)
    if settled is not None:
        _draw_hollow(ax, index, np.where(settled.cpu().numpy(), np.nan, mean), color)
    noise = np.where(known, np.nan, values)
    if np.isfinite(noise).any():
        ax.plot(index, noise, ":", marker=marker, markersize=3, color="0.5", label=NOISE_LABEL)
    if np.isnan(values).any():
        ax.plot(
            [], [], " ", label=f"not drawn: {np.isnan(values).sum()} of {values.size}, {NOT_FINITE}"
        )
    ax.set(xlabel=INDEX_LABEL, ylabel=EXPONENT_LABEL, xlim=(0.5, values.size + 0.5))
    corner = "lower left" if values.size > 1 else "best"
    ax.legend(frameon=False, fontsize="small", loc=corner)
    index_ticks(ax.xaxis, values.size)
    finish(ax, title)
    return figure, ax


def _draw_band(
    ax: Any,
    index: NDArray[np.int64],
    mean: NDArray[np.float64],
    width: Tensor | None,
    color: tuple[str, float],
    label: str,
) -> None:
    """Fill what lies within a half-width, ``[K]``, of the mean, ``[K]``; a bar for one exponent."""
    from matplotlib.colors import to_rgb

    half = np.full(mean.shape, np.nan) if width is None else finite_array(width)
    drawn = np.isfinite(mean) & np.isfinite(half)
    if not drawn.any():
        return
    # Mixed with white instead of transparent, so that bands have the colors of their names in the
    # legend; the narrower one lies on top.
    mixed = 1 - color[1] * (1 - np.array(to_rgb(color[0])))
    style = {"color": mixed, "label": label, "zorder": 1 + 1 / (2 + half[drawn].mean())}
    if index.size > 1:
        ax.fill_between(index, mean - half, mean + half, linewidth=0, **style)
    else:
        ax.errorbar(index, mean, half, fmt="none", linewidth=3 / color[1], **style)


def _draw_hollow(
    ax: Any, index: NDArray[np.int64], unsettled: NDArray[np.float64], color: str
) -> None:
    """Draw points, ``[K]``, NaN for none, that are white inside; of many about `MAX_LINES`."""
    drawn = np.flatnonzero(np.isfinite(unsettled))
    if not drawn.size:
        return
    some = drawn[:: -(-drawn.size // MAX_LINES)]
    style = {"markersize": 3.5, "markerfacecolor": "white", "markeredgewidth": 0.8, "zorder": 4}
    ax.plot(index[some], unsettled[some], "o", color=color, label=UNSETTLED_LABEL, **style)


def _draw_layers(
    ax: Any, index: NDArray[np.int64], mean: NDArray[np.float64], layer: NDArray[np.int64]
) -> None:
    """Draw the mean, ``[K]``, of each layer as points, or lines if there are many, in a color."""
    from matplotlib import colormaps

    width = 80 * ax.get_position().width * ax.figure.get_figwidth()  # about its width in points
    for k, color in enumerate(colormaps["viridis"](np.linspace(0, 0.85, int(layer.max()) + 1))):
        own, style = layer == k, {"color": color, "label": f"layer {k}"}
        if index.size <= MAX_LINES:
            ax.plot(index[own], mean[own], "o", markersize=4, zorder=3, **style)
        else:
            # Points would cover each other.
            ax.vlines(index[own], 0, mean[own], linewidth=width / index.size, **style, zorder=0.5)
