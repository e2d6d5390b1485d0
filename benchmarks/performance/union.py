"""What `layers="union"` saves in stacks."""

from dataclasses import dataclass, replace

import torch

from performance.laws import Problem
from performance.table import Bar, Result, Row
from performance.timing import in_turn, ratio, stopwatch_of

TEXT = (
    "How many times faster the complete spectrum of {stack} layers of H units is with "
    '`layers="union"` than jointly (GRU, B = {batch}, float32, interval 1, one thread). '
    "Factorizations and products of layers with bases of their own are L² times cheaper in all; "
    "the bar is 0.8 L². The difference is that of the union from its own twin, layer by layer."
)


@dataclass(frozen=True)
class Sizes:
    """How much to compute.

    Attributes:
        units: Values of H, with the number of steps of each.
        rounds: How often.
        batch: B.
        stack: L.
    """

    units: tuple[tuple[int, int], ...]
    rounds: int
    batch: int = 10
    stack: int = 4


FULL = Sizes(((64, 40), (128, 20), (256, 10), (512, 4)), 2)
QUICK = Sizes(((64, 10), (128, 4), (256, 2)), 2)


def measure(sizes: Sizes, device: torch.device) -> Result:
    """Measure the section.

    Args:
        sizes: How much.
        device: The CPU.

    Returns:
        A row for each number of units.
    """
    rows = []
    for units, steps in sizes.units:
        joint = Problem(units, sizes.batch, steps, stack=sizes.stack)
        union = replace(joint, layers="union")
        difference = replace(union, steps=2).difference()
        calls = [joint.call(), union.call()]
        times = in_turn(calls, sizes.rounds, stopwatch=stopwatch_of(device), warm_up=False)
        what = f"H = {units}, T = {steps}: joint over union"
        bar = Bar(">=", 0.8 * sizes.stack**2)
        rows.append(Row(what, ratio(times, 0, 1), bar, difference=difference))
    return Result("Layers by themselves", TEXT.format(stack=sizes.stack, batch=sizes.batch), rows)
