"""Names of folders that Hydra's configuration can't form by itself: resolvers for its YAML."""

import hashlib
from pathlib import Path

from omegaconf import OmegaConf

# A name has at most 255 bytes on common file systems; writers append endings of their own.
LONGEST = 200


def run_folder(resume: str | None, new: str) -> str:
    """Return where a run writes: a resumed one goes on in its own folder.

    Args:
        resume: Checkpoint to go on from, or None.
        new: Folder of a new run.

    Returns:
        A folder.
    """
    checkpoints = None if resume is None else Path(resume).parent
    if checkpoints is None or checkpoints.name != "checkpoints":
        return new
    return str(checkpoints.parent)


def run_name(overrides: str) -> str:
    """Name the folder of a sweep's run by its settings, so that its number does not matter.

    Args:
        overrides: ``KEY=VALUE,KEY=VALUE``, sorted; Hydra's ``hydra.job.override_dirname``.

    Returns:
        The same where it is a name. What no folder can be called is replaced, what is too long is
        cut, and a digest then keeps the names apart.

    Example:
        >>> run_name("init_p=0.1,task.lr=0.01")
        'init_p=0.1,task.lr=0.01'
        >>> run_name("task.text=/books/a.txt")
        'task.text=books_a.txt,533244'
    """
    name = "".join(mark if mark.isalnum() or mark in "=,._+-~@" else "_" for mark in overrides)
    name = name.replace("=_", "=")
    if name == overrides and 0 < len(name.encode()) <= LONGEST and name.strip("."):
        return name
    digest = hashlib.sha256(overrides.encode()).hexdigest()[:6]
    cut = name.encode()[:LONGEST].decode(errors="ignore").strip(".")
    return f"{cut},{digest}" if overrides else "defaults"


# On import, not by a call: the workers of launchers import this module with the configuration.
OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)
OmegaConf.register_new_resolver("run_name", run_name, replace=True)
