"""Measurements on a device, and the switches they are made with; see `gpu.py`."""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from lightning_lyap.estimator import trajectories
from lightning_lyap.qr import cholesky
from lightning_lyap.qr import orthonormalize as orthonormal
from lightning_lyap.qr.cholesky import cholesky_qr

# Seconds spent on one measurement at most, after its first call.
BUDGET = 0.6


@dataclass
class Bench:
    """What is measured where, and what came of it.

    Attributes:
        device: The device.
        batch: B.
        size: N.
        steps: T.
        rows: One for each measurement.
    """

    device: torch.device
    batch: int
    size: int
    steps: int
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, section: str, name: str, **values: Any) -> None:
        """Keep a row and print it."""
        self.rows.append({"section": section, "name": name, **values})
        cells = (f"{key} {text(value)}" for key, value in values.items())
        print(f"{section:11} {name:44} " + "  ".join(cells), flush=True)

    def time(self, section: str, name: str, call: Callable[[], Any], **values: Any) -> float:
        """Time calls, keep median and spread in milliseconds; return the median."""
        times = sorted(self._times(call))
        median = statistics.median(times)
        self.add(section, name, ms=median, low=times[0], high=times[-1], n=len(times), **values)
        return median

    def _times(self, call: Callable[[], Any]) -> list[float]:
        """Call again and again; return milliseconds, by events on CUDA."""
        call()
        self.wait()
        times: list[float] = []
        begin = time.perf_counter()
        while len(times) < 3 or (time.perf_counter() - begin < BUDGET and len(times) < 20):
            if self.device.type == "cuda":
                first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                first.record()
                call()
                last.record()
                last.synchronize()
                times.append(first.elapsed_time(last))
            else:
                start = time.perf_counter()
                call()
                times.append(1e3 * (time.perf_counter() - start))
        return times

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


class Replayed:
    """`cholesky_qr`, recorded once for each form of its arguments and replayed as a CUDA graph."""

    def __init__(self) -> None:
        self._graphs: dict[Any, tuple[Any, Tensor, Any]] = {}

    def __call__(self, basis: Tensor, passes: int = 1, panel_width: int | None = None) -> Any:
        """Replay; see `cholesky_qr`."""
        key = (basis.shape, basis.dtype, passes, panel_width or cholesky.PANEL_WIDTH)
        if key not in self._graphs:
            given = basis.mT.contiguous().mT
            cholesky_qr(given, passes, panel_width=panel_width)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                results = cholesky_qr(given, passes, panel_width=panel_width)
            self._graphs[key] = graph, given, results
        graph, given, (result, failed) = self._graphs[key]
        given.copy_(basis)
        graph.replay()
        return type(result)(*(part.clone() for part in result)), failed.clone()


def text(value: Any) -> str:
    """Return a value as it is printed."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@contextmanager
def panels(width: int) -> Iterator[None]:
    """Let `cholesky_qr` take panels of another width."""
    with mock.patch.object(cholesky, "PANEL_WIDTH", width):
        yield


@contextmanager
def cascade(method: Callable[..., Any] = cholesky_qr) -> Iterator[None]:
    """Let the package use the cascade on every device, and this in place of `cholesky_qr`."""
    with (
        mock.patch.object(orthonormal, "cascade_is_faster_on", return_value=True),
        mock.patch.object(trajectories, "cascade_is_faster_on", return_value=True),
        mock.patch.object(orthonormal, "cholesky_qr", method),
    ):
        yield


def report(bench: Bench, folder: Path, title: str) -> None:
    """Write everything as JSON and as tables."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gpu.json").write_text(json.dumps({"on": title, "rows": bench.rows}, indent=1))
    lines = [f"# Costs on a GPU\n\nMade by `python benchmarks/gpu.py` on {title}.\n"]
    for section in dict.fromkeys(row["section"] for row in bench.rows):
        rows = [row for row in bench.rows if row["section"] == section]
        keys = list(dict.fromkeys(key for row in rows for key in row if key != "section"))
        lines.append(f"\n## {section}\n\n| " + " | ".join(keys) + " |")
        lines.append("| --- " * len(keys) + "|")
        cells = ([text(row.get(key, "")) for key in keys] for row in rows)
        lines.extend("| " + " | ".join(own) + " |" for own in cells)
    (folder / "gpu.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
