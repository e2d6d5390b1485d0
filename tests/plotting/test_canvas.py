"""What all figures share: their own axes, units, an image of any tensors, and no display."""

import math
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

from lightning_lyap import plotting
from lightning_lyap.plotting import (
    plot_convergence,
    plot_history,
    plot_spectrum,
    render,
    save_png,
)
from lightning_lyap.plotting.canvas import EXPONENT_LABEL
from tests.plotting.drawings import DRAWINGS, EXPONENTS, Draw, drawings


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


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_nothing_finite_gives_an_empty_figure(value: float) -> None:
    nothing = torch.full((3,), value)
    for figure, _ in (
        plot_spectrum(nothing, nothing, torch.zeros(3, dtype=torch.bool)),
        plot_convergence(nothing.repeat(2, 1), torch.tensor([1, 2])),
        plot_history(torch.arange(2), nothing.repeat(2, 1)),
    ):
        render(figure)


def test_words_can_be_read_at_the_width_tensorboard_shows() -> None:
    """It shows images 350 points wide."""
    for draw in DRAWINGS.values():
        figure, ax = draw()
        image = render(figure)
        scale = 350 / image.shape[1]
        assert 0.45 < scale < 0.55  # half: no smoothing is needed
        words = [ax.xaxis.label, ax.yaxis.label, *ax.get_xticklabels(), *ax.get_yticklabels()]
        assert all(word.get_fontsize() * figure.dpi / 72 * scale >= 9 for word in words)


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
    command, root = [sys.executable, "-c", WITHOUT_PYPLOT], Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout == "done\n", done.stderr
