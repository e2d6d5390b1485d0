"""The stand-in motion: always the same, in the real format, smooth and predictable."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from datamodules.fetching import registry
from datamodules.recordings import read_recording
from datamodules.synthetic_motion import NUM_COLUMNS, generate_recording, write_motion

# Constant in the real recordings.
SOME_CONSTANT_COLUMNS = [6, 7, 8, 14, 20, 26, 32, 41, 60, 65, 69, 87, 92, 108, 116]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("motion")
    write_motion(path)
    return path


def _digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def test_two_generations_are_equal(folder: Path, tmp_path: Path) -> None:
    write_motion(tmp_path)
    assert _digest(tmp_path) == _digest(folder)


def test_seeds_and_recordings_differ() -> None:
    first = generate_recording("walking", 0, 100)
    assert not np.allclose(first, generate_recording("walking", 1, 100))
    assert not np.allclose(first, generate_recording("walking", 0, 100, seed=1))


def test_has_the_files_and_lengths_of_the_real_recordings(folder: Path) -> None:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*.txt")}
    assert names == {name for name in registry() if name.startswith("cmu_mocap/")}
    lengths = [len(read_recording(folder / name)) for name in names]
    assert sum(lengths) == 13_944
    assert max(lengths) == 2086


def test_lengths_are_those_of_the_real_files(folder: Path, real_data: Path) -> None:
    for name in (name for name in registry() if name.startswith("cmu_mocap/")):
        ours, theirs = ((root / name).read_bytes().count(b"\n") for root in (folder, real_data))
        assert ours == theirs


def test_moves_70_columns_smoothly() -> None:
    frames = generate_recording("jumping", 5, 2086)
    assert frames.shape == (2086, NUM_COLUMNS)
    std = frames.std(axis=0)
    moving = std > 1e-4
    assert moving.sum() == 70
    assert not moving[SOME_CONSTANT_COLUMNS].any()
    steps = np.diff(frames[:, moving], axis=0) / std[moving]
    jerks = np.diff(frames[:, moving], n=3, axis=0) / std[moving]
    assert np.abs(steps).max() < 0.5
    assert np.abs(jerks).max() < 0.05


def test_never_returns_to_the_same_frame() -> None:
    frames = generate_recording("walking", 0, 600)[:, [9, 27, 42, 66, 93]]
    distances = np.linalg.norm(frames[:, None] - frames[None], axis=-1)
    far_apart = np.triu(np.ones_like(distances, dtype=bool), k=60)
    assert distances[far_apart].min() > 1e-3
