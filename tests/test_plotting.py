"""Figures hold what they were given, say in which units, and need no display."""

import math
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread
from numpy.typing import NDArray
from torch import Tensor

from lightning_lyap import plotting
from lightning_lyap.plotting import (
    plot_convergence,
    plot_history,
    plot_spectrum,
    render,
    save_png,
)
from lightning_lyap.plotting.canvas import EXPONENT_LABEL, MAX_LINES
from lightning_lyap.plotting.root_scale import root_norm, root_ticks

EXPONENTS = torch.tensor([0.5, 0.1, -0.4, -2.0], dtype=torch.float64)
STD = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
EPOCHS = torch.tensor([0.0, 1.0, 3.0])
STEPS = torch.tensor([2, 4, 5])

Draw = Callable[..., tuple[Any, Any]]
DRAWINGS: dict[str, Draw] = {
    "spectrum": lambda **kw: plot_spectrum(EXPONENTS, STD, **kw),
    "convergence": lambda **kw: plot_convergence(EXPONENTS.repeat(3, 1), STEPS, **kw),
    "history": lambda **kw: plot_history(EPOCHS, EXPONENTS.repeat(3, 1), **kw),
}
drawings = pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)


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


def bar_of(figure: Any) -> Any:
    """The axes of the colorbar."""
    return figure.axes[1]


@drawings
def test_a_figure_of_its_own(draw: Draw) -> None:
    figure, ax = draw(title="epoch 3")
    assert isinstance(figure, Figure)
    assert ax.figure is figure
    assert ax.get_title() == "epoch 3"
    assert draw()[1].get_title() == ""


@drawings
def test_axes_given_are_drawn_into(draw: Draw) -> None:
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert draw(ax=right) == (figure, right)
    assert right.has_data()
    assert not left.has_data()


@drawings
def test_labels_have_units(draw: Draw) -> None:
    figure, ax = draw()
    labels = {axis.get_label_text() for a in figure.axes for axis in (a.xaxis, a.yaxis)}
    assert EXPONENT_LABEL in labels
    assert "nats per step" in EXPONENT_LABEL
    assert ax.get_xlabel()
    assert ax.get_ylabel()


def test_spectrum_holds_mean_and_band() -> None:
    _, ax = plot_spectrum(EXPONENTS, STD)
    assert ax.get_lines()[1].get_xdata().tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(lines(ax)["mean"], EXPONENTS.numpy())
    low, high = band(ax)
    np.testing.assert_allclose(low, (EXPONENTS - STD).numpy())
    np.testing.assert_allclose(high, (EXPONENTS + STD).numpy())
    assert legend(ax) == ["mean", "± 1 standard deviation over sequences"]


@pytest.mark.parametrize("std", [None, torch.full((4,), math.nan)], ids=["none", "one sequence"])
def test_spectrum_without_deviations_has_no_band(std: Tensor | None) -> None:
    _, ax = plot_spectrum(EXPONENTS, std)
    assert len(ax.collections) == 0
    assert legend(ax) == ["mean"]


def test_spectrum_holds_the_interval_of_its_mean_as_a_second_band() -> None:
    margins = STD / 2
    _, ax = plot_spectrum(EXPONENTS, STD, margins=margins)
    for number, width in enumerate((STD, margins)):
        low, high = band(ax, number)
        np.testing.assert_allclose(low, (EXPONENTS - width).numpy())
        np.testing.assert_allclose(high, (EXPONENTS + width).numpy())
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


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_nothing_finite_gives_an_empty_figure(value: float) -> None:
    nothing = torch.full((3,), value)
    for figure, _ in (
        plot_spectrum(nothing, nothing, torch.zeros(3, dtype=torch.bool)),
        plot_convergence(nothing.repeat(2, 1), torch.tensor([1, 2])),
        plot_history(torch.arange(2), nothing.repeat(2, 1)),
    ):
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


def test_convergence_draws_every_exponent_against_the_steps() -> None:
    running = torch.randn(3, 4)
    figure, ax = plot_convergence(running, STEPS)
    drawn = ax.get_lines()
    assert len(drawn) == 4 + 1
    for index in range(4):
        assert drawn[index].get_xdata().tolist() == [2, 4, 5]
        np.testing.assert_allclose(drawn[index].get_ydata(), running[:, index].numpy())
    assert len({line.get_color() for line in drawn[:4]}) == 4
    assert ax.get_xlim() == (0, 5)
    assert bar_of(figure).get_ylabel() == r"index $i$"
    top, bottom = bar_of(figure).get_ylim()[::-1]
    assert (top, bottom) == (1, 4)  # the largest exponent at the top, as in the figure
    assert bar_of(figure).get_yticks().tolist() == [1, 2, 3, 4]


