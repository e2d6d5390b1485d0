"""What is sent where: scalars by key, histograms and images to loggers that take them, files."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from torch import Tensor

from lightning_lyap import SpectrumHistory, lyapunov_spectrum
from lightning_lyap.callback import outputs
from lightning_lyap.callback.loggers import log_histogram, log_image
from lightning_lyap.callback.measurement import Measurement
from lightning_lyap.callback.outputs import draw_figures, scalars, split_finite, write_files
from lightning_lyap.history import draw_spectrum
from tests.cells import INPUT_SIZE, build

F64 = torch.float64


def measurement(num_sequences: int = 3, seconds: float = 0.25) -> Measurement:
    x = torch.randn(num_sequences, 8, INPUT_SIZE, dtype=F64)
    estimate = lyapunov_spectrum(build("gru"), x, keep_log_stretches=True)
    return Measurement(estimate, estimate, seconds)


class Experiment:
    """Takes histograms and images as TensorBoard's writer does."""

    def __init__(self) -> None:
        self.histograms: list[tuple[str, Tensor, int]] = []
        self.images: list[tuple[str, Any, int, str]] = []

    def add_histogram(self, tag: str, values: Tensor, step: int) -> None:
        self.histograms.append((tag, values, step))

    def add_image(self, tag: str, image: Any, step: int, dataformats: str) -> None:
        self.images.append((tag, image, step, dataformats))


class ImageLogger:
    """Takes images itself, as the logger of Weights & Biases does."""

    def __init__(self) -> None:
        self.experiment = object()
        self.images: list[tuple[str, Any, int]] = []

    def log_image(self, key: str, images: list[Any], step: int) -> None:
        self.images.append((key, images, step))


def test_scalars_are_the_measures_and_the_standard_error() -> None:
    measured = measurement()
    values = scalars("lyapunov/", measured)
    expected = measured.spectrum.measures().scalars()
    assert {key: values[f"lyapunov/{key}"] for key in expected} == expected
    spectrum = measured.spectrum
    error, margin = spectrum.standard_errors[0].item(), spectrum.margins[0].item()
    assert values["lyapunov/max_standard_error"] == error > 0
    assert values["lyapunov/max_margin"] == pytest.approx(margin)
    assert margin > error
    assert values["lyapunov/rounding_error"] == spectrum.rounding_errors.max().item() > 0
    assert values["lyapunov/certified"] == 1.0
    assert len(values) == len(expected) + 4


def test_the_rounding_error_is_that_of_the_resolved() -> None:
    measured = measurement()
    errors = torch.arange(1.0, 8.0, dtype=F64)
    for count, expected in ((4, 4.0), (0, None)):
        spectrum = replace(
            measured.spectrum, rounding_errors=errors, resolved=torch.arange(7) < count
        )
        values = scalars("", replace(measured, spectrum=spectrum))
        assert values.get("rounding_error") == expected


def test_a_spectrum_that_fails_its_certificate_says_so() -> None:
    assert scalars("", replace(measurement(), certified=False))["certified"] == 0.0


def test_one_sequence_has_no_spread_to_log() -> None:
    values = scalars("a/b/", measurement(1))
    assert all(math.isfinite(value) for value in values.values())
    assert "a/b/std_over_sequences" not in values
    assert {"a/b/max", "a/b/max_standard_error"} <= set(values)


def test_split_finite() -> None:
    values = {"a": 1.0, "b": math.nan, "c": -math.inf, "d": 0.0, "e": math.inf}
    assert split_finite(values) == ({"a": 1.0, "d": 0.0}, ["b", "c", "e"])


def test_histograms_go_to_loggers_that_take_them_without_infinities() -> None:
    experiment = Experiment()
    values = torch.tensor([0.5, math.nan, -1.0, -math.inf])
    for logger in (SimpleNamespace(experiment=experiment), ImageLogger()):
        log_histogram(logger, "lyapunov/exponents", values, 7)
    ((tag, sent, step),) = experiment.histograms
    assert (tag, sent.tolist(), step) == ("lyapunov/exponents", [0.5, -1.0], 7)


def test_nothing_finite_sends_no_histogram() -> None:
    experiment = Experiment()
    logger = SimpleNamespace(experiment=experiment)
    log_histogram(logger, "t", torch.tensor([math.nan]), 0)
    assert experiment.histograms == []


def test_images_go_to_each_logger_in_its_own_way() -> None:
    experiment, own, none = Experiment(), ImageLogger(), SimpleNamespace(experiment=object())
    image = np.zeros((2, 3, 4), np.uint8)
    for logger in (SimpleNamespace(experiment=experiment), own, none):
        log_image(logger, "lyapunov/history", image, 5)
    assert experiment.images == [("lyapunov/history", image, 5, "HWC")]
    assert own.images == [("lyapunov/history", [image], 5)]


def test_figures_of_a_measurement() -> None:
    measured, history = measurement(), SpectrumHistory()
    assert set(draw_figures(measured, history, "epoch 0")) == {"spectrum", "convergence"}
    history.append(1, 10, measured.spectrum, 0.1)
    images = draw_figures(measured, history, "epoch 1")
    assert set(images) == {"spectrum", "convergence", "history"}
    assert all(image.dtype == np.uint8 and image.ndim == 3 for image in images.values())
    assert any((images["spectrum"] != images["convergence"]).ravel())


def test_the_spectrum_is_drawn_with_intervals_and_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    x, drawn = torch.randn(1, 8, INPUT_SIZE, dtype=F64), []

    def keep(*args: Any, **options: Any) -> Any:
        drawn.append(draw_spectrum(*args, **options))
        return drawn[-1]

    monkeypatch.setattr(outputs, "draw_spectrum", keep)
    estimate = lyapunov_spectrum(
        build("gru", num_layers=2),
        x,
        layers="union",
        warmup_steps=0,
        keep_log_stretches=True,
    )
    draw_figures(Measurement(estimate, estimate, 0.1), SpectrumHistory(), "epoch 0")
    ((_, ax),) = drawn
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    interval, moving = "95 % interval of the mean", "not settled: growth over these steps"
    assert set(names) == {"mean", "layer 0", "layer 1", interval, moving}
    assert ax.get_title() == "epoch 0 · 1 sequence x 8 steps"


def test_a_process_without_sequences_has_no_convergence() -> None:
    measured = measurement()
    without = Measurement(measured.spectrum, None, 0.1)
    assert set(draw_figures(without, SpectrumHistory(), "epoch 0")) == {"spectrum"}


def test_without_matplotlib_there_are_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "plotting_available", lambda: False)
    assert draw_figures(measurement(), SpectrumHistory(), "epoch 0") == {}


def test_files_are_the_history_and_the_latest_figures(tmp_path: Path) -> None:
    measured, history = measurement(), SpectrumHistory({"state": "full"})
    history.append(1, 10, measured.spectrum, 0.1)
    images = draw_figures(measured, history, "epoch 1")
    folder = tmp_path / "lyapunov" / "rnn"
    for _ in range(2):
        write_files(folder, history, images)
    assert {path.name for path in folder.iterdir()} == {
        "spectra.npz",
        *(f"{name}.png" for name in images),
    }
    loaded = SpectrumHistory.load(folder / "spectra.npz")
    assert torch.equal(loaded.exponents(), history.exponents())
    assert imread(folder / "history.png").shape == images["history"].shape
