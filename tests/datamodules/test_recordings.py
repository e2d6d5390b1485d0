"""Recordings as tensors: damaged files are refused, windows stay within their part."""

from pathlib import Path

import pytest
import torch

from datamodules.recordings import (
    NUM_COLUMNS,
    cut,
    measure,
    non_overlapping,
    read_recording,
    spread,
    windows,
)


def _line(value: float, columns: int = NUM_COLUMNS) -> str:
    return ",".join([str(value)] * columns) + "\n"


def test_reads_numbers(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text(_line(1.5) + _line(-0.0))
    frames = read_recording(tmp_path / "good.txt")
    assert frames.dtype == torch.float64
    assert frames.tolist() == [[1.5] * NUM_COLUMNS, [0.0] * NUM_COLUMNS]


@pytest.mark.parametrize(
    "content",
    [_line(1) + _line(1, 116), _line(1, 20), _line(1) + _line(float("nan")), "<html>\n"],
    ids=["ragged", "narrow", "nan", "words"],
)
def test_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.txt").write_text(content)
    with pytest.raises(ValueError, match=r"Expected .*bad.txt to hold 117 .*but got .*Delete"):
        read_recording(tmp_path / "bad.txt")


def test_cut_loses_nothing() -> None:
    frames = torch.arange(11.0)[:, None]
    first, rest = cut(frames, 0.8)
    assert len(first) == 8
    assert torch.equal(torch.cat([first, rest]), frames)


def test_measures_the_first_columns_that_move() -> None:
    frames = torch.zeros(4, NUM_COLUMNS, dtype=torch.float64)
    frames[:, 3] = torch.tensor([1.0, -1, 1, -1])
    frames[:, 5] = torch.tensor([5.0, 9, 5, 9])
    frames[:, 7] = 1e-5 * frames[:, 3]
    frames[:, 9] = 1.0
    statistics = measure([frames[:2], frames[2:]], 1e-4, 2)
    assert statistics.columns.tolist() == [3, 5]
    assert statistics.num_usable == 2
    assert statistics.scale(frames)[:, 1].tolist() == [2.5, 4.5, 2.5, 4.5]
    with pytest.raises(ValueError, match=r"Expected at least 3 columns .*but got 2\. Use fewer"):
        measure([frames], 1e-4, 3)


def test_windows_of_stride_one_within_parts() -> None:
    parts = [torch.arange(4.0)[:, None], torch.tensor([[50.0]]), torch.arange(10.0, 13.0)[:, None]]
    assert windows(parts, 3)[..., 0].tolist() == [[0, 1, 2], [1, 2, 3], [10, 11, 12]]
    assert windows(parts, 9).shape == (0, 9, 1)


def test_spreads_over_parts_before_it_takes_a_second_window() -> None:
    parts = [torch.arange(start, start + size) for start, size in ((0, 7), (100, 3), (200, 2))]
    rounds = non_overlapping(parts, 2)
    starts = [[int(window[0]) for window in candidates] for candidates in rounds]
    assert starts == [[0, 100, 200], [2], [4]]
    assert [int(window[0]) for window in spread(rounds, 2)] == [0, 100]
    assert [int(window[0]) for window in spread(rounds, 4)] == [0, 100, 200, 2]
    assert non_overlapping(parts, 8) == []
