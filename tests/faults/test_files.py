"""Files that can't be written: a full disk, a folder that can't be made."""

import errno
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytorch_lightning.loggers import CSVLogger

from lightning_lyap import LyapunovSpectrumCallback, SpectrumHistory
from lightning_lyap.callback import outputs
from tests.faults.runs import outcome, strict, train

NOT_SAVED = (
    "This Lyapunov spectrum is not in the files; those written before are intact: OSError while "
    "saving: "
)


@contextmanager
def limited_files(size: int) -> Iterator[None]:
    """Let the kernel refuse files larger than this, as it would on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


class Disk:
    """Writes archives as NumPy does, but at some calls there is no room."""

    def __init__(self, full_at: set[int], real: bool) -> None:
        self.calls = 0
        self.savez = np.savez
        self.full_at, self.real = full_at, real

    def __call__(self, file: Any, **arrays: Any) -> None:
        self.calls += 1
        if self.calls not in self.full_at:
            self.savez(file, **arrays)
        elif self.real:
            with limited_files(300):
                self.savez(file, **arrays)
        else:
            file.write(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("real", [True, False], ids=["limit of the kernel", "ENOSPC"])
def test_a_full_disk_leaves_the_files_before_and_later_ones_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real: bool
) -> None:
    disk = Disk({2, 3}, real)
    monkeypatch.setattr(np, "savez", disk)
    seen: list[list[float]] = []

    class Reading(LyapunovSpectrumCallback):
        def on_validation_end(self, *args: Any) -> None:
            seen.extend(SpectrumHistory.load(path).epochs for path in tmp_path.rglob("*.npz"))

    run = outcome(
        tmp_path,
        callback=Reading(figures=False),
        logger=CSVLogger(tmp_path, "run", version=""),
    )
    (said,) = run.said
    assert said.startswith(NOT_SAVED)
    assert [failure["epoch"] for failure in run.history.failures] == [1.0, 2.0]
    assert run.history.epochs == [0.0, 1.0, 2.0, 3.0]
    # Before training, after a validation each: the old file stays whole until a new one is.
    assert seen == [[0.0], [0.0], [0.0, 1.0, 2.0, 3.0]]
    last = SpectrumHistory.load(tmp_path / "run" / "lyapunov" / "spectra.npz")
    assert last.failures == run.history.failures
    assert {path.name for path in (tmp_path / "run" / "lyapunov").iterdir()} == {"spectra.npz"}


def test_a_full_disk_raises_if_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "savez", Disk({2}, real=True))
    with pytest.raises(OSError, match="File too large"):
        train(tmp_path, strict(save=True))


def test_a_folder_that_cannot_be_made_is_one_warning_and_a_counted_gap(tmp_path: Path) -> None:
    """A file is in its place; permissions would not do, they don't hold for the superuser."""
    taken = tmp_path / "run" / "lyapunov"
    taken.parent.mkdir()
    taken.write_text("here already")
    run = outcome(
        tmp_path,
        callback=LyapunovSpectrumCallback(figures=False),
        logger=CSVLogger(tmp_path, "run", version=""),
    )
    (said,) = run.said
    assert "while saving: " in said
    assert str(taken) in said
    assert len(run.history.failures) == len(run.history) == 4
    assert taken.read_text() == "here already"


def test_a_figure_that_cannot_be_written_leaves_the_spectra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("matplotlib.image.imsave", full)
    monkeypatch.setattr(outputs, "render", lambda figure: np.zeros((4, 6, 4), np.uint8))
    run = outcome(
        tmp_path, callback=LyapunovSpectrumCallback(), logger=CSVLogger(tmp_path, "run", version="")
    )
    (said,) = run.said
    assert said.startswith(NOT_SAVED)
    folder = tmp_path / "run" / "lyapunov"
    assert {path.name for path in folder.iterdir()} == {"spectra.npz"}
    assert SpectrumHistory.load(folder / "spectra.npz").epochs == [0.0, 1.0, 2.0, 3.0]
