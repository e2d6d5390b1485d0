"""Whether a run goes on or begins anew: histories, counts and last values together."""

from types import SimpleNamespace
from typing import Any

import pytest

from lightning_lyap.callback.errors import WarnOnce
from lightning_lyap.callback.run_histories import RunHistories
from lightning_lyap.callback.run_state import RunState

START: Any = SimpleNamespace(global_step=0)
LATER: Any = SimpleNamespace(global_step=7)


def new() -> RunState:
    return RunState(RunHistories({"state": "full"}, WarnOnce()))


def used() -> RunState:
    run = new()
    run.histories.of("rnn").record_failure(1.0, 4, "broken on purpose")
    run.pace.count(fitting=True)
    run.last = {"a": 1.0}
    return run


def kept(run: RunState) -> tuple[list[str], int, dict[str, float]]:
    return list(run.histories.by_module), run.pace.validations, run.last


KEPT = (["rnn"], 1, {"a": 1.0})
NOTHING: tuple[list[str], int, dict[str, float]] = ([], 0, {})


@pytest.mark.parametrize(("trainer", "expected"), [(START, NOTHING), (LATER, KEPT)])
def test_a_fit_from_the_first_step_on_begins_with_nothing(trainer: Any, expected: Any) -> None:
    run = used()
    run.begin(trainer)
    assert kept(run) == expected


def test_a_state_that_was_loaded_goes_on_in_the_next_fit_alone() -> None:
    run = new()
    run.load_state_dict(used().state_dict())
    run.begin(START)
    assert kept(run) == KEPT
    assert run.histories.by_module["rnn"].failures[0]["message"] == "broken on purpose"
    run.begin(START)
    assert kept(run) == NOTHING


def test_a_state_that_was_loaded_before_a_run_ended_is_no_reason_to_go_on() -> None:
    run = new()
    run.load_state_dict(used().state_dict())
    run.end()
    run.begin(START)
    assert kept(run) == NOTHING


@pytest.mark.parametrize("missing", ["validations", "histories", "last"])
def test_a_state_without_a_part_is_refused_and_changes_nothing(missing: str) -> None:
    run, state = used(), new().state_dict()
    del state[missing]
    with pytest.raises(ValueError, match=rf"without \['{missing}'\]"):
        run.load_state_dict(state)
    assert kept(run) == KEPT


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
def test_a_run_in_memory_stays_where_a_checkpoint_is_only_looked_at(stage: str) -> None:
    run = used()
    run.begin(LATER)
    run.enter(stage)
    run.load_state_dict(new().state_dict())
    assert kept(run) == (NOTHING if stage == "fit" else KEPT)
    run.end()
    run.load_state_dict(new().state_dict())
    assert kept(run) == NOTHING


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_without_a_run_in_memory_that_of_the_checkpoint_is_taken(stage: str) -> None:
    run = used()
    for other, expected in ((new(), NOTHING), (used(), KEPT)):
        run.enter(stage)
        run.load_state_dict(other.state_dict())
        assert kept(run) == expected
