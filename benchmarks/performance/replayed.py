"""What is to be had on a GPU with factorizations that are recorded once and replayed."""

from collections.abc import Callable
from typing import Any

import torch

from gpu_bench import Replayed, cascade
from lightning_lyap.qr.orthonormalize import orthonormalize
from performance.on_gpu import INTERVALS, Sizes, beside_training, factorizations, spectrum_calls
from performance.table import Result

TEXT = (
    "The same numbers where `cholesky_qr` is recorded once and replayed as a CUDA graph, which the "
    "package does not do: what launching its kernels one by one costs."
)


def replaying(method: Callable[..., Any], call: Callable[..., Any]) -> Callable[..., Any]:
    """Let something use another factorization.

    Args:
        method: In place of `cholesky_qr`.
        call: What factorizes.

    Returns:
        A function like it.
    """

    def run(*arguments: Any) -> Any:
        with cascade(method):
            return call(*arguments)

    return run


def measure(sizes: Sizes, device: torch.device) -> Result:
    """Measure the section.

    Args:
        sizes: How much.
        device: The GPU.

    Returns:
        Rows like those of `on_gpu`, without bars.
    """
    method = Replayed()
    rows = factorizations(sizes, device, replaying(method, orthonormalize), " replayed", None)
    calls = [replaying(method, call) for call in spectrum_calls(sizes, device)]
    estimates = [call() for call in calls]
    labels = [f"replayed, interval {every}" for every in INTERVALS]
    rows += beside_training(sizes, device, calls, estimates, labels, judged=False)
    return Result("Factorizations as a CUDA graph", TEXT, rows)
