"""A progress bar for measurements that take longer than a moment."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm.auto import tqdm

DELAY_SECONDS = 2.0


class SpectrumProgress:
    """A bar for each module in turn.

    Args:
        shown: Whether to show anything.
    """

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._bar: Any = None

    def __call__(self, name: str, done: int, total: int) -> None:
        """Move the bar.

        Args:
            name: The module's name.
            done: Steps done.
            total: Steps in all.
        """
        if done == 1:
            self.close()
            self._bar = tqdm(
                total=total,
                desc=f"Lyapunov spectrum of {name}",
                unit="step",
                delay=DELAY_SECONDS,
                leave=False,
                disable=not self._shown,
            )
        self._bar.update()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()


@contextmanager
def spectrum_progress(shown: bool) -> Iterator[SpectrumProgress]:
    """Show progress while a measurement lasts.

    Args:
        shown: Whether to show anything.

    Yields:
        What to call after each step.
    """
    progress = SpectrumProgress(shown)
    try:
        yield progress
    finally:
        progress.close()
