"""The spectra of a run survive checkpoints, files and interruptions bit by bit."""

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_lyap import SpectrumHistory, lyapunov_spectrum
from lightning_lyap.estimator.result import LayeredSpectrum, MeanSpectrum
from tests.cells import INPUT_SIZE, build
from tests.histories import F64, SETTINGS, assert_bitwise, assert_same, filled, spectrum


def through_state_dict(history: SpectrumHistory, folder: Path) -> SpectrumHistory:
    restored = SpectrumHistory()
    restored.load_state_dict(history.state_dict())
    return restored


def through_checkpoint(history: SpectrumHistory, folder: Path) -> SpectrumHistory:
    file = io.BytesIO()
    torch.save({"callbacks": {"lyapunov": history.state_dict()}}, file)
    file.seek(0)
    restored = SpectrumHistory({"of": "another run"})
    restored.load_state_dict(torch.load(file, weights_only=True)["callbacks"]["lyapunov"])
    return restored


def through_file(history: SpectrumHistory, folder: Path) -> SpectrumHistory:
    return SpectrumHistory.load(history.save(folder / "spectra.npz"))


ROUNDS = [through_state_dict, through_checkpoint, through_file]


Round = Callable[[SpectrumHistory, Path], SpectrumHistory]


@pytest.mark.parametrize("go", ROUNDS)
@pytest.mark.parametrize("size", [1, 4])
def test_round_trip_is_exact(go: Round, size: int, tmp_path: Path) -> None:
    history = filled(size=size)
    assert bool(history.exponents().isinf().any())
    assert bool(history.spectra[0].standard_errors.isnan().any())
    restored = go(history, tmp_path)
    assert_same(restored, history)
    assert isinstance(restored.steps[0], int)
    assert isinstance(restored.epochs[0], float)


@pytest.mark.parametrize("go", ROUNDS)
def test_an_empty_history_goes_round_too(go: Round, tmp_path: Path) -> None:
    history = SpectrumHistory(SETTINGS)
    history.record_failure(0, 0, "at once")
    assert_same(go(history, tmp_path), history)


@pytest.mark.parametrize("go", ROUNDS)
def test_a_restored_history_goes_on(go: Round, tmp_path: Path) -> None:
    history = filled()
    restored = go(history, tmp_path)
    for each in (history, restored):
        each.append(4, 99, spectrum(seed=9), 1.5)
    assert_same(restored, history)
    assert len(restored) == 4


def test_a_failed_spectrum_of_nan_is_kept(tmp_path: Path) -> None:
    history = SpectrumHistory()
    nan = torch.full((2,), math.nan, dtype=F64)
    history.append(
        1,
        1,
        MeanSpectrum(
            exponents=nan,
            std=nan,
            standard_errors=nan,
            margins=nan,
            resolved=torch.zeros(2, dtype=torch.bool),
            settled=torch.zeros(2, dtype=torch.bool),
            rounding_errors=nan,
            num_sequences=0,
            tangent_size=2,
        ),
        0.0,
    )
    assert_same(through_file(history, tmp_path), history)


def test_only_the_mean_part_of_an_estimate_is_kept() -> None:
    x = torch.randn(2, 5, INPUT_SIZE, dtype=F64)
    estimate = lyapunov_spectrum(build("gru"), x, keep_log_stretches=True)
    history = SpectrumHistory()
    history.append(0, 0, estimate, 0.0)
    assert type(history.spectra[0]) is LayeredSpectrum
    assert_bitwise(history.exponents()[0], estimate.exponents)


@pytest.mark.parametrize("go", ROUNDS)
@pytest.mark.parametrize("first", ["joint", "union"])
def test_layers_are_kept_and_those_unknown_stay_so(go: Round, first: Any, tmp_path: Path) -> None:
    """A run may go on with another choice of layers."""
    module, x = build("gru", num_layers=2), torch.randn(2, 5, INPUT_SIZE, dtype=F64)
    history = SpectrumHistory()
    for layers in (first, "union", "joint"):
        history.append(0, 0, lyapunov_spectrum(module, x, layers=layers), 0.0)
    restored = go(history, tmp_path)
    union = lyapunov_spectrum(module, x, layers="union").layer
    assert union is not None
    kept = [spectrum.layer for spectrum in restored.spectra]
    assert kept[2] is None
    assert (kept[0] is None) == (first == "joint")
    assert kept[1] is not None
    assert_bitwise(kept[1], union)
    _, ax = restored.plot_spectrum(1)
    assert "layer 1" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_a_spectrum_is_drawn_with_the_interval_of_its_mean() -> None:
    _, ax = filled().plot_spectrum()
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "95 % interval of the mean" in names


def test_what_was_appended_is_a_copy() -> None:
    one = spectrum()
    history = SpectrumHistory()
    history.append(0, 0, one, 0.0)
    before = history.exponents().clone()
    one.exponents.zero_()
    assert_bitwise(history.exponents(), before)


def test_spectra_made_in_inference_mode_can_be_used_outside() -> None:
    history = SpectrumHistory()
    with torch.inference_mode():
        history.append(0, 0, spectrum(), 0.0)
        assert not history.spectra[0].exponents.is_inference()
    rows = history.exponents()
    assert not rows.is_inference()
    rows.requires_grad_().sum().backward()
    through_checkpoint(history, Path())


@pytest.mark.parametrize("other", [spectrum(size=3), spectrum(tangent_size=7)], ids=["K", "N"])
def test_another_network_needs_a_history_of_its_own(other: MeanSpectrum) -> None:
    history = filled()
    message = (
        f"Expected a spectrum of 4 exponents, N = 6, as before, "
        f"but got {other.num_exponents}, N = {other.tangent_size}. Start a new history"
    )
    with pytest.raises(ValueError, match=message):
        history.append(9, 9, other, 0.0)
    assert len(history) == len(history.epochs) == len(history.steps) == len(history.seconds) == 3


def test_settings_are_those_of_the_run_that_was_saved(tmp_path: Path) -> None:
    settings = dict(SETTINGS)
    history = SpectrumHistory(settings)
    settings["state"] = "changed later"
    assert through_file(history, tmp_path).settings == SETTINGS


def test_one_spectrum_is_plotted_by_its_place() -> None:
    history = filled()
    for index, epochs, count in ((-1, 2 / 3, 5), (0, 0, 3)):
        _, ax = history.plot_spectrum(index)
        assert ax.get_title() == f"epoch {epochs:g} · {count} sequences x 50 steps after 50"
        drawn = ax.get_lines()[1].get_ydata()
        known = history.spectra[index].exponents[:-1]
        np.testing.assert_array_equal(drawn[:-1], known.numpy())
    figure, ax = history.plot_spectrum()
    assert history.plot(ax=ax) == (figure, ax)


@pytest.mark.parametrize("draw", [SpectrumHistory.plot, SpectrumHistory.plot_spectrum])
def test_an_empty_history_can_not_be_drawn(draw: Callable[[SpectrumHistory], Any]) -> None:
    with pytest.raises(ValueError, match=r"at least one spectrum to draw, but .* is empty"):
        draw(SpectrumHistory())


def test_the_heat_map_leaves_out_what_is_unresolved() -> None:
    history = filled()
    history.spectra[1].resolved[:] = False
    history.spectra[1].resolved[0] = True
    _, ax = history.plot()
    shown = np.ma.getmaskarray(ax.collections[0].get_array()).reshape(4, 3)
    assert shown[:, 1].tolist() == [False, True, True, True]
    assert ax.get_title() == "gray: unresolved · hatched: not settled"
