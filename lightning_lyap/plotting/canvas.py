"""What all figures share: axes without pyplot, words, ticks, images and files."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_lyap._atomic_files import whole_file

EXPONENT_LABEL = r"exponent $\lambda_i$ (nats per step)"
INDEX_LABEL = r"index $i$"
NOT_FINITE = r"$-\infty$ or NaN"
MAX_LINES = 64
MAX_LABELS = 8
# TensorBoard shows images 350 points wide, without smoothing: at half of 720 pixels words of 10
# points can still be read.
SIZE, DPI = (4.8, 3.3), 150


def plotting_available() -> bool:
    """Return whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def new_axes(ax: Any) -> tuple[Any, Any]:
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
    # Not by pyplot: it keeps every figure until that is closed, and looks for a display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    return figure, figure.add_subplot()


def finite_array(values: Tensor) -> NDArray[np.float64]:
    """Turn a tensor into an array with NaN, which is left blank, for what is not finite."""
    array = values.detach().to(torch.float64).cpu().numpy()
    return np.where(np.isfinite(array), array, np.nan)


def index_ticks(axis: Any, count: int) -> None:
    """Label every index if there are few, else the first and round ones.

    Args:
        axis: The axis of the index.
        count: K.
    """
    from matplotlib.ticker import MaxNLocator

    if count <= MAX_LABELS:
        axis.set_ticks(range(1, count + 1))
    else:
        round_ones = MaxNLocator(6, integer=True).tick_values(0, count)
        axis.set_ticks([1, *(int(tick) for tick in round_ones if 1 < tick <= count)])


def finish(ax: Any, title: str | None, note: str | None = None) -> None:
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

    with whole_file(path) as partial:
        imsave(partial, image, format="png")
