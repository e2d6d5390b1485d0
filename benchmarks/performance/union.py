"""What `layers="union"` saves in stacks."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from performance.laws import Problem
from performance.table import Bar, Result, Row
from performance.timing import in_turn, ratio, stopwatch_of

TEXT = (
    "How many times faster the complete spectrum of {stack} layers of H units is with "
    '`layers="union"` than jointly (GRU, float32, interval 1, one thread). Factorizations and '
    "products of layers with bases of their own take L² times fewer operations in all; the bar is "
    "0.8 L². Beside it the same ratio of a bare step, `torch.linalg.qr(torch.bmm(J, Q))`: large "
    "matrices make better use of a processor, so that it stays below L². The difference is that of "
    "the union from its own twin, layer by layer."
)


@dataclass(frozen=True)
class Sizes:
    """How much to compute.

    Attributes:
        problems: H, B and T of each.
        rounds: How often.
        stack: L.
    """

    problems: tuple[tuple[int, int, int], ...]
    rounds: int
    stack: int = 4


FULL = Sizes(((64, 10, 50), (128, 10, 30), (256, 4, 30), (512, 2, 16)), 2)
QUICK = Sizes(((64, 10, 10), (128, 10, 4), (256, 2, 4)), 2)


def measure(sizes: Sizes, device: torch.device) -> Result:
    """Measure the section.

    Args:
        sizes: How much.
        device: The CPU.

    Returns:
        Two rows for each problem.
    """
    rows = []
    for units, batch, steps in sizes.problems:
        joint = Problem(units, batch, steps, stack=sizes.stack)
        union = replace(joint, layers="union")
        difference = replace(union, steps=2).difference()
        spectra = [joint.call(), union.call()]
        bare = [bare_step(batch, sizes.stack * units), bare_step(sizes.stack * batch, units)]
        stopwatch = stopwatch_of(device)
        replace(joint, steps=2).call()()
        times = in_turn(spectra, sizes.rounds, stopwatch=stopwatch, warm_up=False)
        least = in_turn(bare, sizes.rounds, stopwatch=stopwatch)
        what = f"H = {units}, B = {batch}, T = {steps}"
        bar = Bar(">=", 0.8 * sizes.stack**2)
        rows.append(
            Row(f"{what}: joint over union", ratio(times, 0, 1), bar, difference=difference)
        )
        rows.append(Row(f"{what}: bare step, joint over union", ratio(least, 0, 1)))
    return Result("Layers by themselves", TEXT.format(stack=sizes.stack), rows)


def bare_step(count: int, size: int) -> Callable[[], Any]:
    """Return a step of nothing but products and factorizations.

    Args:
        count: Number of bases.
        size: N of each.

    Returns:
        A call of it.
    """
    generator = torch.Generator().manual_seed(0)
    jacobians = torch.randn(count, size, size, generator=generator) / size**0.5
    bases = torch.eye(size).expand(count, -1, -1)

    def step(matrices: Tensor) -> Any:
        return torch.linalg.qr(torch.bmm(matrices, bases))

    return partial(step, jacobians)
