"""Types of the configuration: a key that is not here, or a value of another type, is refused.

Ranges and words are checked by the classes that take them, before training, when they are built.
"""

from dataclasses import dataclass, field, make_dataclass
from inspect import signature
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

# Their resolvers are needed wherever the types are: the workers of launchers import this module.
from conf import folders as folders
from lightning_lyap import LyapunovSpectrumCallback

# Arguments of other types become Any; their class checks the values. Read off annotations as types,
# so the class must not postpone their evaluation (`from __future__ import annotations`).
HYDRAS_TYPES = (int, bool, str, int | None)


@dataclass
class TaskConfig:
    """What both tasks have."""

    name: str = MISSING
    cell: str = MISSING
    hidden_size: int = MISSING
    num_layers: int = MISSING
    bias: bool = MISSING
    dropout: float = MISSING
    lr: float = MISSING
    batch_size: int = MISSING
    num_workers: int = 0
    max_epochs: int = MISSING
    every_n_validations: int = MISSING


@dataclass
class CharRNNTask(TaskConfig):
    """Character prediction (Section 5.1, A.1)."""

    text: str | None = None
    sequence_length: int = MISSING
    lr_decay: float = MISSING
    constant_epochs: int = MISSING


@dataclass
class MocapTask(TaskConfig):
    """Prediction of motion (Section 5.1, A.2)."""

    window: int = MISSING
    num_features: int = MISSING


@dataclass
class DataConfig:
    """Real recordings or the synthetic stand-in."""

    source: str = MISSING


@dataclass
class TrainerConfig:
    """Arguments of the Lightning Trainer."""

    _target_: str = "pytorch_lightning.Trainer"
    max_epochs: int | None = None
    max_steps: int = -1
    max_time: str | None = None
    accelerator: str = "auto"
    devices: Any = 1
    strategy: str = "auto"
    precision: str | None = None
    deterministic: bool | None = None
    gradient_clip_val: float | None = None
    accumulate_grad_batches: int = 1
    check_val_every_n_epoch: int | None = 1
    val_check_interval: Any = None
    limit_train_batches: Any = None
    limit_val_batches: Any = None
    num_sanity_val_steps: int = 2
    log_every_n_steps: int = 50
    enable_progress_bar: bool = True
    enable_model_summary: bool = True
    fast_dev_run: Any = False
    default_root_dir: str | None = None


def _config_of(kind: type, path: str, **defaults: Any) -> Any:
    """Make a dataclass of the arguments of a class; types that Hydra doesn't have become Any."""
    fields = [
        (
            argument.name,
            argument.annotation if argument.annotation in HYDRAS_TYPES else Any,
            defaults.get(argument.name, argument.default),
        )
        for argument in signature(kind).parameters.values()
    ]
    return make_dataclass(f"{kind.__name__}Config", [("_target_", str, path), *fields])


# From the signature, so that a new argument of the callback is a key without being named here.
# The paper's tasks measure the paper's map, dh'/dh.
LyapunovConfig = _config_of(
    LyapunovSpectrumCallback, "lightning_lyap.LyapunovSpectrumCallback", state="hidden"
)


@dataclass
class Config:
    """The whole configuration."""

    task: Any = MISSING
    data: DataConfig = MISSING
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    lyapunov: LyapunovConfig = field(default_factory=LyapunovConfig)  # type: ignore[valid-type]
    logger: dict[str, Any] = field(default_factory=dict)
    callbacks: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = MISSING
    datamodule: dict[str, Any] = MISSING
    init_p: float = MISSING
    seed: int = 1
    flush_denormal: bool = True
    data_dir: str | None = None
    resume: str | None = None
    objective: Any = "val/loss_best"


def register() -> None:
    """Make the types known to Hydra."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    store.store(group="schema/task", name="charrnn", node=CharRNNTask)
    store.store(group="schema/task", name="mocap", node=MocapTask)
