"""Transfer one file over HTTP within a deadline that even a trickling server cannot stretch."""

import io
import threading
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

CHUNK_BYTES = 16 * 1024


class _Progress:
    """What pooch takes for a progress bar: counts bytes, and ends a transfer nobody waits for."""

    total = 0

    def __init__(self, bar: "tqdm[Any]") -> None:
        """Attach to the bar of the whole download.

        Args:
            bar: The bar that is shown.
        """
        self.responded = False
        self.abandoned = False
        self._finished = False
        self._bar = bar

    def update(self, num_bytes: int) -> None:
        """Count a received chunk.

        Args:
            num_bytes: Size of the chunk in bytes.

        Raises:
            TimeoutError: If the transfer was given up meanwhile.
        """
        self.responded = True
        if self.abandoned:
            raise TimeoutError("Expected no more bytes after the deadline")
        if not self._finished:
            self._bar.update(num_bytes)

    def reset(self) -> None:
        """Stop counting: pooch fills its bar with the total after the last chunk."""
        self._finished = True

    def close(self) -> None:
        """Leave the bar open for the next file."""


class Downloader:
    """Transfers a file for pooch and keeps a deadline even while bytes trickle or a name resolves.

    Socket timeouts restart with every byte and do not cover name resolution, so the transfer runs
    in a thread, into memory, and is abandoned when the time is over.
    """

    def __init__(
        self, pooch: Any, bar: "tqdm[Any]", connect_seconds: float, deadline: float | None
    ) -> None:
        """Set the limits.

        Args:
            pooch: The pooch module.
            bar: The bar that is shown.
            connect_seconds: Seconds until the server has to connect.
            deadline: Value of ``time.monotonic()`` when everything has to be finished, or None.
        """
        self._pooch = pooch
        self._bar = bar
        self._connect_seconds = connect_seconds
        self._deadline = deadline

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Transfer one file.

        Args:
            url: Its address.
            output_file: Path to write to; written only when the transfer is complete.
            pooch: The ``pooch.Pooch`` that asks.

        Raises:
            OSError: If the server does not deliver.
            TimeoutError: If the time is over.
        """
        progress, content = _Progress(self._bar), io.BytesIO()
        failures: list[BaseException] = []
        limits = (self._connect_seconds, 3 * self._connect_seconds)
        http = self._pooch.HTTPDownloader(
            progressbar=progress, chunk_size=CHUNK_BYTES, timeout=limits
        )

        def transfer() -> None:
            """Download into memory and keep the failure for the waiting thread."""
            try:
                http(url, content, pooch)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=transfer, name="transfer", daemon=True)
        thread.start()
        self._wait(thread, progress)
        if failures:
            raise failures[0]
        Path(output_file).write_bytes(content.getvalue())

    def _wait(self, thread: threading.Thread, progress: _Progress) -> None:
        """Wait for a transfer, but not beyond the limits."""
        if self._deadline is None:
            thread.join()
            return
        left = max(0.0, self._deadline - time.monotonic())
        thread.join(min(left, self._connect_seconds))
        if thread.is_alive() and progress.responded:
            thread.join(max(0.0, self._deadline - time.monotonic()))
        if thread.is_alive():
            progress.abandoned = True
            raise TimeoutError("the time allowed for fetching is over")
