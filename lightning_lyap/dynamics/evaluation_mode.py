"""Evaluation mode beside the training of a module."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def in_evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module and its parts in evaluation mode, and each back in the mode it was in.

    Args:
        module: The module.
    """
    modes = [(part, part.training) for part in module.modules()]
    try:
        for part, _ in modes:
            part.training = False  # `eval` may be the user's own
        yield
    finally:
        for part, training in modes:
            part.training = training
