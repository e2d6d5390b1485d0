"""Names of folders say what the runs are, whatever the settings look like."""

import pytest

from conf.folders import LONGEST, run_name


def test_settings_are_the_name_where_they_can_be() -> None:
    assert run_name("init_p=0.1,task.lr=1e-05") == "init_p=0.1,task.lr=1e-05"
    assert run_name("") == "defaults"


@pytest.mark.parametrize(
    "overrides",
    ["task.text=/a/b.txt", "a=../../up", "..", "a='b c'", "b=" + "x" * 300, "c=" + "é" * 300],
)
def test_no_setting_leaves_the_folder_or_is_too_long(overrides: str) -> None:
    name = run_name(overrides)
    assert "/" not in name
    assert name not in {".", ".."}
    assert len(name.encode()) <= LONGEST + 7


def test_names_that_had_to_change_stay_apart() -> None:
    assert run_name("task.text=a/b") != run_name("task.text=a_b") != run_name("task.text=a:b")
    assert run_name("a=" + "x" * 300) != run_name("a=" + "x" * 301)
