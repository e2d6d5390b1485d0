"""What loggers take besides scalars; Lightning has no common call for figures and histograms.

Loggers are known by what they can do, not by their class: those of both namespaces of Lightning,
and somebody else's, come the same way. One that claims to have any method, as Lightning's dummy
does, has none.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def image_way(logger: Any) -> Callable[[str, NDArray[np.uint8], int], Any] | None:
    """Return the way a logger takes images.

    Args:
        logger: A Lightning logger.

    Returns:
        A function of tag, image ``[height, width, 4]`` and step; None if it takes none.
    """
    experiment: Any = getattr(logger, "experiment", None)
    if _has(experiment, "add_image"):  # TensorBoard
        return partial(experiment.add_image, dataformats="HWC")
    if _has(logger, "log_image"):  # Weights & Biases
        return lambda tag, image, step: logger.log_image(tag, [image], step=step)
    if _has(experiment, "log_image") and hasattr(logger, "run_id"):  # MLflow
        return lambda tag, image, step: experiment.log_image(
            logger.run_id, image, key=tag, step=step
        )
    return None


def histogram_way(logger: Any) -> Callable[[str, Tensor, int], Any] | None:
    """Return the way a logger takes histograms.

    Args:
        logger: A Lightning logger.

    Returns:
        A function of tag, finite values ``[K]`` and step; None if it takes none.
    """
    experiment: Any = getattr(logger, "experiment", None)
    if _has(experiment, "add_histogram"):  # TensorBoard
        add: Callable[[str, Tensor, int], Any] = experiment.add_histogram
        return add
    if type(experiment).__module__.split(".")[0] == "wandb":
        from wandb import Histogram

        return lambda tag, values, step: logger.log_metrics(
            {tag: Histogram(values.tolist())}, step=step
        )
    return None


def layout_way(logger: Any) -> Callable[[dict[str, dict[str, list[Any]]]], Any] | None:
    """Return the way a logger takes a layout of its scalars.

    Args:
        logger: A Lightning logger.

    Returns:
        A function of the layout; None if it takes none.
    """
    experiment: Any = getattr(logger, "experiment", None)
    if not _has(experiment, "add_custom_scalars"):
        return None
    add: Callable[[dict[str, dict[str, list[Any]]]], Any] = experiment.add_custom_scalars
    return add


def scalars_alone(loggers: Sequence[Any]) -> list[str]:
    """Return the names of the classes of those loggers that take no images.

    Args:
        loggers: Lightning loggers.

    Returns:
        Names, each once.
    """
    names = [type(logger).__name__ for logger in loggers if image_way(logger) is None]
    return list(dict.fromkeys(names))


def log_histogram(logger: Any, tag: str, values: Tensor, step: int) -> None:
    """Send the finite values to a logger that takes histograms.

    Args:
        logger: A Lightning logger.
        tag: Name in the logger.
        values: ``[K]``.
        step: Step of the logger.
    """
    finite, send = values[values.isfinite()], histogram_way(logger)
    if finite.numel() and send is not None:
        send(tag, finite, step)


def log_image(logger: Any, tag: str, image: NDArray[np.uint8], step: int) -> None:
    """Send an image to a logger that takes images.

    Args:
        logger: A Lightning logger.
        tag: Name in the logger.
        image: ``[height, width, 4]``.
        step: Step of the logger.
    """
    send = image_way(logger)
    if send is not None:
        send(tag, image, step)


def _has(owner: Any, method: str) -> bool:
    """Return whether an object has a method, and not just any that it is asked for."""
    return hasattr(owner, method) and not hasattr(owner, f"no_{method}_at_all")
