"""A folder holds one run: recognized when it finished, refused to others, kept from two at once."""

import json
import math
from pathlib import Path

import pytest

from lightning_lyap.tasks.run_folder import RunFolder, differences, digest

SETTINGS = {"task": {"lr": 0.1, "text": None}, "seed": 1}
OTHERS = {"task": {"lr": 0.2, "text": None}, "seed": 1}


def test_a_run_that_finished_is_recognized_with_its_numbers(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, SETTINGS)
    assert folder.finished() is None
    folder.claim()
    assert folder.finished() is None
    folder.finish({"loss": 0.1 + 0.2, "bad": math.nan})
    found = RunFolder(tmp_path, {"seed": 1, "task": {"text": None, "lr": 0.1}}).finished()
    assert found is not None
    assert found["loss"] == 0.1 + 0.2
    assert math.isnan(found["bad"])


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    RunFolder(tmp_path, SETTINGS).claim()
    other = RunFolder(tmp_path, OTHERS)
    for ask in (other.finished, other.claim):
        with pytest.raises(ValueError, match=r"got task.lr=0.2 where the run has 0.1\. A folder"):
            ask()
    assert json.loads((tmp_path / "settings.json").read_text()) == SETTINGS


def test_a_run_that_is_resumed_on_purpose_takes_its_new_settings(tmp_path: Path) -> None:
    first = RunFolder(tmp_path, SETTINGS)
    first.claim()
    first.finish({"loss": 1.0})
    second = RunFolder(tmp_path, OTHERS)
    second.claim(goes_on=True)
    assert second.finished() is None
    with pytest.raises(ValueError, match=r"where the run has 0\.2"):
        first.finished()


def test_a_run_that_goes_on_has_not_finished(tmp_path: Path) -> None:
    """With the settings it finished with before, too: it may be killed on its way."""
    folder = RunFolder(tmp_path, SETTINGS)
    folder.claim()
    folder.finish({"loss": 1.0})
    folder.claim(goes_on=True)
    assert folder.finished() is None


def test_a_record_of_other_settings_does_not_count(tmp_path: Path) -> None:
    first = RunFolder(tmp_path, SETTINGS)
    first.claim()
    RunFolder(tmp_path, OTHERS).finish({"loss": 1.0})
    assert first.finished() is None


def test_checkpoints_of_an_unknown_run_are_not_gone_on_from(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    folder = RunFolder(tmp_path, SETTINGS)
    with pytest.raises(ValueError, match=r"checkpoints without settings\.json"):
        folder.claim()
    folder.claim(goes_on=True)
    assert folder.checkpoint() == str(tmp_path / "checkpoints" / "last.ckpt")


def test_one_process_at_a_time(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path, SETTINGS), RunFolder(tmp_path, SETTINGS)
    with first.held():
        with pytest.raises(RuntimeError, match="another one trains in it"), second.held(0.0):
            pass
        with RunFolder(tmp_path, SETTINGS, leads=False).held(0.0):
            pass
    with second.held(0.0):
        pass


def test_of_several_processes_one_writes(tmp_path: Path) -> None:
    follower = RunFolder(tmp_path, SETTINGS, leads=False)
    follower.claim()
    follower.finish({"loss": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_differences_name_what_is_new_and_what_is_gone() -> None:
    assert differences({"a": {"b": 1}}, {"a": {"b": 1}}) == []
    assert differences({"a": 1, "c": {}}, {"b": [2], "c": {}}) == [
        "a=nothing where the run has 1",
        "b=[2] where the run has nothing",
    ]
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})
