"""The map of exponents over epochs: every value at its place, zero white, the unknown gray."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from lightning_lyap.plotting import plot_history, render
from tests.plotting.drawings import EPOCHS, EXPONENTS, bar_of


def mesh_of(ax: Any) -> Any:
    return ax.collections[0]


def assert_gray(ax: Any) -> None:
    """Fail unless the last of four exponents is left out from the second of three epochs on."""
    gray = np.ma.getmaskarray(mesh_of(ax).get_array().reshape(4, 3))
    assert gray.tolist()[3] == [False, True, True]
    assert gray.sum() == 2


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


def test_small_exponents_of_a_wide_spectrum_can_be_told_apart() -> None:
    rows = torch.cat([torch.tensor([-0.02, -0.5]), torch.linspace(-1, -30, 510)]).repeat(3, 1)
    mesh = mesh_of(plot_history(EPOCHS, rows)[1])
    colors = mesh.get_cmap()(mesh.norm([-0.02, -0.5, -2]), bytes=True)[:, :3].astype(int)
    assert (np.abs(np.diff(colors, axis=0)).sum(1) > 40).all()


def test_history_leaves_out_what_is_unresolved() -> None:
    rows, resolved = EXPONENTS.repeat(3, 1), torch.ones(3, 4, dtype=torch.bool)
    resolved[1:, 3] = False
    _, ax = plot_history(EPOCHS, rows, resolved, title="rnn")
    assert_gray(ax)
    assert ax.get_title() == "rnn · gray: unresolved"
    assert plot_history(EPOCHS, rows, resolved | True)[1].get_title() == ""


def test_history_hatches_what_has_not_settled() -> None:
    settled = torch.ones(3, 4, dtype=torch.bool)
    settled[0, 1:3] = settled[2, 0] = settled[2, 3] = False
    resolved = torch.ones(3, 4, dtype=torch.bool)
    resolved[2, 3] = False
    figure, ax = plot_history(EPOCHS, EXPONENTS.repeat(3, 1), resolved, settled=settled)
    hatched = [path.get_extents().extents.tolist() for path in ax.collections[1].get_paths()]
    assert hatched == [[-0.5, 1.5, 0.5, 3.5], [2.0, 0.5, 4.0, 1.5]]
    assert ax.collections[1].get_hatch() == "////"
    assert ax.get_title() == "gray: unresolved · hatched: not settled"
    assert ax.get_ylim() == (4.5, 0.5)
    render(figure)


def test_the_first_index_is_labelled_among_round_ones() -> None:
    _, ax = plot_history(EPOCHS, torch.linspace(0, -9, 512).repeat(3, 1))
    assert ax.get_yticks().tolist() == [1, 100, 200, 300, 400, 500]


def test_whole_epochs_are_labelled_where_there_are_many() -> None:
    _, ax = plot_history(torch.arange(15), torch.linspace(0, -9, 8).repeat(15, 1))
    assert all(tick.is_integer() for tick in ax.get_xticks())
    _, ax = plot_history(torch.arange(15) / 10, torch.linspace(0, -9, 8).repeat(15, 1))
    assert len(ax.get_xticks()) > 3


def test_history_shows_infinite_exponents_apart_from_zero() -> None:
    rows = EXPONENTS.repeat(3, 1)
    rows[1:, 3] = -math.inf
    _, ax = plot_history(EPOCHS, rows, title="rnn")
    assert_gray(ax)
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


def test_labels_of_epochs_that_stand_close_do_not_overlap() -> None:
    _, ax = plot_history(torch.tensor([0.0, 1.0, 14.0, 28.0, 42.0, 56.0]), torch.zeros(6, 3))
    assert ax.get_xticks().tolist() == [1.0, 14.0, 28.0, 42.0, 56.0]
