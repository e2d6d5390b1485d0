"""What the paper's figures share: panels with letters, legends, PNGs that stay small."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_lyap._atomic_files import whole_file
from lightning_lyap.plotting import render

MAX_BYTES = 100_000
PALETTES = (256, 128, 64, 32)
DPI = 130
TASK_NAMES = {"charrnn": "CharRNN", "mocap": "CMU Mocap"}
LOSS_NAMES = {
    "charrnn": "lowest validation loss (nats per character)",
    "mocap": "lowest validation loss (squared error)",
}


def new_figure(width: float, height: float) -> Any:
    """Make an empty figure, without pyplot.

    Args:
        width: In inches.
        height: In inches.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def letter(axes: Sequence[Any]) -> None:
    """Number panels (a), (b), ... at their upper left corners.

    Args:
        axes: In order.
    """
    for ax, sign in zip(axes, "abcdefghijklmnopqrstuvwxyz", strict=False):
        ax.set_title(f"({sign})", loc="left", fontsize="medium", fontweight="bold")


def save_small_png(figure: Any, path: Path) -> None:
    """Write a figure with as many colors as keep it under 100 kB; the file appears whole.

    Args:
        figure: A matplotlib figure.
        path: The file.

    Raises:
        ValueError: If 32 colors are still too many.
    """
    from PIL import Image

    image = Image.fromarray(render(figure)).convert("RGB")
    for colors in PALETTES:
        buffer = io.BytesIO()
        image.quantize(colors, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        if buffer.tell() < MAX_BYTES:
            with whole_file(path) as partial:
                partial.write_bytes(buffer.getvalue())
            return
    raise ValueError(
        f"Expected a picture under {MAX_BYTES} bytes, but got {buffer.tell()} for {path.name} with "
        f"{PALETTES[-1]} colors. Draw it smaller."
    )
