"""Files of spectra: written whole, numbers and text alone, and refused where they are not."""

import json
import math
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_lyap import SpectrumHistory, __version__
from lightning_lyap.estimator.result import VECTORS
from lightning_lyap.history.saved_state import LATER
from tests.histories import SETTINGS, assert_same, filled


def test_the_file_holds_numbers_and_text_alone(tmp_path: Path) -> None:
    path = filled().save(tmp_path / "spectra.npz")
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    assert set(arrays) == {
        *VECTORS,
        *(
            "epochs",
            "steps",
            "seconds",
            "num_sequences",
            "num_steps",
            "warmup_steps",
            "overlap",
            "steps_to_settle",
            "statistic_errors",
            "tangent_size",
        ),
        *("failures", "settings", "version"),
    }
    assert arrays["exponents"].shape == (3, 4)
    assert all(array.dtype.kind in "fibU" for array in arrays.values())
    assert str(arrays["version"]) == __version__
    assert json.loads(str(arrays["settings"])) == SETTINGS


@pytest.mark.parametrize(
    ("given", "written"), [("a.npz", "a.npz"), ("a", "a.npz"), ("run.v2", "run.v2.npz")]
)
def test_the_path_written_is_returned(given: str, written: str, tmp_path: Path) -> None:
    """Folders are made, and the suffix is added to names that lack it, dots in them or not."""
    path = filled().save(str(tmp_path / "new" / "folder" / given))
    assert path == tmp_path / "new" / "folder" / written
    assert [file.name for file in path.parent.iterdir()] == [written]


@pytest.mark.parametrize("moment", ["writing", "replacing"])
def test_a_crash_while_saving_leaves_the_old_file(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "spectra.npz"
    old = filled(1)
    old.save(path)

    def crash(file: Any, *args: Any, **arrays: Any) -> None:
        if moment == "writing":
            file.write(b"half of it")
        raise OSError("No space left on device")

    if moment == "writing":
        monkeypatch.setattr(np, "savez", crash)
    else:
        monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(OSError, match="No space left"):
        filled(3).save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["spectra.npz"]
    assert_same(SpectrumHistory.load(path), old)


def text(path: Path) -> None:
    path.write_text("epoch,max\n1,0.5\n")


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"exponents": [1.0]}))


def array(path: Path) -> None:
    np.save(path.open("wb"), np.zeros(3))


def archive_of_others(path: Path) -> None:
    np.savez(path, weights=np.zeros(3))


def archive_of_objects(path: Path) -> None:
    filled().save(path)
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **arrays | {"settings": np.array({"state": "full"}, dtype=object)})


def archive_of_text(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("settings", "{}")


def truncated(path: Path) -> None:
    filled().save(path)
    path.write_bytes(path.read_bytes()[:-40])


def altered(path: Path) -> None:
    filled().save(path)
    content = bytearray(path.read_bytes())
    content[200] ^= 0xFF
    path.write_bytes(content)


def without_rows(path: Path) -> None:
    filled().save(path)
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files if name != "std"}
    np.savez(path, **arrays)


def with_a_row_missing(path: Path) -> None:
    filled().save(path)
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **arrays | {"resolved": arrays["resolved"][:-1]})


def empty(path: Path) -> None:
    path.touch()


BROKEN = [
    *(text, pickled, array, archive_of_others, archive_of_objects, archive_of_text),
    *(truncated, altered, without_rows, with_a_row_missing, empty, Path.mkdir),
]


@pytest.mark.parametrize("make", BROKEN, ids=lambda make: make.__name__)
def test_what_is_no_such_file_is_refused_by_its_path(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "foreign.npz"
    make(path)
    with pytest.raises(ValueError, match=r"Expected '.*foreign\.npz' to be a file of spectra"):
        SpectrumHistory.load(path)


class Trap:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_nothing_in_a_file_is_ever_run(tmp_path: Path) -> None:
    path, mark = filled().save(tmp_path / "spectra.npz"), tmp_path / "mark"
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **arrays | {"settings": np.array(Trap(mark), dtype=object)})
    with pytest.raises(ValueError, match="to be a file of spectra"):
        SpectrumHistory.load(path)
    assert not mark.exists()


@pytest.mark.parametrize("name", sorted(LATER))
def test_a_file_with_one_array_lost_is_not_taken_for_an_older_one(name: str) -> None:
    state = filled().state_dict()
    del state[name]
    with pytest.raises(ValueError, match=f"Expected a tensor `{name}`"):
        SpectrumHistory().load_state_dict(state)


def test_a_file_of_an_earlier_version_tells_what_it_holds() -> None:
    state = {name: value for name, value in filled().state_dict().items() if name not in LATER}
    older = SpectrumHistory()
    older.load_state_dict(state)
    assert older.exponents().equal(filled().exponents())
    assert not any(bool(spectrum.settled.any()) for spectrum in older.spectra)
    assert all(math.isnan(spectrum.num_steps) for spectrum in older.spectra)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        SpectrumHistory.load(tmp_path / "nowhere.npz")


def test_loaded_and_plotted_with_two_lines(tmp_path: Path) -> None:
    path = filled().save(tmp_path / "spectra.npz")

    history = SpectrumHistory.load(path)
    figure, ax = history.plot()

    values = ax.collections[0].get_array()
    shown = np.ma.getdata(values)[~np.ma.getmaskarray(values)]
    expected = history.exponents().numpy()
    np.testing.assert_array_equal(np.sort(shown), np.sort(expected[np.isfinite(expected)]))
    assert ax.figure is figure
