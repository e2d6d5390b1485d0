"""A bar for each module, gone at the end, whatever happens."""

from typing import Any

import pytest

from lightning_lyap.callback import progress_bar
from lightning_lyap.callback.progress_bar import DELAY_SECONDS, spectrum_progress


class Bar:
    """Stands in for tqdm and remembers."""

    made: list["Bar"]

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.done = 0
        self.closed = False
        Bar.made.append(self)

    def update(self) -> None:
        assert not self.closed
        self.done += 1

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[Bar]:
    Bar.made = []
    monkeypatch.setattr(progress_bar, "tqdm", Bar)
    return Bar.made


def test_a_bar_for_each_module_in_turn(bars: list[Bar]) -> None:
    with spectrum_progress(shown=True) as show:
        for done in (1, 2, 3):
            show("encoder", done, 3)
        assert not bars[0].closed
        show("decoder", 1, 5)
        assert bars[0].closed
    assert [bar.done for bar in bars] == [3, 1]
    assert [bar.options["total"] for bar in bars] == [3, 5]
    assert [bar.options["desc"] for bar in bars] == [
        "Lyapunov spectrum of encoder",
        "Lyapunov spectrum of decoder",
    ]
    assert all(bar.closed for bar in bars)


def test_bars_stay_out_of_the_way(bars: list[Bar]) -> None:
    """None for what is quick, none left behind, none where progress is not shown."""
    for shown in (True, False):
        with spectrum_progress(shown) as show:
            show("rnn", 1, 1)
        assert bars[-1].options["disable"] is not shown
        assert bars[-1].options["delay"] == DELAY_SECONDS > 0
        assert bars[-1].options["leave"] is False


def test_the_bar_goes_when_a_measurement_fails(bars: list[Bar]) -> None:
    def fail() -> None:
        with spectrum_progress(shown=True) as show:
            show("rnn", 1, 9)
            raise RuntimeError("measurement failed")

    with pytest.raises(RuntimeError, match="measurement failed"):
        fail()
    assert bars[0].closed


def test_nothing_measured_shows_nothing(bars: list[Bar]) -> None:
    with spectrum_progress(shown=True):
        pass
    assert bars == []


def test_with_the_real_bar_nothing_is_written_in_the_first_moments(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with spectrum_progress(shown=True) as show:
        for done in range(1, 50):
            show("rnn", done, 49)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
