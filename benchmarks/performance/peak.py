"""The peak memory of one spectrum, in a process of its own: `python -m performance.peak TASK`."""

import gc
import json
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lightning_lyap import SpectrumEstimate, lyapunov_spectrum
from lightning_lyap.dynamics import LayerChoice, StateChoice, as_dynamics, uncouple
from lightning_lyap.estimator.batching import bytes_per_sequence
from lightning_lyap.estimator.schedule import Interval
from lightning_lyap.qr.orthonormalize import random_orthonormal_basis
from performance.networks import characters, network
from performance.twin import Twin, largest_difference

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
FEATURES = 16
# Largest N that is compared with the twin.
COMPARED = 512


@dataclass(frozen=True)
class Task:
    """A spectrum.

    Attributes:
        kind: ``"LSTM"``, ``"GRU"`` or ``"RNN"``.
        units: H.
        batch: B.
        steps: T.
        count: K; None for all.
        stack: L.
        layers: ``"joint"`` or ``"union"``.
        state: ``"hidden"`` or ``"full"``.
        every: Steps between factorizations, or ``"auto"``.
    """

    kind: str
    units: int
    batch: int
    steps: int = 3
    count: int | None = None
    stack: int = 1
    layers: LayerChoice = "joint"
    state: StateChoice = "hidden"
    every: Interval = 1

    @property
    def name(self) -> str:
        """What it is, in words."""
        parts = [f"{self.kind}, {self.units} units"]
        parts += [f"{self.stack} layers {self.layers}"] if self.stack > 1 else []
        parts += ["full"] if self.state == "full" else []
        parts += ["all exponents" if self.count is None else f"K = {self.count}"]
        parts += [f"interval {self.every}"] if self.every != 1 else []
        return ", ".join([*parts, f"B = {self.batch}"])

    def as_json(self) -> str:
        """Return what the command takes."""
        return json.dumps(asdict(self))


def memory(key: str) -> int:
    """Read how much memory this process has.

    Args:
        key: ``"VmRSS"`` for now, ``"VmHWM"`` for the most it had.

    Returns:
        Bytes.
    """
    lines = STATUS.read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith(f"{key}:"))
    return 1024 * int(line.split()[1])


def measure(task: Task) -> dict[str, Any]:
    """Measure the peak, beyond the network, its inputs and what a first spectrum leaves.

    Args:
        task: What to measure.

    Returns:
        ``peak``, bytes; ``estimated``, the same by
            `lightning_lyap.estimator.batching`; and ``difference``,
        nats per step, None where N is too large for the twin.
    """
    small = network(task.kind, 4, task.stack, FEATURES)
    _spectrum(task, small, characters(2, 2, FEATURES), min(task.count or 4, 2))
    module = network(task.kind, task.units, task.stack, FEATURES)
    inputs = characters(task.batch, task.steps, FEATURES)
    gc.collect()
    CLEAR.write_text("5", encoding="ascii")  # the peak is what there is now
    before = memory("VmRSS")
    estimate = _spectrum(task, module, inputs, task.count)
    peak = memory("VmHWM") - before
    system: Any = as_dynamics(module, None, task.state, None)
    system = uncouple(system, task.layers)
    size = system.tangent_size // system.num_blocks
    count = size if task.count is None else min(task.count, size)
    return {
        "peak": peak,
        "estimated": task.batch * bytes_per_sequence(system, count),
        "difference": _difference(task, module, inputs, estimate),
    }


def _spectrum(
    task: Task, module: torch.nn.RNNBase, inputs: torch.Tensor, count: int | None
) -> SpectrumEstimate:
    """Measure a spectrum of a task's kind; return the estimate."""
    return lyapunov_spectrum(
        module,
        inputs,
        num_exponents=count,
        state=task.state,
        layers=task.layers,
        orthonormalize_every=task.every,
        warmup_steps=0,
    )


def _difference(
    task: Task, module: torch.nn.RNNBase, inputs: torch.Tensor, estimate: SpectrumEstimate
) -> float | None:
    """Compare the first sequence with the twin; return nats per step, None if it is too large."""
    size = estimate.tangent_size
    if size > COMPARED:
        return None
    basis = None
    if task.count is not None:
        draw = partial(random_orthonormal_basis, size, task.count, 0)
        basis = draw(torch.float32, torch.device("cpu"))
    blocks = task.stack if task.layers == "union" else 1
    with torch.no_grad():
        exact = Twin(module, task.state).exponents(inputs[:1], basis, blocks)
    return largest_difference(estimate, exact)


if __name__ == "__main__":
    print(json.dumps(measure(Task(**json.loads(sys.argv[1])))))
