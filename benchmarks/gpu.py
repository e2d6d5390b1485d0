"""What orthonormalization and whole spectra cost on a GPU: `python benchmarks/gpu.py --out FOLDER`.

In one run: the operations a factorization could be made of; `cholesky_qr` with panels of several
widths, called and replayed as a CUDA graph, beside the plain loop `torch.linalg.qr`; how right its
results are, against Householder reflections in float64 on the CPU; spectra of an LSTM, beside the
plain loop, a training step and the same spectrum on the CPU in float64; what the host waits for
inside the time loop; and which kernels take the time. Writes gpu.json and gpu.md. With ``--device
cpu --quick`` it runs small sizes anywhere.
"""

import argparse
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gpu_accuracy import CASES, compare
from gpu_bench import Bench, Replayed, cascade, panels, report
from lightning_lyap import SpectrumEstimate, lyapunov_spectrum
from lightning_lyap.dynamics import from_torch_module
from lightning_lyap.qr.cholesky import cholesky_qr
from performance.networks import characters
from performance.training import EPOCH, char_rnn, training_steps
from performance.waits import count_waits, recorded

PANELS = (32, 64, 128, 256, 512)


def operations(bench: Bench) -> None:
    """Time what a factorization could be made of."""
    for dtype in (torch.float32, torch.float64):
        for size in [n for n in (32, 64, 128, 256, 512) if n <= bench.size]:
            matrix = torch.randn(bench.batch, size, size, dtype=dtype, device=bench.device)
            gram = matrix @ matrix.mT / size + torch.eye(size, dtype=dtype, device=bench.device)
            lower = torch.linalg.cholesky(gram)
            wide = torch.randn(bench.batch, size, bench.size, dtype=dtype, device=bench.device)
            unit = torch.eye(size, dtype=dtype, device=bench.device).expand_as(gram)
            label = f"{str(dtype)[6:]} {bench.batch} x {size}"
            solve = partial(torch.linalg.solve_triangular, lower, upper=False)
            calls: dict[str, Callable[[], Any]] = {
                "cholesky_ex": partial(torch.linalg.cholesky_ex, gram),
                "triangle, inverse": partial(solve, unit),
                f"triangle, {bench.size} columns": partial(solve, wide),
                "small product": partial(torch.matmul, lower, gram),
                f"product, {bench.size} columns": partial(torch.matmul, lower, wide),
                "Gram matrix": partial(torch.matmul, wide, wide.mT),
            }
            for name, call in calls.items():
                bench.time("operation", f"{name}, {label}", call)


