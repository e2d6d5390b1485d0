"""A damaged file of spectra is refused by its path, read as it was written or not at all, kept."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_lyap import SpectrumHistory
from tests.bad_input.strategies import assert_refused, damaged, profile
from tests.sweep_runs import spectrum

Arrays = dict[str, Any]


def filled() -> SpectrumHistory:
    history = SpectrumHistory({"state": "full"})
    for epoch in range(3):
        history.append(epoch, 10 * epoch, spectrum([0.5 - epoch, -1.0, -2.5]), 0.25)
    history.record_failure(1, 10, "overflow")
    return history


def content_of(arrays: Arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return filled().save(tmp_path_factory.mktemp("whole") / "spectra.npz").read_bytes()


def arrays_of(content: bytes) -> Arrays:
    with np.load(io.BytesIO(content)) as archive:
        return dict(archive)


def assert_file_refused(path: Path, wrong: bytes) -> None:
    path.write_bytes(wrong)
    assert_refused(lambda: SpectrumHistory.load(path), str(path), (ValueError,))
    assert path.read_bytes() == wrong


@profile(200)
@given(st.data())
def test_cut_or_with_a_bit_turned_over(content: bytes, tmp_path: Path, data: st.DataObject) -> None:
    path, wrong = tmp_path / "spectra.npz", data.draw(damaged(content))
    path.write_bytes(wrong)
    try:
        got = SpectrumHistory.load(path)
    except ValueError:
        assert_file_refused(path, wrong)
    else:  # times and attributes of the archive's entries tell nothing of the spectra
        expected = filled().state_dict()
        for name, value in got.state_dict().items():
            same = value.equal(expected[name]) if torch.is_tensor(value) else None
            assert same or value == expected[name]


@profile(60)
@given(st.binary(max_size=300))
def test_bytes_of_any_kind(tmp_path: Path, wrong: bytes) -> None:
    assert_file_refused(tmp_path / "spectra.npz", wrong)


OTHERS: dict[str, Callable[[Any], Any]] = {
    "scalar": lambda a: np.asarray(1.5),
    "empty": lambda a: np.zeros(0),
    "text": lambda a: np.asarray("spectra"),
    "bytes": lambda a: np.asarray(b"spectra"),
    "list": lambda a: np.asarray("[1]"),
    "longer": lambda a: np.concatenate([np.atleast_1d(a), np.atleast_1d(a)]),
    "complex": lambda a: np.zeros(a.shape, complex),
    "record": lambda a: np.zeros(a.shape, [("a", int)]),
    "dates": lambda a: np.zeros(a.shape, "M8[D]"),
    "objects": lambda a: np.full(a.shape, None),
    "dimension": lambda a: a[None],
}
ENTRIES = (
    *("exponents", "std", "standard_errors", "margins", "resolved", "rounding_errors", "epochs"),
    *("steps", "seconds", "num_sequences", "tangent_size", "failures", "settings"),
)


@pytest.mark.parametrize("name", ENTRIES)
def test_without_an_entry(content: bytes, tmp_path: Path, name: str) -> None:
    arrays = arrays_of(content)
    del arrays[name]
    assert_file_refused(tmp_path / "spectra.npz", content_of(arrays))


@profile(130)
@given(st.sampled_from(ENTRIES), st.sampled_from(sorted(OTHERS)))
def test_with_an_entry_of_another_kind(
    content: bytes, tmp_path: Path, name: str, kind: str
) -> None:
    arrays = arrays_of(content)
    wrong = OTHERS[kind](arrays[name])
    if kind == "list" and name == "failures":
        wrong = np.asarray('[{"epoch": 1}]')
    if arrays[name].dtype.kind == "U" and kind in ("longer", "dimension"):
        wrong = np.asarray("{")
    assert_file_refused(tmp_path / "spectra.npz", content_of(arrays | {name: wrong}))


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": np.array([0.0, np.nan, 2.0])},
        {"epochs": np.array([0, 1, 2])},
        {"steps": np.array([0.0, 1.0, 2.0])},
        {"tangent_size": np.asarray(2)},
        {"tangent_size": np.asarray(-3)},
        {"exponents": np.zeros((3, 4))},
        {"exponents": np.zeros((3, 3), int)},
        {"resolved": np.ones((3, 3))},
        {"layer": np.zeros((3, 2), int)},
        {"layer": np.zeros((3, 3))},
    ],
)
def test_with_entries_that_do_not_fit_together(
    content: bytes, tmp_path: Path, change: Arrays
) -> None:
    assert_file_refused(tmp_path / "spectra.npz", content_of(arrays_of(content) | change))


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    missing = tmp_path / "spectra.npz"
    said = assert_refused(lambda: SpectrumHistory.load(missing), str(missing), (FileNotFoundError,))
    assert "save=True" in said
    missing.mkdir()
    assert_refused(lambda: SpectrumHistory.load(missing), str(missing), (ValueError,))


@pytest.mark.parametrize("path", [None, 3, 1.5, b"spectra.npz", ["spectra.npz"], io.BytesIO()])
def test_what_is_no_path(path: Any) -> None:
    assert_refused(lambda: SpectrumHistory.load(path), "`path`", (TypeError,))


@profile(60)
@given(st.sampled_from(ENTRIES), st.sampled_from([None, 3, "x", [], torch.zeros(1, 1, 1)]))
def test_a_saved_state_that_does_not_fit_changes_nothing(name: str, value: Any) -> None:
    history, state = filled(), filled().state_dict()
    before = json.dumps(history.settings), history.exponents(), list(history.epochs)
    if name == "tangent_size" and value == 3:
        value = 2
    state[name] = value
    assert_refused(lambda: history.load_state_dict(state), f"`{name}`", (ValueError,))
    assert json.dumps(history.settings) == before[0]
    assert history.exponents().equal(before[1])
    assert history.epochs == before[2]
