"""The estimate of every exponent against the number of steps."""

from typing import Any

import numpy as np
from torch import Tensor

from lightning_lyap.plotting.canvas import (
    EXPONENT_LABEL,
    INDEX_LABEL,
    MAX_LABELS,
    MAX_LINES,
    finish,
    finite_array,
    index_ticks,
    new_axes,
)


def plot_convergence(
    running: Tensor,
    steps: Tensor,
    *,
    settled: Tensor | None = None,
    title: str | None = None,
    ax: Any = None,
    colorbar: bool = True,
) -> tuple[Any, Any]:
    """Draw the estimate of every exponent against the number of steps it was taken over.

    Args:
        running: ``[M, K]``, nats per step; see `SpectrumEstimate.running_exponents`.
        steps: Steps after which each row holds, ``[M]``.
        settled: ``[K]``, bool; exponents that have not settled are dashed. None for all.
        title: Title or None.
        ax: Axes to draw into, or None.
        colorbar: Whether to add the scale of the indices; beside several axes one may do.

    Returns:
        Figure and axes.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.

    Reference:
        Vogt et al., On Lyapunov Exponents for RNNs, Fig. 2a.
    """
    figure, ax = new_axes(ax)
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    values, time = finite_array(running), steps.cpu().numpy()
    count = values.shape[1]
    shown = np.unique(np.linspace(0, count - 1, min(count, MAX_LINES)).round().astype(int))
    # Without its end: yellow lines can't be seen on white.
    colors = ListedColormap(colormaps["viridis"](np.linspace(0, 0.9, 256)))
    scale = ScalarMappable(Normalize(1, max(count, 2)), colors)
    moving = np.zeros(count, bool) if settled is None else ~settled.cpu().numpy()
    marker = "o" if time.size <= MAX_LABELS else None
    for index in shown:
        color = scale.to_rgba(index + 1)
        style = {"linestyle": "--" if moving[index] else "-", "marker": marker, "markersize": 3}
        ax.plot(time, values[:, index], color=color, linewidth=0.9, **style)
    if colorbar and count > 1:
        bar = figure.colorbar(scale, ax=ax, label=INDEX_LABEL)
        index_ticks(bar.ax.yaxis, count)
        bar.ax.invert_yaxis()
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    right = time[-1] if time.size > 1 else time[-1] + 1
    ax.set(xlabel="steps averaged over", ylabel=EXPONENT_LABEL, xlim=(0, right))
    ax.xaxis.get_major_locator().set_params(integer=True)
    part = f"{shown.size} of {count} exponents" if shown.size < count else None
    dashed = "dashed: not settled" if moving[shown].any() else None
    finish(ax, title, " · ".join(filter(None, (part, dashed))))
    return figure, ax
