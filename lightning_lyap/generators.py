"""Keeps the global random generators as they are."""

from collections.abc import Iterator
from contextlib import contextmanager

from pytorch_lightning.utilities.seed import isolate_rng


@contextmanager
def preserved_generators() -> Iterator[None]:
    """Restore the generators of Python, NumPy and torch at the end, after an error too.

    `isolate_rng` restores nothing when an error passes through it, so the error waits outside.

    Yields:
        None.
    """
    failure: BaseException | None = None
    with isolate_rng():
        try:
            yield
        except BaseException as error:
            failure = error
    if failure is not None:
        raise failure