def factorizations(bench: Bench) -> None:
    """Time `cholesky_qr` beside `torch.linalg.qr`, for a whole basis and a partial one."""
    for dtype in (torch.float32, torch.float64):
        for count in (bench.size, max(bench.size // 16, 1)):
            basis = torch.randn(bench.batch, bench.size, count, dtype=dtype, device=bench.device)
            label = f"{str(dtype)[6:]} K={count}"
            plain = bench.time(
                "factor", f"torch.linalg.qr {label}", partial(torch.linalg.qr, basis)
            )
            for width in [p for p in PANELS if p <= max(count, PANELS[0])]:
                for passes in (1, 3) if width == 64 else (1,):
                    _time_widths(bench, basis, f"{label} panel={width}", width, passes, plain)


def _time_widths(
    bench: Bench, basis: Tensor, label: str, width: int, passes: int, plain: float
) -> None:
    """Time `cholesky_qr` with one width of panels, called and replayed."""
    methods: dict[str, Callable[..., Any]] = {"called": cholesky_qr}
    if bench.device.type == "cuda":
        methods["replayed"] = Replayed()
    for how, method in methods.items():
        with panels(width):
            try:
                name = f"{label} passes={passes} {how}"
                own = bench.time("factor", name, partial(method, basis, passes))
                bench.add("ratio", name, times_faster=plain / own)
            except RuntimeError as error:
                bench.add("factor", f"{label} {how}", failed=str(error)[:200])


def accuracy(bench: Bench) -> None:
    """Compare with Householder reflections in float64 on the CPU, up to hard cases."""
    size = min(bench.size, 256)
    for case in CASES:
        with cascade():
            bench.add("accuracy", str(case), **compare(case, size, bench.device))


def network(bench: Bench, scale: float) -> Any:
    """Build the LSTM of a CharRNN, its weights larger than at the start."""
    lstm = char_rnn(bench.size).rnn
    with torch.no_grad():
        for weight in lstm.parameters():
            weight.mul_(scale)
    return lstm


def plain_loop(lstm: nn.LSTM, inputs: Tensor) -> Tensor:
    """Run Algorithm 1 with nothing but `torch.linalg.qr`; return the exponents, ``[B, N]``."""
    system = from_torch_module(lstm, "hidden")
    state = system.initial_state(None, len(inputs))
    basis = torch.eye(system.tangent_size, device=inputs.device).expand(len(inputs), -1, -1)
    total = torch.zeros(basis.shape[:2], dtype=torch.float64, device=inputs.device)
    for drive in system.drive(inputs):
        state, push = system.step(drive, state)
        basis, r = torch.linalg.qr(push(basis))
        total += r.diagonal(dim1=-2, dim2=-1).abs().double().log()
    return total / inputs.shape[1]


@torch.no_grad()
def spectra(bench: Bench) -> None:
    """Time spectra of networks as they start and saturated, and compare them with the CPU's."""
    train = training_steps(bench.size, 1, bench.device, steps=bench.steps)
    step = bench.time("spectrum", "training step, batch 100", train)
    for scale in (1.0, 6.0):
        lstm, inputs = network(bench, scale), characters(bench.batch, bench.steps)
        exact = lyapunov_spectrum(
            lstm, inputs[:4], state="hidden", dtype=torch.float64, warmup_steps=0
        )
        lstm, inputs = lstm.to(bench.device), inputs.to(bench.device)
        short = inputs[:, : max(bench.steps // 10, 2)]
        name = f"weights x {scale:g}"
        plain = bench.time("spectrum", f"{name}, plain, {short.shape[1]} steps",
                           partial(plain_loop, lstm, short))  # fmt: skip
        ways: dict[str, tuple[Any, Callable[..., Any]]] = {
            "interval 1": (1, cholesky_qr),
            "interval auto": ("auto", cholesky_qr),
        }
        if bench.device.type == "cuda":
            ways["interval 1, replayed"] = (1, Replayed())
        for way, (every, method) in ways.items():
            measure = partial(
                lyapunov_spectrum,
                lstm,
                state="hidden",
                orthonormalize_every=every,
                warmup_steps=0,
            )
            with cascade(method):
                estimate = measure(inputs)
                ms = bench.time("spectrum", f"{name}, {way}", partial(measure, inputs))
                own = bench.time(
                    "spectrum",
                    f"{name}, {way}, {short.shape[1]} steps",
                    partial(measure, short),
                )
            bench.add(
                "agreement",
                f"{name}, {way}",
                training_steps=ms / step,
                epochs=ms / step / EPOCH,
                times_faster=plain / own,
                **agreement(estimate, exact),
            )


def agreement(estimate: SpectrumEstimate, exact: SpectrumEstimate) -> dict[str, Any]:
    """Compare the first sequences with those of the exact estimate, in the basis's order."""
    count = len(exact.steps)
    mine = right = torch.empty(count, len(exact.order), dtype=torch.float64)
    mine = mine.index_copy(1, estimate.order.cpu(), estimate.per_sequence[:count].cpu())
    right = right.index_copy(1, exact.order, exact.per_sequence)
    resolved = torch.zeros(len(exact.order), dtype=torch.bool)
    resolved = resolved.index_copy(0, estimate.order.cpu(), estimate.resolved.cpu())
    difference = (mine - right).abs()[:, resolved]
    return {
        "largest_difference": difference.max().item(),
        "median_difference": difference.median().item(),
        "lowest": right.min().item(),
        "unresolved": int((~resolved).sum()),
        "factorizations": estimate.certificate.num_factorizations,
        "redone": estimate.certificate.num_redone,
        "orthogonality": getattr(estimate.certificate.orthogonality, "residual", None),
        "certified": estimate.certificate.passed,
    }


def waits(bench: Bench) -> None:
    """Count what the host waits for inside the time loop, and list the kernels of some steps."""
    inputs = characters(bench.batch, bench.steps)[:, :20].to(bench.device)
    lstm = network(bench, 1.0).to(bench.device)
    with cascade():
        found = recorded(
            partial(lyapunov_spectrum, lstm, inputs, state="hidden", warmup_steps=0), bench.device
        )
    counts = count_waits(found.events() or ())
    named = counts.named | {"from the first step to the last": counts.between}
    bench.add("waits", f"time loop of {counts.steps} steps", **named)
    key = "self_device_time_total" if bench.device.type == "cuda" else "self_cpu_time_total"
    averages = sorted(found.key_averages(), key=lambda a: -getattr(a, key))
    for average in averages[:18]:
        each = getattr(average, key) / 1e3
        bench.add("kernels", average.key[:80], ms=each, count=average.count)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--out", type=Path, default=Path("gpu"))
    parts = {"operations": operations, "factorizations": factorizations, "spectra": spectra,
             "waits": waits, "accuracy": accuracy}  # fmt: skip
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    bench = Bench(device, *((2, 48, 8) if arguments.quick else (10, 512, 100)))
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    title = f"{name}, torch {torch.__version__}"
    for part in arguments.parts:
        begin = time.perf_counter()
        try:
            parts[part](bench)
        except Exception:
            # What was measured before is worth having.
            bench.add("failed", part, error=traceback.format_exc()[-1500:])
        bench.add("time", part, seconds=time.perf_counter() - begin)
        report(bench, arguments.out, title)


if __name__ == "__main__":
    main()
