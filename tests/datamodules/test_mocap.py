"""Frames: scaled by training frames only, cut so that nothing held out is ever trained on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules import MocapDataModule

REAL_COLUMNS = [*range(6), *range(9, 14), *range(15, 20), *range(27, 31)]
LENGTHS = {"train": (40, 25, 30, 12, 20), "test": (50,)}


def _marked_frames(number: int, num_frames: int) -> Any:
    """Count frames in column 1, shrunk in 2; every frame of every recording has its own number."""
    frames = np.zeros((num_frames, 117))
    frames[:, 1] = 1000 * number + np.arange(num_frames)
    frames[:, 2] = 0.01 * frames[:, 1] ** 2
    frames[int(0.8 * num_frames) :, 4] = 100.0
    return frames


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Six recordings of walking whose column 4 moves in held-out frames only."""
    number = 0
    for split, lengths in LENGTHS.items():
        folder = tmp_path / "cmu_mocap" / split / "walking"
        folder.mkdir(parents=True)
        for index, num_frames in enumerate(lengths, start=1):
            number += 1
            frames = _marked_frames(number, num_frames)
            np.savetxt(folder / f"walking_{index}.txt", frames, delimiter=",")
    return tmp_path


def _ready(folder: Path, **arguments: Any) -> MocapDataModule:
    chosen = {"actions": ["walking"], "window": 3, "num_features": 2, **arguments}
    data = MocapDataModule(data_dir=folder, source="real", **chosen)
    data.prepare_data()
    data.setup("fit")
    return data


def _train_std(columns: list[int]) -> torch.Tensor:
    lengths = [*LENGTHS["train"], *LENGTHS["test"]]
    parts = [_marked_frames(i + 1, n)[: int(0.8 * n)] for i, n in enumerate(lengths)]
    return torch.from_numpy(np.concatenate(parts).std(axis=0)[columns])


def _numbers(data: MocapDataModule, frames: torch.Tensor) -> torch.Tensor:
    """Read the marks of scaled frames."""
    return (frames[..., 0].double() * _train_std([1])).round().long()


def test_describes_itself(tree: Path) -> None:
    data = _ready(tree)
    assert (data.resolved_source, data.num_recordings, data.num_frames) == ("real", 6, 177)
    assert (data.columns, data.num_usable_columns, data.num_features) == ([1, 2], 2, 2)


def test_scaled_by_training_frames_without_centering(tree: Path) -> None:
    data = _ready(tree)
    inputs, _ = data.split("train").tensors
    assert inputs.dtype == torch.float32
    first = torch.from_numpy(_marked_frames(6, 50)[:3, [1, 2]]) / _train_std([1, 2])
    # Files are read in alphabetical order of their names: the one called test comes first.
    torch.testing.assert_close(inputs[0], first.float())


def test_no_frame_is_in_both_splits(tree: Path) -> None:
    data = _ready(tree)
    train, held_out = (
        set(_numbers(data, torch.cat([x.flatten(0, 1), y])).tolist())
        for x, y in (data.split(name).tensors for name in ("train", "val"))
    )
    assert not train & held_out
    expected = {n * 1000 + f for n, size in ((1, 40), (6, 50)) for f in range(int(0.8 * size))}
    assert expected <= train
    assert {6040 + frame for frame in range(10)} <= held_out


def test_windows_cross_no_border_and_targets_come_next(tree: Path) -> None:
    data = _ready(tree)
    for name in ("train", "val"):
        inputs, targets = data.split(name).tensors
        assert inputs.shape[1:] == (3, 2)
        numbers = torch.cat([_numbers(data, inputs), _numbers(data, targets)[:, None]], dim=1)
        assert (numbers.diff(dim=1) == 1).all()
        recordings = numbers // 1000
        assert (recordings == recordings[:, :1]).all()
    counts = [(32, 8), (20, 5), (24, 6), (9, 3), (16, 4), (40, 10)]
    expected = [sum(max(0, count[i] - 3) for count in counts) for i in (0, 1)]
    assert [len(data.split(name)) for name in ("train", "val")] == expected


def test_test_split_is_the_validation_split(tree: Path) -> None:
    data = _ready(tree)
    assert data.split("test") is data.split("val")


