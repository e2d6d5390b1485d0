"""Registers a recurrence for as long as a test needs it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning_lyap import register_recurrence, unregister_recurrence


@contextmanager
def registered(kind: type[Any], **functions: Any) -> Iterator[None]:
    """Register a type of module, and forget it at the end however that comes."""
    register_recurrence(kind, **functions)
    try:
        yield
    finally:
        unregister_recurrence(kind)
