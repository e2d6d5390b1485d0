"""What sweeps of train.py leave in their folders, also where they are killed."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lightning_lyap import SpectrumHistory
from tests.training import environment

TIMES = {"lyapunov/seconds", "lyapunov/epoch_fraction"}
# Written at every start, by Hydra or as a lock: they say nothing about the run.
NOT_THE_RUNS = {"train.log", "run.lock", "config.yaml", "hydra.yaml", "overrides.yaml"}


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
