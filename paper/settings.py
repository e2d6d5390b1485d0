"""How networks are trained: where, on what, for how long; and train.py's settings of each."""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from conf.schema import register
from paper.networks import Network

CONF = Path(__file__).resolve().parents[1] / "conf"
PARTS = ("task", "model", "datamodule", "trainer", "lyapunov", "init_p", "seed", "flush_denormal")
# What does not change the numbers of an epoch: how long, where, how shown.
ASIDE = {
    "task": ("max_epochs", "num_workers"),
    "datamodule": ("data_dir", "num_workers"),
    "trainer": (
        "max_epochs",
        "accelerator",
        "devices",
        "default_root_dir",
        "log_every_n_steps",
        "enable_progress_bar",
        "enable_model_summary",
    ),
}


@dataclass(frozen=True)
class Settings:
    """How networks are trained.

    Attributes:
        out: Folder of the networks and figures.
        data_dir: Folder of the data, or None.
        data: ``"real"``, ``"synthetic"`` or ``"auto"``.
        accelerator: ``"auto"``, ``"cpu"`` or ``"gpu"``.
        jobs: Networks trained at the same time.
        stop_at: When to stop, in seconds of `time.time`; None for never.
        full: Whether to measure the best networks in their full state, too.
    """

    out: Path
    data_dir: str | None = None
    data: str = "auto"
    accelerator: str = "auto"
    jobs: int = 1
    stop_at: float | None = None
    full: bool = True

    @classmethod
    def of(cls, cfg: DictConfig) -> "Settings":
        """Take the settings of a command; its time begins now.

        Args:
            cfg: Settings of the command.

        Returns:
            The settings.

        Raises:
            ValueError: If a number is out of range.
        """
        if not isinstance(cfg.jobs, int) or cfg.jobs < 1:
            raise ValueError(f"Expected `jobs` to be at least 1, but got {cfg.jobs}.")
        stop_at = None if cfg.deadline is None else time.time() + float(cfg.deadline)
        data_dir = cfg.data_dir or os.environ.get("LYAP_DATA_DIR")
        folder = None if data_dir is None else str(Path(data_dir).expanduser().resolve())
        out = Path(cfg.out).resolve()
        return cls(out, folder, cfg.data, cfg.accelerator, cfg.jobs, stop_at, cfg.full)

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return self.stop_at is not None and time.time() >= self.stop_at


def train_config(network: Network, settings: Settings) -> DictConfig:
    """Compose train.py's configuration of a network, without figures, loggers and bars.

    Args:
        network: The network.
        settings: How to train.

    Returns:
        The configuration; the folder is still to be set, see `in_folder`.
    """
    lean = {
        "data_dir": settings.data_dir,
        "data": {"source": settings.data},
        "task": {"max_epochs": network.epochs},
        "lyapunov": {"figures": False},
        "trainer": {
            "accelerator": settings.accelerator,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
    }
    cfg: Any = OmegaConf.merge(_base(network.task), lean, network.overrides)
    OmegaConf.set_struct(cfg, False)
    cfg.logger = {}
    del cfg.callbacks["learning_rate"]
    return cfg


@cache
def _base(task: str) -> DictConfig:
    """Compose train.py's configuration of a task, once.

    Args:
        task: Name of the task.

    Returns:
        The configuration.
    """
    with _another_hydra():
        return compose("config", overrides=[f"task={task}"])


def in_folder(cfg: DictConfig, folder: Path, stop_at: float | None) -> DictConfig:
    """Let a run write into its folder, go on from what is there, and stop in time.

    Args:
        cfg: What `train_config` returned.
        folder: The folder.
        stop_at: When to stop, or None.

    Returns:
        The same configuration.
    """
    checkpoints = folder / "checkpoints"
    last = checkpoints / "last.ckpt"
    cfg.trainer.default_root_dir = str(folder)
    cfg.callbacks.checkpoint.dirpath = str(checkpoints)
    cfg.resume = str(last) if last.is_file() else None
    if stop_at is not None:
        cfg.callbacks.deadline = {"_target_": "paper.deadline.StopInTime", "stop_at": stop_at}
    return cfg


def fingerprint(cfg: DictConfig) -> dict[str, Any]:
    """Return the settings that determine the numbers of every epoch.

    Args:
        cfg: What `train_config` returned.

    Returns:
        Plain numbers and text; without the number of epochs, so that a run can be prolonged.
    """
    parts = {name: OmegaConf.select(cfg, name) for name in PARTS}
    plain = {
        name: OmegaConf.to_container(part, resolve=True) if OmegaConf.is_config(part) else part
        for name, part in parts.items()
    }
    for name, keys in ASIDE.items():
        plain[name] = {k: v for k, v in plain[name].items() if k not in keys}  # type: ignore[union-attr]
    return plain


def digest(plain: dict[str, Any]) -> str:
    """Shorten settings to eight hexadecimal digits.

    Args:
        plain: What `fingerprint` returned.

    Returns:
        Text.
    """
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:8]


def resolve_data(networks: Sequence[Network], settings: Settings) -> dict[str, str]:
    """Bring the data of each task to disk and say what it is.

    Args:
        networks: The networks to be trained.
        settings: How to train.

    Returns:
        ``"real"``, ``"synthetic"`` or ``"file"`` by task.
    """
    first = {network.task: network for network in reversed(networks)}
    sources = {}
    for task, network in first.items():
        datamodule: Any = instantiate(train_config(network, settings).datamodule)
        datamodule.prepare_data()
        sources[task] = datamodule.resolved_source
    return sources


@contextmanager
def _another_hydra() -> Iterator[None]:
    """Compose train.py's configuration in the middle of a command, which has a Hydra of its own."""
    register()
    instance = GlobalHydra.instance()
    own = instance.hydra
    instance.clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            yield
    finally:
        instance.clear()
        instance.hydra = own
