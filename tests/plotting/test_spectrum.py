"""The figure of a spectrum: its mean, its bands, its layers, and what is not known of it."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_lyap.plotting import plot_spectrum, render
from tests.plotting.drawings import EXPONENTS, STD


def lines(ax: Any) -> dict[str, NDArray[np.float64]]:
    """What is drawn in lines with a name in the legend."""
    return {
        line.get_label(): np.asarray(line.get_ydata(), float)
        for line in ax.get_lines()
        if not line.get_label().startswith("_")
    }


def legend(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def band(ax: Any, number: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper edge of a filled band by index."""
    vertices = ax.collections[number].get_paths()[0].vertices
    index = np.unique(vertices[:, 0])
    rows = [vertices[vertices[:, 0] == i, 1] for i in index]
    return np.array([row.min() for row in rows]), np.array([row.max() for row in rows])


def assert_band(ax: Any, width: Tensor, number: int = 0) -> None:
    """Fail unless a band lies to both sides of the exponents, by its number."""
    low, high = band(ax, number)
    np.testing.assert_allclose(low, (EXPONENTS - width).numpy())
    np.testing.assert_allclose(high, (EXPONENTS + width).numpy())


def test_spectrum_holds_mean_and_band() -> None:
    _, ax = plot_spectrum(EXPONENTS, STD)
    assert ax.get_lines()[1].get_xdata().tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(lines(ax)["mean"], EXPONENTS.numpy())
    assert_band(ax, STD)
    assert legend(ax) == ["mean", "± 1 standard deviation over sequences"]


def test_what_has_not_settled_is_hollow() -> None:
    settled = torch.tensor([True, False, True, False])
    _, ax = plot_spectrum(EXPONENTS, settled=settled)
    hollow = ax.get_lines()[-1]
    assert hollow.get_xdata().tolist() == [2, 4]
    assert hollow.get_ydata().tolist() == EXPONENTS[~settled].tolist()
    assert hollow.get_markerfacecolor() == "white"
    assert legend(ax) == ["mean", "not settled: growth over these steps"]
    assert legend(plot_spectrum(EXPONENTS, settled=settled | True)[1]) == ["mean"]


def test_noise_that_has_not_settled_is_noise() -> None:
    known = torch.tensor([True, True, True, False])
    _, ax = plot_spectrum(EXPONENTS, None, known, settled=known)
    assert legend(ax) == ["mean", "lost in rounding noise"]


def test_of_many_that_have_not_settled_some_are_marked() -> None:
    many = torch.linspace(0, -3, 300)
    _, ax = plot_spectrum(many, settled=torch.zeros(300, dtype=torch.bool))
    assert len(ax.get_lines()[-1].get_xdata()) == 60


@pytest.mark.parametrize("std", [None, torch.full((4,), math.nan)], ids=["none", "one sequence"])
def test_spectrum_without_deviations_has_no_band(std: Tensor | None) -> None:
    _, ax = plot_spectrum(EXPONENTS, std)
    assert len(ax.collections) == 0
    assert legend(ax) == ["mean"]


def test_spectrum_holds_the_interval_of_its_mean_as_a_second_band() -> None:
    margins = STD / 2
    _, ax = plot_spectrum(EXPONENTS, STD, margins=margins)
    for number, width in enumerate((STD, margins)):
        assert_band(ax, width, number)
    assert legend(ax)[1:] == ["± 1 standard deviation over sequences", "95 % interval of the mean"]
    light, dark = (each.get_facecolor()[0][:3].sum() for each in ax.collections)
    assert dark < light


@pytest.mark.parametrize("factor", [0.5, 9.0], ids=["ten sequences", "two sequences"])
def test_the_narrower_band_is_never_hidden(factor: float) -> None:
    _, ax = plot_spectrum(EXPONENTS, STD, margins=factor * STD)
    deviation, interval = (each.get_zorder() for each in ax.collections)
    assert (interval > deviation) == (factor < 1)


def test_one_sequence_has_its_interval_alone() -> None:
    _, ax = plot_spectrum(EXPONENTS, torch.full((4,), math.nan), margins=STD)
    np.testing.assert_allclose(band(ax)[1], (EXPONENTS + STD).numpy())
    assert legend(ax) == ["mean", "95 % interval of the mean"]


