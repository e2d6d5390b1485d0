"""Whether the dense and the matrix-free product change places where the package thinks."""

from dataclasses import dataclass
from functools import partial

import torch

from lightning_lyap.dynamics.gates import GateWeights, mix_dense, mix_matrix_free, prefers_dense
from performance.table import Result, Row
from performance.timing import in_turn, ratio, stopwatch_of

TEXT = (
    "Time of the matrix-free product with K tangent vectors over that of the dense one, with B = "
    "{batch} on one thread, on both sides of the switch of `lightning_lyap.dynamics.gates`: "
    "where dense is chosen the ratio should be above 1, elsewhere below, and near the switch it is "
    "about 1. Here the difference is that of either product from an einsum in float64."
)


@dataclass(frozen=True)
class Sizes:
    """How much to compute.

    Attributes:
        units: Values of N.
        batch: B.
        rounds: How often.
        gates: Values of G, above 1.
    """

    units: tuple[int, ...]
    batch: int
    rounds: int
    gates: tuple[int, ...] = (3, 4)


FULL = Sizes((128, 256, 512), 10, 15)
QUICK = Sizes((128, 512), 10, 5)


def sides(gates: int, units: int) -> list[int]:
    """Return numbers of vectors on both sides of the switch.

    Args:
        gates: G, above 1.
        units: N.

    Returns:
        A quarter of where it lies, just below, there, and four times as many.

    Example:
        >>> sides(4, 256)
        [3, 13, 14, 56]
    """
    switch = next(k for k in range(1, 1000) if prefers_dense(gates, units, k))
    return [max(1, switch // 4), switch - 1, switch, 4 * switch]


def measure(sizes: Sizes, device: torch.device) -> Result:
    """Measure the section.

    Args:
        sizes: How much.
        device: The CPU.

    Returns:
        A row for each size, number of gates and number of vectors.
    """
    generator = torch.Generator().manual_seed(0)
    rows = []
    for gates in sizes.gates:
        for units in sizes.units:
            weight = torch.randn(gates, units, units, generator=generator) / units**0.5
            slopes = torch.rand(sizes.batch, gates, units, generator=generator)
            for count in sides(gates, units):
                basis = torch.randn(sizes.batch, count, units, generator=generator).mT
                basis = basis / units**0.5
                own = GateWeights(weight.flatten(0, 1), gates)[:]
                ways = [partial(way, own, slopes, basis) for way in (mix_matrix_free, mix_dense)]
                exact = torch.einsum(
                    "bgh,ghd,bdk->bhk", slopes.double(), weight.double(), basis.double()
                )
                off = max(float((way() - exact).abs().max()) for way in ways)
                times = in_turn(ways, sizes.rounds, stopwatch=stopwatch_of(device))
                chosen = "dense" if prefers_dense(gates, units, count) else "matrix-free"
                what = f"{gates} gates, N = {units}, K = {count}: {chosen} is chosen"
                rows.append(Row(what, ratio(times, 0, 1), difference=off))
    text = TEXT.format(batch=sizes.batch)
    return Result("Dense and matrix-free products", text, rows)
