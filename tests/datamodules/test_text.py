"""Characters: encoded without loss, predicted one on, cut without overlap."""

from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules import CharTextDataModule
from datamodules.text import encode, read_text

# Every character differs from all others, so that its place is known wherever it turns up.
MARKED_TEXT = "".join(map(chr, range(0x4E00, 0x4E00 + 1037)))


def _ready(tmp_path: Path, text: str = MARKED_TEXT, **arguments: Any) -> CharTextDataModule:
    (tmp_path / "own.txt").write_text(text, encoding="utf-8", newline="")
    data = CharTextDataModule(text=tmp_path / "own.txt", **arguments)
    data.prepare_data()
    data.setup("fit")
    return data


def test_encodes_any_character_in_order_of_code_points() -> None:
    vocabulary, tokens = encode("né\U0001f40en\r\n")
    assert vocabulary == ("\n", "\r", "n", "é", "\U0001f40e")
    assert "".join(vocabulary[token] for token in tokens) == "né\U0001f40en\r\n"
    assert tokens.dtype == torch.int64


def test_own_text_is_a_file(tmp_path: Path) -> None:
    data = _ready(tmp_path, "a\r\nb" * 500, sequence_length=10)
    assert data.resolved_source == "file"
    assert data.vocabulary == ("\n", "\r", "a", "b")
    assert (data.vocab_size, data.num_characters) == (4, 2000)


def test_targets_are_the_next_characters(tmp_path: Path) -> None:
    data = _ready(tmp_path, sequence_length=10)
    for name in ("train", "val", "test"):
        inputs, targets = data.split(name).tensors
        assert inputs.dtype == targets.dtype == torch.int64
        assert torch.equal(targets, inputs + 1)


def test_splits_are_80_10_10_in_order_and_disjoint(tmp_path: Path) -> None:
    data = _ready(tmp_path, sequence_length=10)
    bounds = {"train": (0, 829), "val": (829, 933), "test": (933, 1037)}
    for name, (start, end) in bounds.items():
        inputs, targets = data.split(name).tensors
        assert inputs.min() == start
        assert end - 10 <= targets.max() < end
        assert inputs.flatten().tolist() == list(range(start, start + inputs.numel()))


def test_only_the_ragged_tail_is_left_out(tmp_path: Path) -> None:
    data = _ready(tmp_path, MARKED_TEXT[:1000], sequence_length=33)
    assert [len(data.split(name)) for name in ("train", "val", "test")] == [24, 3, 3]


def test_lyapunov_sequences_are_held_out_and_even(tmp_path: Path) -> None:
    data = _ready(tmp_path, sequence_length=10)
    sequences = data.lyapunov_sequences(4, 20)
    assert sequences.shape == (4, 20)
    assert sequences.dtype == torch.int64
    assert sequences[:, 0].tolist() == [933, 959, 985, 1011]
    assert torch.equal(sequences.diff(dim=1), torch.ones(4, 19, dtype=torch.int64))
    assert torch.equal(sequences, data.lyapunov_sequences(4, 20))
    assert data.lyapunov_sequences(104, 1).unique().numel() == 104
    with pytest.raises(ValueError, match=r"at most 104 characters.*21 sequences of 5 .*fewer"):
        data.lyapunov_sequences(21, 5)


def test_too_short_a_text_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"more than 110 characters .*but got 104.*longer text"):
        _ready(tmp_path, sequence_length=110)


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("né".encode("latin-1"))
    with pytest.raises(ValueError, match=r"Expected .*latin.txt to be a text in UTF-8, but got"):
        read_text(tmp_path / "latin.txt")


@pytest.mark.parametrize("arguments", [{"sequence_length": 0}, {"seed": -1}])
def test_bad_arguments_are_named(arguments: dict[str, int]) -> None:
    (name,) = arguments
    with pytest.raises(ValueError, match=f"Expected {name} to be .*but got"):
        CharTextDataModule(**arguments)  # type: ignore[arg-type]


def test_missing_text_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Expected text to name .*own.txt"):
        CharTextDataModule(text=tmp_path / "own.txt")


def test_seed_draws_another_stand_in() -> None:
    first, second = (CharTextDataModule(source="synthetic", seed=seed) for seed in (0, 1))
    for data in (first, second):
        data.prepare_data()
        data.setup("fit")
    assert not torch.equal(first.lyapunov_sequences(2, 50), second.lyapunov_sequences(2, 50))


def test_war_and_peace(real_data: Path) -> None:
    data = CharTextDataModule(data_dir=real_data, source="real")
    data.prepare_data()
    data.setup("fit")
    assert data.resolved_source == "real"
    assert (data.num_characters, data.vocab_size) == (3_202_303, 82)
    assert [len(data.split(name)) for name in ("train", "val", "test")] == [25_618, 3202, 3202]
    assert data.lyapunov_sequences(10, 500).shape == (10, 500)
    opening = data.split("train").tensors[0][0]
    assert "".join(data.vocabulary[token] for token in opening).startswith('CHAPTER I\n\n"Well,')
