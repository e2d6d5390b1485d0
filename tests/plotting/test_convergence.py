"""The figure of running exponents against the steps."""

import numpy as np
import torch

from lightning_lyap.plotting import plot_convergence, render
from lightning_lyap.plotting.canvas import MAX_LINES
from tests.plotting.drawings import EXPONENTS, STEPS, bar_of


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


def test_convergence_dashes_what_has_not_settled() -> None:
    settled = torch.tensor([True, False, True, True])
    _, ax = plot_convergence(torch.randn(3, 4), STEPS, settled=settled, title="epoch 3")
    assert [line.get_linestyle() for line in ax.get_lines()[:4]] == ["-", "--", "-", "-"]
    assert ax.get_title() == "epoch 3 · dashed: not settled"


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
