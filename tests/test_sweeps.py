"""Sweeps: launchers and searches, objectives that arrive, and sweeps that were killed.

What starts many processes is `slow`: ``python -m pytest -m slow tests/test_sweeps.py``.
"""

import json
import math
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from lightning_lyap import SpectrumHistory
from lightning_lyap.modules import CharRNN
from lightning_lyap.reporting import LossRecorder
from tests.training import SMALL, TRAIN, environment, train, train_here

pytestmark = pytest.mark.filterwarnings("ignore")
TIMES = {"lyapunov/seconds", "lyapunov/epoch_fraction"}
# Written at every start, by Hydra or as a lock: they say nothing about the run.
NOT_THE_RUNS = {"train.log", "run.lock", "config.yaml", "hydra.yaml", "overrides.yaml"}


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Settings of a toy run, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "rhyme.txt"
    path.write_text("the cat sat on the mat and said (that) 'that is that'.\n" * 60)
    return [*SMALL, f"task.text={path}"]


def runs(sweep: Path) -> dict[str, Path]:
    """Return the folders of a sweep's runs by the value of init_p, in the order of their start."""
    found = sorted(
        sweep.glob("*init_p=*"), key=lambda path: (path / "settings.json").stat().st_mtime
    )
    return {path.name.split("init_p=")[1].split(",")[0]: path for path in found}


