"""Damaged recordings and texts, and wrong arguments of the DataModules, are refused by name."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules import CharTextDataModule, MocapDataModule
from datamodules.recordings import NUM_COLUMNS, read_recording
from datamodules.text import read_text
from tests.bad_input.strategies import (
    assert_refused,
    bad_counts,
    bad_positives,
    bad_words,
    profile,
    turned,
)

LINE = ",".join(["-0.5"] * NUM_COLUMNS) + "\n"
RECORDINGS: dict[str, Callable[[int], str]] = {
    "word": lambda i: _with(i, "walk"),
    "empty value": lambda i: _with(i, ""),
    "nan": lambda i: _with(i, "nan"),
    "infinite": lambda i: _with(i, "-inf"),
    "overflow": lambda i: _with(i, "1e999"),
    "complex": lambda i: _with(i, "1+2j"),
    "comment": lambda i: _with(i, "#"),
    "two values": lambda i: _with(i, "1 2"),
    "one more": lambda i: _with(i, "1,2"),
    "fewer": lambda i: ",".join(["1"] * i) + "\n",
    "other separators": lambda i: LINE.replace(",", ";"),
    "second line cut": lambda i: LINE + ",".join(["1"] * max(i, 1)),
    "no line": lambda i: "\n" * i,
    "commented line": lambda i: LINE + "# " + LINE,
    "web page": lambda i: "<html>\n" * i,
}


def _with(column: int, value: str) -> str:
    """A line of which one value is another."""
    values = ["1.5"] * NUM_COLUMNS
    values[column] = value
    return LINE + ",".join(values) + "\n" + LINE


@profile(120)
@given(st.sampled_from(sorted(RECORDINGS)), st.integers(0, NUM_COLUMNS - 1))
def test_recordings(tmp_path: Path, kind: str, column: int) -> None:
    file = tmp_path / "walking_1.txt"
    file.write_text(RECORDINGS[kind](column))
    before = file.read_bytes()
    said = assert_refused(lambda: read_recording(file), str(file))
    assert "restore it in data_dir" in said
    assert file.read_bytes() == before


@profile(60)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_recording(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "walking_1.txt"
    file.write_bytes(content)
    assert_refused(lambda: read_recording(file), str(file))


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_recordings_and_texts_that_are_no_files(tmp_path: Path, kind: str) -> None:
    path = tmp_path if kind == "folder" else tmp_path / "nowhere.txt"
    assert_refused(lambda: read_recording(path), str(path), (FileNotFoundError,))
    assert_refused(lambda: read_text(path), str(path), (FileNotFoundError,))


def load(file: Path, sequence_length: int) -> None:
    data = CharTextDataModule(text=file, sequence_length=sequence_length)
    data.prepare_data()
    data.setup("fit")


@profile(60)
@given(st.integers(1, 20), st.data())
def test_texts_too_short_for_a_window_in_each_split(
    tmp_path: Path, length: int, data: st.DataObject
) -> None:
    file = tmp_path / "own.txt"
    file.write_text(data.draw(st.text("ab \n", max_size=9 * length)), encoding="utf-8")
    said = assert_refused(lambda: load(file, length), "sequence_length")
    assert str(file) in said


@profile(60)
@given(st.data())
def test_texts_that_are_no_utf8(tmp_path: Path, data: st.DataObject) -> None:
    file, content = tmp_path / "own.txt", ("Война и мир\n" * 20).encode()
    first = data.draw(st.integers(0, len(content) - 1))
    content = turned(content, 8 * first + 7)  # letters of two bytes become halves of such
    file.write_bytes(content)
    assert_refused(lambda: load(file, 2), str(file))
    assert file.read_bytes() == content


PATHS = st.sampled_from([3, 1.5, b"x", ["x"], object()])
SHARED: dict[str, st.SearchStrategy[Any]] = {
    "source": bad_words("auto", "real", "synthetic"),
    "data_dir": st.one_of(PATHS, st.just("")),
    "cache_dir": PATHS,
    "mirror": st.sampled_from(["", "mirror", "ftp://mirror", "/folder", 3, ["http://a"]]),
    "batch_size": bad_counts(1),
    "num_workers": bad_counts(0),
}
OF_TEXT = SHARED | {
    "text": PATHS,
    "sequence_length": bad_counts(1),
    "seed": bad_counts(0),
}
OF_MOCAP = SHARED | {
    "actions": st.sampled_from([[], None, 3, "running", ["walking", "walking"], [3], {}]),
    "window": bad_counts(1),
    "num_features": bad_counts(1),
    "min_std": st.sampled_from([-1.0, math.nan, "1", None, 1j, True, [1.0], -math.inf]),
    "train_fraction": st.one_of(bad_positives(), st.floats(min_value=1.0), st.none()),
}


@profile(120)
@given(st.sampled_from([(CharTextDataModule, OF_TEXT), (MocapDataModule, OF_MOCAP)]), st.data())
def test_arguments(module: tuple[Any, dict[str, Any]], data: st.DataObject) -> None:
    kind, arguments = module
    name = data.draw(st.sampled_from(sorted(arguments)))
    setting = {name: data.draw(arguments[name])}
    assert_refused(lambda: kind(**setting), name)


@profile(60)
@given(st.one_of(bad_counts(1), st.integers(10**6, 10**30)), st.booleans())
def test_held_out_sequences(text: CharTextDataModule, count: Any, of_steps: bool) -> None:
    asked = {"num_sequences": 2, "num_steps": 3} | {
        "num_steps" if of_steps else "num_sequences": count
    }
    said = assert_refused(lambda: text.lyapunov_sequences(**asked), "Expected")
    assert ("num_steps" if of_steps else "num_sequences") in said or "longer text" in said


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> CharTextDataModule:
    file = tmp_path_factory.mktemp("text") / "own.txt"
    file.write_text("abcd" * 100)
    data = CharTextDataModule(text=file, sequence_length=4)
    data.prepare_data()
    data.setup("fit")
    return data


def test_splits_have_three_names(text: CharTextDataModule) -> None:
    assert_refused(lambda: text.split("validation"), "name")


def test_integers_of_numpy_are_numbers(text: CharTextDataModule) -> None:
    two: Any = np.int64(2)
    assert text.lyapunov_sequences(two, two).shape == (2, 2)
    assert type(CharTextDataModule(batch_size=two).hparams["batch_size"]) is int
    assert type(MocapDataModule(window=two).hparams["window"]) is int


def test_good_files_in_other_clothes_are_read(tmp_path: Path) -> None:
    file = tmp_path / "walking_1.txt"
    file.write_bytes(LINE.replace("\n", "\r\n").encode() + LINE.encode()[:-1])
    assert read_recording(file).shape == (2, NUM_COLUMNS)
