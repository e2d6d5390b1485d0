"""Searches by Optuna: objectives that arrive, and studies that were stopped.

What starts many processes is `slow`: ``python -m pytest -m slow tests/train/test_searches.py``.
"""

import math
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from lightning_lyap.tasks import CharRNN
from lightning_lyap.tasks.loss_recorder import LossRecorder
from tests.sweep_folders import assert_complete, kill_when, metrics, results, runs, stamps
from tests.training import SMALL, TRAIN, leave_rhyme, train, train_here

optuna = pytest.importorskip("optuna")
pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
pytestmark = pytest.mark.filterwarnings("ignore")


def trials_of(sweep: Path, name: str = "charrnn") -> list[Any]:
    """Return the trials that a search has stored."""
    return optuna.load_study(name, f"sqlite:///{sweep}/study.db").trials


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Settings of a toy run, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return [*SMALL, f"task.text={leave_rhyme(tmp_path)}"]


def test_a_search_for_two_objectives(words: list[str], tmp_path: Path) -> None:
    words = ["-m", *words, "trainer=quick", "search=loss_and_memory", "hydra.sweep.dir=sweep"]
    assert train_here(*words, "hydra.sweeper.n_trials=2", "hydra.sweeper.storage=null") == 0
    told = {
        float(key): [metrics(run)["val/loss_best"], metrics(run)["lyapunov/max"]]
        for key, run in runs(tmp_path / "sweep").items()
    }
    assert len(told) == 2
    front = {
        found.params.init_p: list(found["values"])
        for found in results(tmp_path / "sweep").solutions
    }
    # A network with larger weights has the larger exponent and, after four batches, the lower loss.
    best = max(told)
    assert front == {best: told[best]}
    assert not list(tmp_path.rglob("study.db"))


def test_as_many_directions_as_objectives(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "-m",
        *words,
        "search=init_p",
        "objective=[val/loss,lyapunov/max]",
        "hydra.sweep.dir=sweep",
    ]
    assert train_here(*words) == 1
    assert "one for each of val/loss, lyapunov/max, but got 1" in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()


def test_a_training_that_diverges_is_a_failed_trial(
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loss = CharRNN.loss

    def lost_at_a_high_rate(self: CharRNN, batch: tuple[Tensor, Tensor]) -> Tensor:
        return loss(self, batch) * (math.nan if self.hparams["lr"] > 0.1 else 1.0)

    monkeypatch.setattr(CharRNN, "loss", lost_at_a_high_rate)
    words = [word for word in words if not word.startswith("task.lr=")]
    words = ["-m", *words, "trainer=quick", "task.lr=choice(0.5,0.01)"]
    words += ["hydra/sweeper=optuna", "hydra.sweeper.n_jobs=1", "hydra.sweeper.n_trials=4"]
    stored = ["hydra.sweeper.storage=sqlite:///lax/study.db", "hydra.sweeper.study_name=study"]
    lax = ["hydra.sweep.dir=lax", "hydra.sweeper.max_failure_rate=1.0", *stored]
    assert train_here(*words, *lax) == 0
    assert "finite objective, but got " in capsys.readouterr().out
    states = {
        (float(trial.params["task.lr"]), trial.state.name)
        for trial in trials_of(tmp_path / "lax", "study")
    }
    assert states == {(0.01, "COMPLETE"), (0.5, "FAIL")}
    assert float(results(tmp_path / "lax").best_params["task.lr"]) == 0.01

    assert train_here(*words, "hydra.sweep.dir=strict") == 1
    assert "finite objective, but got " in capsys.readouterr().err


def test_a_search_that_was_stopped_goes_on_with_its_study(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["-m", *words, "search=init_p", "hydra.sweep.dir=sweep", "hydra.sweeper.n_trials=3"]
    words += ["trainer.max_epochs=3", "trainer.limit_train_batches=4"]
    ends: list[int] = []
    record = LossRecorder.on_train_epoch_end

    def stop_in_the_second_trial(self: LossRecorder, *arguments: Any) -> None:
        record(self, *arguments)
        ends.append(1)
        if len(ends) == 5:
            raise SystemExit(3)

    with monkeypatch.context() as patched:
        patched.setattr(LossRecorder, "on_train_epoch_end", stop_in_the_second_trial)
        assert train_here(*words) == 3
    trials = trials_of(tmp_path / "sweep")
    assert [trial.state.name for trial in trials] == ["COMPLETE", "RUNNING"]
    stopped = trials[1].params

    assert train_here(*words) == 0
    trials = trials_of(tmp_path / "sweep")
    assert [t.state.name for t in trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert trials[2].params == stopped
    assert len({trial.params["init_p"] for trial in trials}) == 3
    for key, run in runs(tmp_path / "sweep").items():
        told = {trial.params["init_p"]: trial.value for trial in trials if trial.value is not None}
        assert told[float(key)] == metrics(run)["val/loss_best"]
    before = [stamps(run) for run in runs(tmp_path / "sweep").values()]
    assert train_here(*words) == 0
    assert [stamps(run) for run in runs(tmp_path / "sweep").values()] == before
    assert len(trials_of(tmp_path / "sweep")) == 4


@pytest.mark.slow
def test_a_search_in_memory_is_played_again_from_its_folders(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-m", *words, "trainer=quick", "search=init_p", "hydra.sweep.dir=sweep"]
    words += ["hydra.sweeper.storage=null"]
    assert train_here(*words, "hydra.sweeper.n_trials=2") == 0
    capsys.readouterr()
    assert train_here(*words, "hydra.sweeper.n_trials=3") == 0
    assert capsys.readouterr().out.count("Finished before, not run again") == 2
    assert len(runs(tmp_path / "sweep")) == 3


@pytest.mark.slow
def test_joblib_runs_the_trials_of_a_stored_search(words: list[str], tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = ["-m", *words, "trainer=quick", "search=init_p", "hydra.sweep.dir=sweep"]
    words += ["hydra/launcher=joblib", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2"]
    train(*words, folder=tmp_path)
    told = {}
    for key, run in runs(tmp_path / "sweep").items():
        assert_complete(run)
        told[float(key)] = metrics(run)["val/loss_best"]
    assert len(told) == 2
    trials = trials_of(tmp_path / "sweep")
    assert {trial.params["init_p"]: trial.value for trial in trials} == told
    found = results(tmp_path / "sweep")
    assert found.best_value == min(told.values())
    assert told[found.best_params.init_p] == found.best_value


@pytest.mark.slow
def test_a_killed_search_goes_on_with_its_study(words: list[str], tmp_path: Path) -> None:
    words = ["-m", *words, "search=init_p", "hydra.sweep.dir=sweep", "hydra.sweeper.n_trials=3"]
    words += ["trainer.max_epochs=12", "lyapunov.every_n_validations=4"]
    # The seed decides the second trial: learn its folder from an uninterrupted search.
    train(*words, "hydra.sweep.dir=whole", folder=tmp_path)
    second = list(runs(tmp_path / "whole").values())[1]
    last = tmp_path / "sweep" / second.name / "checkpoints" / "last.ckpt"
    kill_when(last, [*TRAIN, *words])
    said = train(*words, folder=tmp_path)
    assert said.count("Restored all states from the checkpoint") == 1
    trials = trials_of(tmp_path / "sweep")
    assert [t.state.name for t in trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert metrics(last.parents[1]) == metrics(second)