def test_convergence_says_when_it_shows_a_part() -> None:
    running = torch.linspace(0, -1, 200).repeat(3, 1)
    _, ax = plot_convergence(running, STEPS, title="epoch 3")
    drawn = [line.get_ydata()[0] for line in ax.get_lines()[:-1]]
    assert len(drawn) == MAX_LINES
    assert {drawn[0], drawn[-1]} == {0.0, -1.0}
    assert ax.get_title() == "epoch 3 · 64 of 200 exponents"


def test_convergence_marks_the_ends_of_few_blocks_however_they_lie() -> None:
    ends = torch.tensor([2, 10, 11, 42, 100])
    _, ax = plot_convergence(torch.randn(5, 3), ends)
    for line in ax.get_lines()[:3]:
        assert line.get_xdata().tolist() == ends.tolist()
        assert line.get_marker() == "o"
    _, ax = plot_convergence(torch.randn(30, 3), torch.arange(1, 31))
    assert ax.get_lines()[0].get_marker() == "None"


def test_convergence_of_one_row_can_be_seen() -> None:
    figure, ax = plot_convergence(EXPONENTS[None], torch.tensor([100]))
    before = render(figure)
    for line in ax.get_lines()[:4]:
        line.remove()
    assert (render(figure) != before).any()


def test_convergence_leaves_the_colorbar_out_when_told() -> None:
    figure, _ = plot_convergence(torch.randn(3, 4), STEPS, colorbar=False)
    assert len(figure.axes) == 1


def test_convergence_of_one_exponent_has_no_colorbar() -> None:
    figure, _ = plot_convergence(torch.randn(3, 1), STEPS)
    assert len(figure.axes) == 1


def mesh_of(ax: Any) -> Any:
    return ax.collections[0]


def test_history_holds_every_exponent_at_its_epoch() -> None:
    rows = torch.tensor([[0.2, -1.0], [0.1, -2.0], [-0.1, -3.0]])
    _, ax = plot_history(EPOCHS, rows)
    mesh = mesh_of(ax)
    np.testing.assert_array_equal(mesh.get_array().reshape(2, 3), rows.T.numpy())
    corners = mesh.get_coordinates()
    np.testing.assert_array_equal(corners[0, :, 0], [-0.5, 0.5, 2.0, 4.0])
    np.testing.assert_array_equal(corners[:, 0, 1], [0.5, 1.5, 2.5])
    assert ax.get_ylim() == (2.5, 0.5)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "1", "3"]


def test_history_of_both_signs_is_white_at_zero() -> None:
    rows = torch.stack([torch.linspace(0.1 / e, -3, 50) for e in range(1, 31)])
    figure, ax = plot_history(torch.arange(30), rows)
    mesh = mesh_of(ax)
    assert mesh.norm(0.0) == 0.5
    assert mesh.norm.vmax == rows.max().item()
    assert mesh.norm(rows.max().item()) == 1
    assert mesh.norm(mesh.norm.vmin) == 0
    assert mesh.get_cmap()(mesh.norm(0.0))[:3] == pytest.approx((1, 1, 1), abs=0.04)
    red, _, blue, _ = mesh.get_cmap()(mesh.norm(0.05))
    assert red > blue
    ticks = bar_of(figure).get_yticks()
    assert (ticks > 0).sum() >= 2
    assert (ticks < 0).sum() >= 2
    assert 0 in ticks
    (zero,) = bar_of(figure).get_lines()
    assert list(zero.get_ydata()) == [0, 0]


def test_history_draws_the_border_of_expansion() -> None:
    rows = torch.tensor([[0.2, 0.1, -1], [0.1, -1, -2], [-1, -2, -3]])
    _, ax = plot_history(EPOCHS, rows)
    np.testing.assert_array_equal(ax.patches[0].get_data().values, [2.5, 1.5, 0.5])
    assert not plot_history(EPOCHS, rows - 1)[1].patches


