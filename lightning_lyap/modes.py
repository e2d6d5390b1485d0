"""Puts a module in evaluation mode beside its training, and back."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def in_evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module and its parts in evaluation mode, and each back in the mode it was in.

    Args:
        module: The module.

    Yields:
        None.
    """
    modes = [(part, part.training) for part in module.modules()]
    try:
        for part, _ in modes:
            part.training = False  # `eval` may be the user's own
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module and its parts in evaluation mode, and everything back to where it was.

    What a network keeps of a forward pass (its last state in an attribute, counts in buffers) is
    what it kept before; only objects of its own that are no buffers and change in place, such as
    lists, are not looked after.

    Args:
        module: The module.

    Yields:
        None.
    """
    parts = list(module.modules())
    modes = [part.training for part in parts]
    attributes = [dict(vars(part)) for part in parts]
    buffers = [dict(part._buffers.items()) for part in parts]
    copies = {buffer: buffer.clone() for buffer in module.buffers()}
    for part, kept in zip(parts, buffers, strict=True):
        for name, buffer in kept.items():
            part._buffers[name] = None if buffer is None else copies[buffer]
    module.eval()
    try:
        yield
    finally:
        for part, own, kept, training in zip(parts, attributes, buffers, modes, strict=True):
            for name in vars(part).keys() - own.keys():
                del vars(part)[name]
            vars(part).update(own)
            for name in {*part._buffers.keys()} - kept.keys():
                del part._buffers[name]
            for name, buffer in kept.items():
                part._buffers[name] = buffer
            part.training = training