def test_few_exponents_of_a_union_are_points_in_the_colors_of_their_layers() -> None:
    figure, ax = plot_spectrum(EXPONENTS, STD, layer=torch.tensor([2, 0, 2, 1]))
    points = {line.get_label(): line for line in ax.get_lines()}
    assert [name for name in legend(ax) if "layer" in name] == ["layer 0", "layer 1", "layer 2"]
    assert points["layer 2"].get_xdata().tolist() == [1, 3]
    np.testing.assert_array_equal(points["layer 2"].get_ydata(), EXPONENTS[[0, 2]].numpy())
    assert len({tuple(points[f"layer {k}"].get_color()) for k in range(3)}) == 3
    render(figure)


def test_many_exponents_of_a_union_are_lines_in_the_colors_of_their_layers() -> None:
    """Those lost in noise belong to no color."""
    exponents = torch.linspace(-1, -2, 100, dtype=torch.float64)
    layer, resolved = torch.arange(100) % 2, torch.arange(100) < 98
    figure, ax = plot_spectrum(exponents, None, resolved, layer=layer)
    assert legend(ax)[1:] == ["layer 0", "layer 1", "lost in rounding noise"]
    for k, lines_of_layer in enumerate(ax.collections):
        known = np.array([part[1] for part in lines_of_layer.get_segments() if len(part)])
        np.testing.assert_array_equal(known[:, 0], np.arange(1, 99)[k::2])
        np.testing.assert_allclose(known[:, 1], exponents[:98][k::2].numpy())
    render(figure)


@pytest.mark.parametrize("size", [4, 100])
def test_unresolved_exponents_are_drawn_apart(size: int) -> None:
    exponents = torch.linspace(0, -3, size, dtype=torch.float64)
    resolved = torch.arange(size) < size - 1
    _, ax = plot_spectrum(exponents, torch.ones(size), resolved)
    drawn = lines(ax)
    known, noise = drawn["mean"], drawn["lost in rounding noise"]
    np.testing.assert_array_equal(known[:-1], exponents[:-1].numpy())
    np.testing.assert_array_equal(noise[-1:], exponents[-1:].numpy())
    assert np.isnan(known[-1])
    assert np.isnan(noise[:-1]).all()
    assert len(band(ax)[0]) == size - 1


def test_a_single_unresolved_exponent_can_be_seen() -> None:
    """A line through one point has no ink."""
    resolved = torch.tensor([True, True, True, False])
    figure, ax = plot_spectrum(EXPONENTS, None, resolved)
    before = render(figure)
    ax.get_lines()[2].remove()
    assert (render(figure) != before).any()


def test_infinite_exponents_are_counted_and_the_others_drawn() -> None:
    exponents = torch.cat([EXPONENTS, torch.full((3,), -math.inf, dtype=torch.float64)])
    std = torch.cat([STD, torch.full((3,), math.nan, dtype=torch.float64)])
    figure, ax = plot_spectrum(exponents, std, exponents.isfinite())
    np.testing.assert_array_equal(lines(ax)["mean"][:4], EXPONENTS.numpy())
    assert np.isfinite(ax.get_ylim()).all()
    assert legend(ax)[2:] == [r"not drawn: 3 of 7, $-\infty$ or NaN"]
    render(figure)


def test_one_exponent_shows_its_deviation() -> None:
    figure, ax = plot_spectrum(EXPONENTS[:1], STD[:1])
    np.testing.assert_array_equal(lines(ax)["mean"], [0.5])
    segment = ax.collections[0].get_segments()[0]
    np.testing.assert_allclose(np.sort(segment[:, 1]), [0.4, 0.6])
    assert legend(ax)[-1] == "± 1 standard deviation over sequences"
    assert ax.get_xticks().tolist() == [1]
    render(figure)


def test_one_exponent_shows_its_interval_as_a_narrower_bar() -> None:
    figure, ax = plot_spectrum(EXPONENTS[:1], STD[:1], margins=STD[:1] / 2)
    deviation, interval = ax.collections
    np.testing.assert_allclose(np.sort(interval.get_segments()[0][:, 1]), [0.45, 0.55])
    assert interval.get_linewidth()[0] < deviation.get_linewidth()[0]
    assert legend(ax)[-1] == "95 % interval of the mean"
    render(figure)
