"""Toy runs of train.py: in processes of their own, or in this one to save seconds."""

import logging
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from hydra.core.global_hydra import GlobalHydra

ROOT = Path(__file__).resolve().parents[1]
TRAIN = [sys.executable, str(ROOT / "train.py")]
SMALL = [
    "task=charrnn",
    "task.hidden_size=8",
    "task.sequence_length=10",
    "task.batch_size=20",
    "task.lr=0.01",
    "lyapunov.num_sequences=3",
    "lyapunov.num_steps=20",
    "lyapunov.figures=false",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "trainer.enable_model_summary=false",
]


def leave_rhyme(folder: Path) -> Path:
    """Leave a text to train on in a folder."""
    path = folder / "rhyme.txt"
    path.write_text("the cat sat on the mat and said (that) 'that is that'.\n" * 60)
    return path


def environment(folder: Path) -> dict[str, str]:
    own = {"OMP_NUM_THREADS": "1", "LYAP_CACHE_DIR": str(folder / "cache")}
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | own


def train(*overrides: str, folder: Path, fails: bool = False) -> str:
    """Run train.py from another folder and return what it printed."""
    done = subprocess.run(
        [*TRAIN, *overrides],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env=environment(folder),
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Undo what a command may do to its process."""
    root = logging.getLogger()
    handlers, level, path, variables = root.handlers[:], root.level, sys.path[:], dict(os.environ)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        sys.path[:] = path
        os.environ.clear()
        os.environ.update(variables)
        torch.set_flush_denormal(False)
        GlobalHydra.instance().clear()


def train_here(*overrides: str) -> int:
    """Run train.py in this process and folder, as the command it is; return its exit status."""
    command = [str(ROOT / "train.py"), *overrides]
    # Hydra takes a tracer, that of coverage too, for a debugger, and then prints whole tracebacks.
    untraced = patch("hydra._internal.utils.is_under_debugger", return_value=False)
    with _as_it_was(), untraced, patch.object(sys, "argv", command):
        sys.path.insert(0, str(ROOT))
        try:
            runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
        except SystemExit as end:
            if isinstance(end.code, int):
                return end.code
            print(end.code, file=sys.stderr)
            return 1
        return 0