@pytest.mark.parametrize("sign", [1, -1])
def test_history_of_one_sign(sign: int) -> None:
    rows = sign * torch.linspace(1, 2, 300).repeat(3, 1)
    figure, ax = plot_history(EPOCHS, rows)
    mesh = mesh_of(ax)
    assert mesh.norm.vmax == rows.max().item()
    assert mesh.norm.vmin == pytest.approx(np.percentile(rows.numpy(), 1))
    assert mesh.norm([mesh.norm.vmin, mesh.norm.vmax]).tolist() == [0, 1]
    assert mesh.colorbar.extend == "min"
    assert mesh.get_cmap().name == "viridis"
    assert not bar_of(figure).get_lines()
    assert len(bar_of(figure).get_yticks()) >= 3
    render(figure)


@pytest.mark.parametrize(("low", "high"), [(-25.0, 4.0), (-25.0, -1.0), (1.0, 25.0), (-4.0, 0.0)])
def test_colors_go_with_the_square_root_of_an_exponents_size(low: float, high: float) -> None:
    norm, values = root_norm(low, high), np.linspace(low, high, 7)
    size = np.where(values > 0, abs(high), abs(low)) if low < 0 < high else 1
    root = np.sign(values) * np.sqrt(np.abs(values) / size)
    expected = (root - root[0]) / (root[-1] - root[0])
    np.testing.assert_allclose(norm(values), expected, atol=1e-12)
    np.testing.assert_allclose(norm.inverse(norm(values)), values, atol=1e-12)


def test_small_exponents_of_a_wide_spectrum_can_be_told_apart() -> None:
    rows = torch.cat([torch.tensor([-0.02, -0.5]), torch.linspace(-1, -30, 510)]).repeat(3, 1)
    mesh = mesh_of(plot_history(EPOCHS, rows)[1])
    colors = mesh.get_cmap()(mesh.norm([-0.02, -0.5, -2]), bytes=True)[:, :3].astype(int)
    assert (np.abs(np.diff(colors, axis=0)).sum(1) > 40).all()


@pytest.mark.parametrize(
    ("low", "high", "some"),
    [(-28.0, 0.037, [-20, -5, 0, 0.02]), (-28.0, -0.16, [-20, -5, -0.5]), (2.1, 2.9, [2.2, 2.8])],
)
def test_ticks_of_the_scale_are_round_and_apart(low: float, high: float, some: list[float]) -> None:
    norm = root_norm(low, high)
    ticks = root_ticks(norm)
    assert set(some) <= set(ticks.round(9))
    assert 4 <= len(ticks) <= 11
    assert (np.diff(norm(ticks)) >= 0.085).all()
    assert low <= ticks[0] <= ticks[-1] <= high


def test_history_leaves_out_what_is_unresolved() -> None:
    rows, resolved = EXPONENTS.repeat(3, 1), torch.ones(3, 4, dtype=torch.bool)
    resolved[1:, 3] = False
    _, ax = plot_history(EPOCHS, rows, resolved, title="rnn")
    shown = mesh_of(ax).get_array().reshape(4, 3)
    assert np.ma.getmaskarray(shown).tolist()[3] == [False, True, True]
    assert np.ma.getmaskarray(shown).sum() == 2
    assert ax.get_title() == "rnn · gray: unresolved"
    assert plot_history(EPOCHS, rows, resolved | True)[1].get_title() == ""


def test_the_first_index_is_labelled_among_round_ones() -> None:
    _, ax = plot_history(EPOCHS, torch.linspace(0, -9, 512).repeat(3, 1))
    assert ax.get_yticks().tolist() == [1, 100, 200, 300, 400, 500]


def test_whole_epochs_are_labelled_where_there_are_many() -> None:
    _, ax = plot_history(torch.arange(15), torch.linspace(0, -9, 8).repeat(15, 1))
    assert all(tick.is_integer() for tick in ax.get_xticks())
    _, ax = plot_history(torch.arange(15) / 10, torch.linspace(0, -9, 8).repeat(15, 1))
    assert len(ax.get_xticks()) > 3


def test_words_can_be_read_at_the_width_tensorboard_shows() -> None:
    """It shows images 350 points wide."""
    for draw in DRAWINGS.values():
        figure, ax = draw()
        image = render(figure)
        scale = 350 / image.shape[1]
        assert 0.45 < scale < 0.55  # half: no smoothing is needed
        words = [ax.xaxis.label, ax.yaxis.label, *ax.get_xticklabels(), *ax.get_yticklabels()]
        assert all(word.get_fontsize() * figure.dpi / 72 * scale >= 9 for word in words)