def metrics(run: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((run / "finished.json").read_text())["metrics"]
    return {key: value for key, value in found.items() if key not in TIMES}


def spectra(run: Path) -> SpectrumHistory:
    return SpectrumHistory.load(next(run.rglob("spectra.npz")))


def results(sweep: Path) -> Any:
    return OmegaConf.load(sweep / "optimization_results.yaml")


def assert_complete(run: Path) -> None:
    assert (run / ".hydra" / "config.yaml").is_file()
    for pattern in ("spectra.npz", "losses.csv", "events.out.tfevents.*", "last.ckpt"):
        assert list(run.rglob(pattern)), pattern
    assert metrics(run)


def stamps(run: Path) -> dict[Path, int]:
    files = (path for path in run.rglob("*") if path.is_file() and path.name not in NOT_THE_RUNS)
    return {path: path.stat().st_mtime_ns for path in files}


def kill_when(there: Path, command: list[str]) -> None:
    """Start a command and kill all its processes when a file appears."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(Path.cwd()),
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    while not there.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert there.exists()


def test_a_killed_sweep_runs_only_what_is_missing(words: list[str], tmp_path: Path) -> None:
    words = [
        "-m",
        *words,
        "task.dropout=0.2",
        "trainer.max_epochs=12",
        "lyapunov.every_n_validations=4",
    ]
    names = [f"init_p={value}" for value in ("0.1", "0.2", "0.3")]
    words.append("init_p=0.1,0.2,0.3")
    # What the run is called is what its settings are: learn it from the uninterrupted sweep.
    assert train_here(*words, "hydra.sweep.dir=whole") == 0
    whole = runs(tmp_path / "whole")
    assert [f"init_p={key}" for key in whole] == names
    killed = {key: tmp_path / "killed" / path.name for key, path in whole.items()}
    first, second, third = killed.values()

    kill_when(second / "checkpoints" / "last.ckpt", [*TRAIN, *words, "hydra.sweep.dir=killed"])
    assert (first / "finished.json").exists()
    assert not (second / "finished.json").exists()
    assert not third.exists()
    before = stamps(first)
    said = train(*words, "hydra.sweep.dir=killed", folder=tmp_path)
    assert stamps(first) == before
    assert said.count("Finished before, not run again") == 1
    assert said.count("Restored all states from the checkpoint") == 1
    for key, run in killed.items():
        assert_complete(run)
        assert metrics(run) == metrics(whole[key])
        assert spectra(run).epochs == spectra(whole[key]).epochs
        assert torch.equal(spectra(run).exponents(), spectra(whole[key]).exponents())
        tables = [next(folder.rglob("losses.csv")) for folder in (run, whole[key])]
        assert tables[0].read_text() == tables[1].read_text()


def test_values_may_come_and_go_between_starts(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-m", *words, "trainer=quick", "hydra.sweep.dir=sweep"]
    assert train_here(*words, "init_p=0.1,0.2") == 0
    assert train_here(*words, "init_p=0.3,0.2") == 0
    assert capsys.readouterr().out.count("Finished before, not run again") == 1
    assert list(runs(tmp_path / "sweep")) == ["0.1", "0.2", "0.3"]

    # Killed after its last checkpoint, before its record: nothing is left to train.
    run = runs(tmp_path / "sweep")["0.2"]
    complete = metrics(run)
    (run / "finished.json").unlink()
    assert train_here(*words, "init_p=0.2") == 0
    assert metrics(run) == complete


def test_a_folder_takes_no_run_of_other_settings(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words += ["trainer=quick", "hydra.run.dir=one"]
    assert train_here(*words, "init_p=0.1") == 0
    before = stamps(tmp_path / "one")
    assert train_here(*words, "init_p=0.2") == 1
    assert "init_p=0.2 where the run has 0.1" in capsys.readouterr().err
    assert stamps(tmp_path / "one") == before
    assert train_here(*words, "init_p=0.1", "trainer.enable_model_summary=true") == 0
    assert "Finished before" in capsys.readouterr().out
    assert stamps(tmp_path / "one") == before


def test_a_sweep_starts_no_processes_for_a_run(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-m", *words, "trainer=quick", "trainer.devices=2", "trainer.strategy=ddp"]
    assert train_here(*words, "hydra.sweep.dir=sweep") == 1
    assert "Expected one device for each run of a sweep, but got 2" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_search_for_two_objectives(words: list[str], tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
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
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
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
    optuna = pytest.importorskip("optuna")
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
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
    trials = optuna.load_study("study", f"sqlite:///{tmp_path}/lax/study.db").trials
    states = {(float(trial.params["task.lr"]), trial.state.name) for trial in trials}
    assert states == {(0.01, "COMPLETE"), (0.5, "FAIL")}
    assert float(results(tmp_path / "lax").best_params["task.lr"]) == 0.01

    assert train_here(*words, "hydra.sweep.dir=strict") == 1
    assert "finite objective, but got " in capsys.readouterr().err


def test_a_search_that_was_stopped_goes_on_with_its_study(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optuna = pytest.importorskip("optuna")
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
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
    storage = f"sqlite:///{tmp_path}/sweep/study.db"
    trials = optuna.load_study("charrnn", storage).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "RUNNING"]
    stopped = trials[1].params

    assert train_here(*words) == 0
    trials = optuna.load_study("charrnn", storage).trials
    assert [t.state.name for t in trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert trials[2].params == stopped
    assert len({trial.params["init_p"] for trial in trials}) == 3
    for key, run in runs(tmp_path / "sweep").items():
        told = {trial.params["init_p"]: trial.value for trial in trials if trial.value is not None}
        assert told[float(key)] == metrics(run)["val/loss_best"]
    before = [stamps(run) for run in runs(tmp_path / "sweep").values()]
    assert train_here(*words) == 0
    assert [stamps(run) for run in runs(tmp_path / "sweep").values()] == before
    assert len(optuna.load_study("charrnn", storage).trials) == 4


def test_a_search_in_memory_is_played_again_from_its_folders(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    words = ["-m", *words, "trainer=quick", "search=init_p", "hydra.sweep.dir=sweep"]
    words += ["hydra.sweeper.storage=null"]
    assert train_here(*words, "hydra.sweeper.n_trials=2") == 0
    capsys.readouterr()
    assert train_here(*words, "hydra.sweeper.n_trials=3") == 0
    assert capsys.readouterr().out.count("Finished before, not run again") == 2
    assert len(runs(tmp_path / "sweep")) == 3


@pytest.mark.slow
def test_joblib_runs_the_trials_of_a_stored_search(words: list[str], tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = ["-m", *words, "trainer=quick", "search=init_p", "hydra.sweep.dir=sweep"]
    words += ["hydra/launcher=joblib", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2"]
    train(*words, folder=tmp_path)
    told = {}
    for key, run in runs(tmp_path / "sweep").items():
        assert_complete(run)
        told[float(key)] = metrics(run)["val/loss_best"]
    assert len(told) == 2
    study = optuna.load_study("charrnn", f"sqlite:///{tmp_path}/sweep/study.db")
    assert {trial.params["init_p"]: trial.value for trial in study.trials} == told
    found = results(tmp_path / "sweep")
    assert found.best_value == min(told.values())
    assert told[found.best_params.init_p] == found.best_value


@pytest.mark.slow
def test_submitit_runs_a_sweep(words: list[str], tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    words = ["-m", *words, "trainer=quick", "init_p=0.1,0.2", "hydra.sweep.dir=sweep"]
    train(*words, "hydra/launcher=submitit_local", folder=tmp_path)
    found = runs(tmp_path / "sweep")
    assert sorted(found) == ["0.1", "0.2"]
    for run in found.values():
        assert_complete(run)


@pytest.mark.slow
def test_a_killed_search_goes_on_with_its_study(words: list[str], tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    words = ["-m", *words, "search=init_p", "hydra.sweep.dir=sweep", "hydra.sweeper.n_trials=3"]
    words += ["trainer.max_epochs=12", "lyapunov.every_n_validations=4"]
    # The seed decides the second trial: learn its folder from an uninterrupted search.
    train(*words, "hydra.sweep.dir=whole", folder=tmp_path)
    second = list(runs(tmp_path / "whole").values())[1]
    last = tmp_path / "sweep" / second.name / "checkpoints" / "last.ckpt"
    kill_when(last, [*TRAIN, *words])
    said = train(*words, folder=tmp_path)
    assert said.count("Restored all states from the checkpoint") == 1
    trials = optuna.load_study("charrnn", f"sqlite:///{tmp_path}/sweep/study.db").trials
    assert [t.state.name for t in trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert metrics(last.parents[1]) == metrics(second)
