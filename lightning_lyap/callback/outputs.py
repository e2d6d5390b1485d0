"""Sends what a measurement shows to the loggers and to files; knows no mathematics."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_lyap.callback.measurement import Measurement
from lightning_lyap.history import SpectrumHistory, draw_spectrum
from lightning_lyap.plotting import (
    plot_convergence,
    plotting_available,
    render,
    save_png,
)


def scalars(prefix: str, measurement: Measurement) -> dict[str, float]:
    """Return the statistics of a measurement under their keys.

    Args:
        prefix: With the closing slash.
        measurement: The measurement.

    Returns:
        Numbers by key; without the spread that one sequence alone can't have, without the errors of
        the largest exponent where nothing tells them, and without the rounding error if no exponent
        is resolved.
    """
    spectrum = measurement.spectrum
    measures = spectrum.measures()
    statistics = measures.scalars()
    known = spectrum.rounding_errors[spectrum.resolved]
    errors = {
        "max_standard_error": measures.standard_errors["max"],
        "max_margin": measures.intervals["max"][1] - measures.max,
        "rounding_error": known.max().item() if known.numel() else math.nan,
    }
    statistics |= split_finite(errors)[0]
    statistics["certified"] = float(measurement.certified)
    if spectrum.num_sequences == 1:
        del statistics["std_over_sequences"]
    return {f"{prefix}{name}": value for name, value in statistics.items()}


def split_finite(values: dict[str, float]) -> tuple[dict[str, float], list[str]]:
    """Separate what may be logged from what may not: NaN would stop EarlyStopping.

    Args:
        values: Numbers by key.

    Returns:
        The finite ones, and the keys of the others.
    """
    finite = {key: value for key, value in values.items() if math.isfinite(value)}
    return finite, [key for key in values if key not in finite]


def draw_figures(
    measurement: Measurement, history: SpectrumHistory, when: str
) -> dict[str, NDArray[np.uint8]]:
    """Draw the spectrum, its convergence and the history of the run.

    Args:
        measurement: What was measured; its convergence is that of this process's sequences.
        history: The run so far; left out while it is empty.
        when: Says in the titles when this was.

    Returns:
        Images by name; none where matplotlib is missing.
    """
    if not plotting_available():
        return {}
    spectrum, estimate = measurement.spectrum, measurement.estimate
    figures = {"spectrum": draw_spectrum(spectrum, when)}
    if estimate is not None:
        running = estimate.running_exponents()
        figures["convergence"] = plot_convergence(
            running, estimate.block_ends, settled=estimate.settled, title=when
        )
    if len(history):
        figures["history"] = history.plot()
    return {name: render(figure) for name, (figure, _) in figures.items()}


def write_files(
    folder: Path, history: SpectrumHistory, images: dict[str, NDArray[np.uint8]]
) -> None:
    """Write the history and the latest figures.

    Args:
        folder: Made if it is not there.
        history: The run so far.
        images: Images by name.
    """
    history.save(folder / "spectra.npz")
    for name, image in images.items():
        save_png(image, folder / f"{name}.png")
