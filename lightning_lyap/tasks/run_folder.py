"""The folder of one run: whose it is, how far the run came, what came out.

A run that is started again in its folder is not run again if it finished, and goes on from its last
checkpoint if it was killed. Other settings, or another process at the same time, are refused.

================  =================================================================================
``settings.json``  what the run was started with, written first
``finished.json``  its final metrics and a digest of its settings, written last
``run.lock``       held by the process that trains; the system frees it when that dies
================  =================================================================================
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lightning_lyap._atomic_files import whole_file

SETTINGS_FILE = "settings.json"
FINISHED_FILE = "finished.json"
LOCK_FILE = "run.lock"
CHECKPOINT = "checkpoints/last.ckpt"
# Where classes are now that the settings of earlier runs name by where they were.
MOVED = {"lightning_lyap.exact_resume.": "lightning_lyap.tasks.exact_resume."}


class RunFolder:
    """A folder that holds one run.

    Args:
        path: The folder.
        settings: What decides the outcome of the run: plain numbers, text, lists and dicts.
        leads: Whether this process writes: that of rank zero, of several that train together.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], leads: bool = True) -> None:
        self.path = path
        self._settings = settings
        self._leads = leads

    @contextmanager
    def held(self, patience: float = 10.0) -> Iterator[None]:
        """Keep other processes out of the folder.

        Args:
            patience: Seconds to wait for one that is about to end. Default 10: the workers of a
                process that was killed notice within five.

        Yields:
            None.

        Raises:
            RuntimeError: If another process trains in it.
        """
        if not self._leads:
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            held = FileLock(self.path / LOCK_FILE).acquire(timeout=patience)
        except Timeout:
            raise RuntimeError(
                f"Expected {self.path} for this process alone, but another one trains in it. Wait "
                "until it ends, or stop it; a sweep's jobs may outlive the command that started "
                "them."
            ) from None
        with held:
            yield

    def finished(self) -> dict[str, float] | None:
        """Return what a finished run left.

        Returns:
            Its final metrics; None if no run with these settings finished here.

        Raises:
            ValueError: If the folder is that of a run with other settings.
        """
        self._refuse_strangers()
        record = _read(self.path / FINISHED_FILE)
        if record is None or record["settings"] != digest(_read(self.path / SETTINGS_FILE)):
            return None
        return record["metrics"]

    def checkpoint(self) -> str | None:
        """Return where a run that was interrupted here goes on: its last checkpoint, or None."""
        path = self.path / CHECKPOINT
        return str(path) if path.is_file() else None

    def claim(self, goes_on: bool = False) -> None:
        """Make the folder that of this run.

        Args:
            goes_on: Whether the run here is to go on with these settings, whatever its own were.

        Raises:
            ValueError: If the folder is that of a run with other settings.
        """
        if not goes_on:
            self._refuse_strangers()
        if self._leads:
            (self.path / FINISHED_FILE).unlink(missing_ok=True)
            _write(self.path / SETTINGS_FILE, self._settings)

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Record that the run finished.

        Args:
            metrics: Its final metrics.
        """
        if self._leads:
            record = {"settings": digest(self._settings), "metrics": dict(metrics)}
            _write(self.path / FINISHED_FILE, record)

    def _refuse_strangers(self) -> None:
        """Refuse a folder with a run of other settings, or with checkpoints of unknown ones."""
        found = _read(self.path / SETTINGS_FILE)
        if found is None:
            if self.checkpoint() is None:
                return
            raise ValueError(
                f"Expected {self.path} to be new or to tell its run's settings, but got "
                f"checkpoints without {SETTINGS_FILE}. Name another folder, or go on with that run "
                "by `resume=`."
            )
        found = _as_named_now(found)
        if digest(found) != digest(self._settings):
            raise ValueError(
                f"Expected the settings of the run in {self.path}, but got "
                f"{'; '.join(differences(found, self._settings))}. A folder holds one run: name "
                "another one (hydra.run.dir, hydra.sweep.dir), delete it, or go on with other "
                f"settings by `resume={self.path / CHECKPOINT}`. Its own settings are in "
                f"{SETTINGS_FILE}."
            )


def digest(settings: Mapping[str, Any]) -> str:
    """Return a short text that is the same for the same settings; their order does not matter.

    Args:
        settings: Plain numbers, text, lists and dicts.

    Returns:
        A SHA-256 in hexadecimal.
    """
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def differences(found: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Return how settings differ from those of a run.

    Args:
        found: The run's.
        given: The others.

    Returns:
        ``KEY=VALUE where the run has VALUE`` for each key that differs.

    Example:
        >>> differences({"task": {"lr": 0.1}}, {"task": {"lr": 0.2}})
        ['task.lr=0.2 where the run has 0.1']
    """
    old, new = _flat(found), _flat(given)
    keys = sorted(key for key in {*old, *new} if old.get(key, ...) != new.get(key, ...))
    return [
        f"{key}={new.get(key, 'nothing')} where the run has {old.get(key, 'nothing')}"
        for key in keys
    ]


def _as_named_now(settings: Any) -> Any:
    """Return the settings of a run with its classes named by where they are now."""
    text = json.dumps(settings)
    for before, now in MOVED.items():
        text = text.replace(f'"{before}', f'"{now}')
    return json.loads(text)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _read(path: Path) -> Any:
    """Read a file of JSON; None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of JSON; it appears whole."""
    with whole_file(path) as partial, partial.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        # Or a crash of the machine could leave the new name with none of its content.
        file.flush()
        os.fsync(file.fileno())


def set_aside(path: Path) -> None:
    """Give a file another name, so that what writes it anew deletes nothing.

    Args:
        path: The file, ``metrics.csv`` say, which becomes ``metrics-1.csv`` or the next number that
            is free; nothing happens if it is not there.
    """
    if path.is_file():
        names = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(1))
        path.rename(next(name for name in names if not name.exists()))