def test_baselines_are_those_of_their_definition(tree: Path) -> None:
    data = _ready(tree)
    inputs, targets = data.split("val").tensors
    copied = ((targets - inputs[:, -1]) ** 2).mean().item()
    lengths = [*LENGTHS["train"], *LENGTHS["test"]]
    parts = [_marked_frames(i + 1, n)[: int(0.8 * n)] for i, n in enumerate(lengths)]
    mean = torch.from_numpy(np.concatenate(parts).mean(axis=0)[[1, 2]]) / _train_std([1, 2])
    constant = ((targets - mean) ** 2).mean().item()
    assert data.baselines() == pytest.approx({"constant": constant, "copy_last": copied})


def test_lyapunov_sequences_are_held_out_and_do_not_overlap(tree: Path) -> None:
    data = _ready(tree)
    sequences = data.lyapunov_sequences(7, 4)
    assert sequences.shape == (7, 4, 2)
    numbers = _numbers(data, sequences)
    assert (numbers.diff(dim=1) == 1).all()
    assert numbers.unique().numel() == numbers.numel()
    _, targets = data.split("train").tensors
    assert not set(numbers.flatten().tolist()) & set(_numbers(data, targets).tolist())
    assert (numbers[:5, 0] // 1000).unique().numel() == 5
    assert torch.equal(sequences, data.lyapunov_sequences(7, 4))


def test_too_few_lyapunov_sequences_name_the_remedy(tree: Path) -> None:
    data = _ready(tree)
    message = r"at most 1 sequences of 9 .*num_sequences=2\. Use fewer or shorter .*holds 10 such"
    with pytest.raises(ValueError, match=message):
        data.lyapunov_sequences(2, 9)
    with pytest.raises(ValueError, match="num_sequences"):
        data.lyapunov_sequences(0, 9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"actions": ["walking", "flying"]}, r"Expected actions .*but got .*flying"),
        ({"actions": []}, "Expected actions"),
        ({"actions": ["walking", "walking"]}, "Expected actions"),
        ({"train_fraction": 1.0}, "Expected train_fraction .*but got 1.0"),
        ({"train_fraction": float("nan")}, "Expected train_fraction"),
        ({"min_std": -1.0}, "Expected min_std"),
        ({"window": 0}, "Expected window"),
        ({"num_features": 0}, "Expected num_features"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MocapDataModule(**arguments)


def test_too_many_features_or_too_long_windows(tree: Path) -> None:
    with pytest.raises(ValueError, match=r"Expected at least 3 columns .*but got 2"):
        _ready(tree, num_features=3)
    with pytest.raises(ValueError, match=r"more than 30 frames .*got at most 10\. Use a shorter"):
        _ready(tree, window=30)


def test_damaged_recording_is_named(tree: Path) -> None:
    path = tree / "cmu_mocap" / "train" / "walking" / "walking_2.txt"
    path.write_text(path.read_text() + "1,2,3\n")
    with pytest.raises(ValueError, match=r"walking_2.txt"):
        _ready(tree)


def test_missing_recording_is_named(tree: Path) -> None:
    (tree / "cmu_mocap" / "train" / "walking" / "walking_2.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"walking_2.txt .*1 of 6 files missing"):
        _ready(tree)


def test_hydra_lists_become_plain(tree: Path) -> None:
    assert _ready(tree, actions=("walking",)).hparams["actions"] == ["walking"]


def test_stand_in_filters_the_same_columns() -> None:
    data = MocapDataModule(source="synthetic")
    data.prepare_data()
    data.setup("fit")
    assert (data.columns, data.num_usable_columns) == (REAL_COLUMNS, 70)
    baselines = data.baselines()
    assert baselines["copy_last"] < 0.02 < 0.5 < baselines["constant"] < 2.0


def test_cmu_mocap(real_data: Path) -> None:
    data = MocapDataModule(data_dir=real_data, source="real")
    data.prepare_data()
    data.setup("fit")
    assert (data.num_recordings, data.num_frames, data.num_usable_columns) == (24, 13_944, 70)
    assert data.columns == REAL_COLUMNS
    assert [len(data.split(name)) for name in ("train", "val")] == [10_544, 2200]
    assert data.baselines() == pytest.approx({"constant": 1.1788, "copy_last": 0.0067}, abs=1e-4)
    assert data.lyapunov_sequences(15, 100).shape == (15, 100, 20)
    with pytest.raises(ValueError, match="at most 15 sequences"):
        data.lyapunov_sequences(16, 100)