def test_history_shows_infinite_exponents_apart_from_zero() -> None:
    rows = EXPONENTS.repeat(3, 1)
    rows[1:, 3] = -math.inf
    _, ax = plot_history(EPOCHS, rows, title="rnn")
    shown = mesh_of(ax).get_array().reshape(4, 3)
    assert np.ma.getmaskarray(shown).tolist()[3] == [False, True, True]
    assert np.ma.getmaskarray(shown).sum() == 2
    assert np.isfinite([mesh_of(ax).norm.vmin, mesh_of(ax).norm.vmax]).all()
    assert ax.get_facecolor()[:3] == (0.75, 0.75, 0.75)
    assert ax.get_title() == r"rnn · gray: $-\infty$ or NaN"


@pytest.mark.parametrize("shape", [(1, 4), (3, 1), (1, 1)])
def test_history_of_one_epoch_or_one_exponent(shape: tuple[int, int]) -> None:
    figure, ax = plot_history(EPOCHS[: shape[0]], EXPONENTS.repeat(3, 1)[: shape[0], : shape[1]])
    assert len(mesh_of(ax).get_array().reshape(-1)) == math.prod(shape)
    assert ax.get_yticks().tolist() == list(range(1, shape[1] + 1))
    render(figure)


def test_history_of_equal_values() -> None:
    figure, _ = plot_history(EPOCHS, torch.zeros(3, 4))
    render(figure)


@pytest.mark.filterwarnings("error")
@drawings
def test_rendering_gives_an_image(draw: Draw) -> None:
    image = render(draw()[0])
    assert image.dtype == np.uint8
    assert image.shape[2] == 4
    assert image.shape[1] > image.shape[0] > 300
    assert len(np.unique(image.reshape(-1, 4), axis=0)) > 10
    assert (image[..., 3] == 255).all()


def test_tensors_of_any_kind_are_drawn() -> None:
    """Half precision, tensors that require gradients, inference tensors."""
    with torch.inference_mode():
        inference = EXPONENTS.clone()
    for exponents in (EXPONENTS.half(), EXPONENTS.clone().requires_grad_(), inference):
        plot_spectrum(exponents, exponents.abs())
        plot_convergence(exponents[None], torch.tensor([1]))
        plot_history(torch.tensor([1]), exponents[None])


def test_png_holds_the_image(tmp_path: Path) -> None:
    image = render(plot_spectrum(EXPONENTS)[0])
    path = tmp_path / "new" / "spectrum.png"
    save_png(image, path)
    np.testing.assert_array_equal((imread(path) * 255).round().astype(np.uint8), image)
    assert [file.name for file in path.parent.iterdir()] == ["spectrum.png"]


@pytest.mark.parametrize("moment", ["writing", "replacing"])
def test_a_crash_while_saving_leaves_the_old_file(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def crash(file: Path, *args: Any, **options: Any) -> None:
        if moment == "writing":
            file.write_bytes(b"half of it")
        raise OSError("No space left on device")

    if moment == "writing":
        monkeypatch.setattr("matplotlib.image.imsave", crash)
    else:
        monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(OSError, match="No space left"):
        save_png(np.zeros((2, 2, 4), np.uint8), path)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@drawings
def test_missing_matplotlib_is_said_clearly(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str, package: str | None = None) -> Any:
        return None if name == "matplotlib" else find_spec(name, package)

    assert plotting.plotting_available()
    monkeypatch.setattr(plotting.canvas, "find_spec", absent)
    assert not plotting.plotting_available()
    with pytest.raises(ModuleNotFoundError, match=r"Expected matplotlib .*lightning-lyap\[plots\]"):
        draw()


WITHOUT_PYPLOT = """
import sys
import torch
from lightning_lyap import plotting
assert "matplotlib" not in sys.modules
x = torch.tensor([[0.5, -1.0], [0.2, -2.0]])
for figure, _ in (
    plotting.plot_spectrum(x[0], x[1].abs()),
    plotting.plot_convergence(x, torch.tensor([1, 2])),
    plotting.plot_history(torch.tensor([0, 1]), x),
):
    plotting.render(figure)
assert "matplotlib" in sys.modules
assert "matplotlib.pyplot" not in sys.modules
print("done")
"""


def test_neither_pyplot_nor_a_display_is_used() -> None:
    command, root = [sys.executable, "-c", WITHOUT_PYPLOT], Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout == "done\n", done.stderr


def test_labels_of_epochs_that_stand_close_do_not_overlap() -> None:
    _, ax = plot_history(torch.tensor([0.0, 1.0, 14.0, 28.0, 42.0, 56.0]), torch.zeros(6, 3))
    assert ax.get_xticks().tolist() == [1.0, 14.0, 28.0, 42.0, 56.0]
