"""Puts a module in evaluation mode beside its training, and back."""

import random
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import Any

import numpy
import torch
from torch import Tensor, nn

# Attributes of every module: its hooks, say, which others hold on to.
TORCH_OWN = frozenset(vars(nn.Module()))


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module and its parts in evaluation mode, and everything back to where it was.

    What a network keeps of a forward pass (its last state in an attribute, counts in buffers, sums
    in metrics, a list that grows, a parameter that it sets) is what it kept before; only what lies
    deeper, in objects of its own, is not looked after.

    Args:
        module: The module.

    Yields:
        None.
    """
    parts = list(module.modules())
    modes = [part.training for part in parts]  # scripted modules keep theirs outside of `vars`
    attributes = [dict(vars(part)) for part in parts]
    buffers = [dict(part._buffers.items()) for part in parts]
    # Those of scripted modules are no dicts, and can't be exchanged.
    parameters = [dict(p._parameters) if isinstance(p._parameters, dict) else {} for p in parts]
    copies = {buffer: buffer.clone() for buffer in module.buffers()}
    lent = _copies_of_what_may_change(attributes)
    try:
        for part, own, kept in zip(parts, attributes, buffers, strict=True):
            vars(part).update({k: lent[id(v)] for k, v in own.items() if id(v) in lent})
            for name, buffer in kept.items():
                part._buffers[name] = None if buffer is None else copies[buffer]
        module.eval()  # the user's own, where there is one: it may leave dropout on
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
        for part, weights in zip(parts, parameters, strict=True):
            if isinstance(part._parameters, dict):  # a wrapper may set what it computes as one
                part._parameters.clear()
                part._parameters.update(weights)


def _copies_of_what_may_change(attributes: Iterable[Mapping[str, Any]]) -> dict[int, Any]:
    """Copy the tensors and containers among attributes; return the copies by identity of theirs."""
    copies: dict[int, Any] = {}
    for own in attributes:
        for name, value in own.items():
            if name in TORCH_OWN or id(value) in copies:
                continue
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                copies[id(value)] = value.clone()
            elif type(value) in (list, dict, set, deque):
                copies[id(value)] = copy(value)
    return copies


@contextmanager
def preserved_generators() -> Iterator[None]:
    """Restore the global generators of Python, NumPy and torch at the end, after an error too.

    Yields:
        None.
    """
    python, cpu = random.getstate(), torch.get_rng_state()
    legacy = numpy.random.get_state()  # noqa: NPY002 - the user's generator
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        random.setstate(python)
        numpy.random.set_state(legacy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        torch.cuda.set_rng_state_all(cuda)
