"""Sweeps: over given values, killed and started again, and by launchers.

What starts many processes is `slow`: ``python -m pytest -m slow tests/train/test_sweeps.py``.
"""

from pathlib import Path

import pytest
import torch

from tests.sweep_folders import assert_complete, kill_when, metrics, runs, spectra, stamps
from tests.training import SMALL, TRAIN, leave_rhyme, train, train_here

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Settings of a toy run, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return [*SMALL, f"task.text={leave_rhyme(tmp_path)}"]


def test_a_killed_sweep_runs_only_what_is_missing(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "-m",
        *words,
        "task.dropout=0.2",
        "trainer.max_epochs=6",
        "lyapunov.every_n_validations=3",
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
    # What is there can be read at any time.
    assert spectra(second).epochs[0] == 0
    before = stamps(first)
    capsys.readouterr()
    assert train_here(*words, "hydra.sweep.dir=killed") == 0
    said = "".join(capsys.readouterr())
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


@pytest.mark.slow
def test_submitit_runs_a_sweep(words: list[str], tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    words = ["-m", *words, "trainer=quick", "init_p=0.1,0.2", "hydra.sweep.dir=sweep"]
    train(*words, "hydra/launcher=submitit_local", folder=tmp_path)
    found = runs(tmp_path / "sweep")
    assert sorted(found) == ["0.1", "0.2"]
    for run in found.values():
        assert_complete(run)
