"""Draw the picture of the README from a run: `python docs/picture.py RUN/lyapunov/spectra.npz`."""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure

from lightning_lyap import SpectrumHistory
from lightning_lyap.plotting import plot_history, plot_spectrum, render, save_png


def main() -> None:
    """Draw the last spectrum and the history of a run side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spectra", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/figures/mocap.png"))
    arguments = parser.parse_args()
    history = SpectrumHistory.load(arguments.spectra)
    figure = Figure(figsize=(10.5, 3.8), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2)
    last = history.spectra[-1]
    title = f"epoch {history.epochs[-1]:g} · {last.num_sequences} sequences"
    plot_spectrum(
        last.exponents, last.std, last.resolved, margins=last.margins, title=title, ax=left
    )
    resolved = torch.stack([spectrum.resolved for spectrum in history.spectra])
    plot_history(
        torch.tensor(history.epochs),
        history.exponents(),
        resolved,
        title="all spectra of the run",
        ax=right,
    )
    save_png(render(figure), arguments.output)


if __name__ == "__main__":
    main()
