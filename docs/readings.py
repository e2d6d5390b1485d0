"""Draw the pictures of docs/states.md and docs/layers.md: `python docs/readings.py`.

One network, two readings: an LSTM that is told to remember, linearized in h alone and in (h, c);
and a stack of two layers, as one system and layer by layer.
"""

from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from lightning_lyap import SpectrumEstimate, lyapunov_spectrum
from lightning_lyap.plotting import plot_spectrum, render, save_png

FIGURES = Path(__file__).with_name("figures")
UNITS, FORGET_BIAS = 32, 3.0
SEQUENCES, STEPS, FEATURES = 10, 500, 4
STYLE: Any = {"font.size": 11, "axes.titlesize": 11, "mathtext.fontset": "dejavusans"}


def remembering_lstm() -> nn.LSTM:
    """Build an LSTM with the forget bias at 3 and torch's random weights.

    Returns:
        The network, in float64, batch first.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lstm = nn.LSTM(FEATURES, UNITS, batch_first=True).double()
    with torch.no_grad():
        lstm.get_parameter("bias_ih_l0")[UNITS : 2 * UNITS] = FORGET_BIAS
        lstm.get_parameter("bias_hh_l0")[UNITS : 2 * UNITS] = 0.0
    return lstm


def stack() -> nn.GRU:
    """Build a GRU of two layers, the second with larger weights.

    Returns:
        The network, in float64, batch first.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        gru = nn.GRU(FEATURES, UNITS // 2, num_layers=2, batch_first=True).double()
    with torch.no_grad():
        gru.get_parameter("weight_hh_l1").mul_(4)
    return gru


def noise() -> Tensor:
    """Draw inputs.

    Returns:
        ``[B, T, I]``, float64, variance 1.
    """
    generator = torch.Generator().manual_seed(1)
    return torch.randn(SEQUENCES, STEPS, FEATURES, generator=generator, dtype=torch.float64)


def draw(estimate: SpectrumEstimate, title: str, ax: Any) -> None:
    """Draw a spectrum.

    Args:
        estimate: The spectrum.
        title: Title.
        ax: Axes.
    """
    plot_spectrum(
        estimate.exponents,
        estimate.std,
        estimate.resolved,
        margins=estimate.margins,
        layer=estimate.layer,
        title=title,
        ax=ax,
    )


def draw_pair(name: str, left: SpectrumEstimate, right: SpectrumEstimate, titles: Any) -> None:
    """Draw two spectra side by side on one scale.

    Args:
        name: Of the file.
        left: A spectrum.
        right: Another.
        titles: Of both.
    """
    figure = Figure(figsize=(10, 3.8), dpi=108, layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for estimate, title, ax in zip((left, right), titles, axes, strict=True):
        draw(estimate, title, ax)
    axes[1].set_ylabel("")
    save_png(render(figure), FIGURES / f"{name}.png")


def main() -> None:
    """Draw both pictures and print what the pages quote."""
    torch.set_num_threads(1)
    matplotlib.rcParams.update(STYLE)
    lstm, inputs = remembering_lstm(), noise()
    hidden = lyapunov_spectrum(lstm, inputs, state="hidden", warmup_steps=100)
    full = lyapunov_spectrum(lstm, inputs, state="full", warmup_steps=100)
    draw_pair("states", hidden, full, ('state="hidden"', 'state="full"'))
    joint = lyapunov_spectrum(stack(), inputs, layers="joint", warmup_steps=100)
    union = lyapunov_spectrum(stack(), inputs, layers="union", warmup_steps=100)
    draw_pair("layers", joint, union, ('layers="joint"', 'layers="union"'))
    for name, estimate in (("hidden", hidden), ("full", full), ("joint", joint), ("union", union)):
        found = estimate.measures()
        print(f"{name}: max {found.max:.3f} ± {float(estimate.margins[0]):.3f}, {found}")
    print("joint - union", (joint.exponents - union.exponents).abs().max())


if __name__ == "__main__":
    main()
