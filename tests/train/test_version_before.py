"""What the version before 0.1.0 left goes on: checkpoints, folders of runs, histories.

``version_before`` holds two runs of that version (commit 0c7a938), one to its end and one killed
after its first epoch::

    python train.py task=charrnn task.text=rhyme.txt task.hidden_size=4 task.sequence_length=10 \
        task.batch_size=20 task.lr=0.01 lyapunov.num_sequences=3 lyapunov.num_steps=20 \
        lyapunov.figures=false trainer.accelerator=cpu trainer.enable_progress_bar=false \
        trainer.enable_model_summary=false logger=csv trainer.max_epochs=2 hydra.run.dir=finished
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from hydra.utils import get_class

from lightning_lyap import SpectrumHistory
from lightning_lyap.tasks.run_folder import RunFolder
from tests.training import leave_rhyme, train_here

BEFORE = Path(__file__).with_name("version_before")
OVERRIDES = [
    *["task=charrnn", "task.text=rhyme.txt", "task.hidden_size=4", "task.sequence_length=10"],
    *["task.batch_size=20", "task.lr=0.01", "lyapunov.num_sequences=3", "lyapunov.num_steps=20"],
    *["lyapunov.figures=false", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false"],
    *["trainer.enable_model_summary=false", "logger=csv", "trainer.max_epochs=2"],
]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(BEFORE, tmp_path, dirs_exist_ok=True)
    leave_rhyme(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_configurations_that_name_classes_by_where_they_were_are_built() -> None:
    names = ("exact_resume.ExactResume", "modules.CharRNN", "modules.MocapRNN")
    for name in names:
        assert get_class(f"lightning_lyap.{name}").__module__.startswith("lightning_lyap.tasks.")


def test_a_configuration_that_names_them_so_goes_on_in_its_folder(runs: Path) -> None:
    settings = json.loads((runs / "finished" / "settings.json").read_text())
    assert "lightning_lyap.exact_resume." in json.dumps(settings)
    assert RunFolder(runs / "finished", settings).finished() is not None


def test_a_finished_run_is_not_run_again(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_here(*OVERRIDES, "hydra.run.dir=finished") == 0
    assert "Finished before, not run again" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
def test_a_killed_run_goes_on_and_ends_like_the_one_that_was_not(runs: Path) -> None:
    assert train_here(*OVERRIDES, "hydra.run.dir=interrupted") == 0
    ours, theirs = runs / "interrupted" / "charrnn-file", runs / "finished" / "charrnn-file"
    assert (ours / "losses.csv").read_text() == (theirs / "losses.csv").read_text()
    resumed, whole = (SpectrumHistory.load(run / "lyapunov/spectra.npz") for run in (ours, theirs))
    assert (
        (resumed.epochs, resumed.steps) == (whole.epochs, whole.steps) == ([0, 1, 2], [0, 13, 27])
    )
    # Means are taken over sequences that differ now, and of these the text has one: rounding alone.
    torch.testing.assert_close(resumed.exponents(), whole.exponents(), rtol=0, atol=1e-5)
