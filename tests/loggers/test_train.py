"""train.py with each logger, by one word on the command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_lyap import SpectrumHistory
from tests.training import ROOT, leave_rhyme

WORDS = [
    "task=charrnn",
    "task.hidden_size=8",
    "task.sequence_length=10",
    "task.batch_size=20",
    "lyapunov.num_sequences=3",
    "lyapunov.num_steps=20",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=1",
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("logger", "left"),
    [("csv", "metrics.csv"), ("wandb", "*.wandb"), ("mlflow", "*lyapunov~spectrum*.png")],
)
def test_a_sweep_leaves_a_record_of_each_run(tmp_path: Path, logger: str, left: str) -> None:
    pytest.importorskip(logger)
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        "-m",
        *WORDS,
        f"task.text={leave_rhyme(tmp_path)}",
    ]
    done = subprocess.run(
        [*command, "init_p=0.1,0.2", f"logger={logger}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ
        | {"OMP_NUM_THREADS": "1", "WANDB_SILENT": "true", "MLFLOW_DISABLE_TELEMETRY": "true"},
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert len({path.parent for path in tmp_path.rglob(left)}) == 2
    files = sorted(tmp_path.rglob("spectra.npz"))
    assert [SpectrumHistory.load(file).epochs for file in files] == [[0.0, 1.0]] * 2
    for file in files:
        assert (file.parent.parent / "losses.csv").exists()
        assert str(file.relative_to(tmp_path)) in said
