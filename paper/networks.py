"""Which networks the figures show: names, settings, and the seeded lists they are drawn from."""

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf

GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, eq=False)
class Network:
    """A network to be trained.

    Attributes:
        name: Tells it from the others of its scale.
        task: ``"charrnn"`` or ``"mocap"``.
        scale: Name of the scale.
        epochs: Epochs to train.
        facts: What makes it differ from its siblings: ``init_p``, ``dropout``, ``lr``.
        overrides: Settings of train.py, nested as there.
    """

    name: str
    task: str
    scale: str
    epochs: int
    facts: dict[str, float]
    overrides: dict[str, Any] = field(default_factory=dict)


def charrnn_by_init(cfg: DictConfig) -> list[Network]:
    """List the networks of Fig. 3: character prediction at several initialization parameters.

    Args:
        cfg: Settings of the command.

    Returns:
        Networks that differ in nothing but p, the seed included.
    """
    chosen = cfg.scale.charrnn_init
    return [
        _network(cfg, "charrnn", f"p{value:g}", chosen.epochs, {"init_p": value})
        for value in chosen["values"]
    ]


def charrnn_random(cfg: DictConfig) -> list[Network]:
    """List the networks of Fig. 4 (a, b): character prediction at random dropout and rate.

    A longer list begins with the shorter one. Each network has a seed of its own.

    Args:
        cfg: Settings of the command.

    Returns:
        Networks whose dropout is uniform in its logarithm, the learning rate uniform.
    """
    chosen = cfg.scale.charrnn_random
    draw = random.Random(chosen.seed)
    networks = []
    for index in range(chosen.count):
        low, high = map(math.log, chosen.dropout)
        # Five digits, so that names and settings hold the same number.
        dropout = float(f"{math.exp(draw.uniform(low, high)):.5g}")
        lr = float(f"{draw.uniform(*chosen.lr):.5g}")
        facts = {"dropout": dropout, "lr": lr}
        networks.append(
            _network(cfg, "charrnn", f"draw{index:02}", chosen.epochs, facts, seed=1 + index)
        )
    return networks


def mocap_by_init(cfg: DictConfig) -> list[Network]:
    """List the networks of Fig. 4 (c, d): motion at many initialization parameters.

    The values are multiples of the golden ratio, modulo the range: every beginning of the list
    covers the range evenly. Each network has a seed of its own.

    Args:
        cfg: Settings of the command.

    Returns:
        Networks.
    """
    chosen = cfg.scale.mocap_init
    low, high = chosen.init_p
    networks = []
    for index in range(chosen.count):
        value = float(f"{low + (high - low) * ((index + 1) * GOLDEN % 1):.5g}")
        facts = {"init_p": value}
        networks.append(
            _network(cfg, "mocap", f"draw{index:02}", chosen.epochs, facts, seed=1 + index)
        )
    return networks


def of_tasks(cfg: DictConfig) -> list[Network]:
    """List the networks of Figs. 4 and 7, of the tasks that are asked for.

    Args:
        cfg: Settings of the command.

    Returns:
        Networks, task by task.

    Raises:
        ValueError: If a task is unknown.
    """
    makers = {"charrnn": charrnn_random, "mocap": mocap_by_init}
    _check_tasks(cfg.tasks, makers)
    return [network for task in cfg.tasks for network in makers[task](cfg)]


def trained(cfg: DictConfig) -> list[Network]:
    """List the networks of Figs. 2, 5 and 6: one of each task that is asked for.

    They are networks of the other figures, so that no other is trained for these.

    Args:
        cfg: Settings of the command.

    Returns:
        Networks, task by task.

    Raises:
        ValueError: If a task is unknown, or the scale names a network that is none of its task's.
    """
    lists = {"charrnn": (charrnn_by_init, charrnn_random), "mocap": (mocap_by_init,)}
    _check_tasks(cfg.tasks, lists)
    chosen = []
    for task in cfg.tasks:
        found = {network.name: network for make in lists[task] for network in make(cfg)}
        name = cfg.scale.measured[task]
        if name not in found:
            raise ValueError(
                f"Expected `scale.measured.{task}` to be one of {list(found)}, but got {name!r}."
            )
        chosen.append(found[name])
    return chosen


def _check_tasks(tasks: Sequence[str], known: Iterable[str]) -> None:
    """Refuse tasks that are unknown.

    Args:
        tasks: Those asked for.
        known: Those there are.

    Raises:
        ValueError: If one is unknown.
    """
    unknown = [task for task in tasks if task not in known]
    if unknown:
        raise ValueError(f"Expected `tasks` out of {list(known)}, but got {unknown}.")


def _network(
    cfg: DictConfig, task: str, label: str, epochs: int, facts: dict[str, float], seed: int = 1
) -> Network:
    """Make a network of a scale.

    Args:
        cfg: Settings of the command.
        task: Its task.
        label: Its name within the task.
        epochs: Epochs to train.
        facts: What makes it differ.
        seed: Of its weights, batches and dropout.

    Returns:
        The network.
    """
    own = {name: value for name, value in facts.items() if name != "init_p"}
    drawn: dict[str, Any] = {"task": own, "seed": seed}
    if "init_p" in facts:
        drawn["init_p"] = facts["init_p"]
    scale, train = (
        OmegaConf.create(OmegaConf.to_container(part, resolve=True))
        for part in (cfg.scale[task], cfg.train)
    )
    overrides: Any = OmegaConf.to_container(OmegaConf.merge(scale, drawn, train))
    return Network(f"{task}-{label}", task, cfg.scale.name, epochs, facts, overrides)
