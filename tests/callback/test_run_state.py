"""Whether a run goes on or begins anew: histories, counts and last values together."""

from types import SimpleNamespace
from typing import Any

import pytest

from lightning_lyap.callback.cost import Pace
from lightning_lyap.callback.run_histories import Ledger
from lightning_lyap.callback.run_state import LoggedValues, RunSoFar

START: Any = SimpleNamespace(global_step=0)
LATER: Any = SimpleNamespace(global_step=7)


class Parts:
    """A run, and where its parts are kept."""

    def __init__(self) -> None:
        self.ledger, self.pace = Ledger({"state": "full"}), Pace()
        self.logged = LoggedValues(self.ledger)
        self.run = RunSoFar(self.ledger, self.pace, self.logged)

    @property
    def kept(self) -> tuple[list[str], int, dict[str, float]]:
        return list(self.ledger.histories), self.pace.validations, self.logged.last


def used() -> Parts:
    parts = Parts()
    parts.ledger.history("rnn").record_failure(1.0, 4, "broken on purpose")
    parts.pace.count(fitting=True)
    parts.logged.last = {"a": 1.0}
    return parts


KEPT = (["rnn"], 1, {"a": 1.0})
NOTHING: tuple[list[str], int, dict[str, float]] = ([], 0, {})


@pytest.mark.parametrize(("trainer", "kept"), [(START, NOTHING), (LATER, KEPT)])
def test_a_fit_from_the_first_step_on_begins_with_nothing(trainer: Any, kept: Any) -> None:
    parts = used()
    parts.run.begin(trainer)
    assert parts.kept == kept


def test_a_state_that_was_loaded_goes_on_in_the_next_fit_alone() -> None:
    parts = Parts()
    parts.run.load_state_dict(used().run.state_dict())
    parts.run.begin(START)
    assert parts.kept == KEPT
    assert parts.ledger.histories["rnn"].failures[0]["message"] == "broken on purpose"
    parts.run.begin(START)
    assert parts.kept == NOTHING


def test_a_state_that_was_loaded_before_a_run_ended_is_no_reason_to_go_on() -> None:
    parts = Parts()
    parts.run.load_state_dict(used().run.state_dict())
    parts.run.end()
    parts.run.begin(START)
    assert parts.kept == NOTHING


@pytest.mark.parametrize("missing", ["validations", "histories", "last"])
def test_a_state_without_a_part_is_refused_and_changes_nothing(missing: str) -> None:
    parts, state = used(), Parts().run.state_dict()
    del state[missing]
    with pytest.raises(ValueError, match=rf"without \['{missing}'\]"):
        parts.run.load_state_dict(state)
    assert parts.kept == KEPT


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
def test_a_run_in_memory_stays_where_a_checkpoint_is_only_looked_at(stage: str) -> None:
    parts = used()
    parts.run.begin(LATER)
    parts.run.enter(stage)
    parts.run.load_state_dict(Parts().run.state_dict())
    assert parts.kept == (NOTHING if stage == "fit" else KEPT)
    parts.run.end()
    parts.run.load_state_dict(Parts().run.state_dict())
    assert parts.kept == NOTHING


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_without_a_run_in_memory_that_of_the_checkpoint_is_taken(stage: str) -> None:
    parts = used()
    for run, kept in ((Parts().run, NOTHING), (used().run, KEPT)):
        parts.run.enter(stage)
        parts.run.load_state_dict(run.state_dict())
        assert parts.kept == kept
