"""What an automatic interval saves, and what leading exponents cost beside all of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lightning_lyap import SpectrumEstimate, lyapunov_spectrum
from lightning_lyap.estimator.schedule import Interval
from lightning_lyap.qr.orthonormalize import random_orthonormal_basis
from performance.bare import leading_exponent, products
from performance.networks import characters, network
from performance.table import Bar, Result, Row
from performance.timing import Spread, in_turn, ratio, stopwatch_of
from performance.twin import Twin, largest_difference

TEXT = (
    'LSTM of {units} units as torch initializes it, `state="hidden"`, on one-hot characters: '
    "B = {batch}, T = {steps}, float32, one thread. How many times faster than the complete "
    "spectrum at interval 1 each is. The twin has interval 1 in float64 and starts from the same "
    "basis. Two more ratios bound what the leading one can reach: that of the bare equations of "
    "cell and tangent vector, normalized every step, without any check or bound of errors, and "
    "that of their one product with the recurrent weights alone."
)


@dataclass(frozen=True)
class Sizes:
    """How much to compute.

    Attributes:
        units: H.
        batch: B.
        steps: T.
        rounds: How often.
        leading: K of the leading exponents, besides the first alone.
    """

    units: int
    batch: int
    steps: int
    rounds: int
    leading: int = 32


FULL = Sizes(512, 10, 100, 3)
QUICK = Sizes(256, 10, 30, 2)


def _bases(sizes: Sizes) -> tuple[None, Tensor, Tensor]:
    """Draw the bases to start from: the complete one, some vectors, one vector.

    Args:
        sizes: How much.

    Returns:
        None for the identity, ``[N, K]``.
    """
    counts = (sizes.leading, 1)
    cpu = torch.device("cpu")
    some, one = (random_orthonormal_basis(sizes.units, k, 0, torch.float64, cpu) for k in counts)
    return None, some, one


@torch.no_grad()
def measure(sizes: Sizes, device: torch.device) -> Result:
    """Measure the section.

    Args:
        sizes: How much.
        device: Where.

    Returns:
        A row for each number of exponents and each interval.
    """
    module, inputs = network("LSTM", sizes.units), characters(sizes.batch, sizes.steps)
    bars = {
        (0, "auto"): Bar(">=", 1.6),
        (1, 1): Bar(">=", 15.0),
        (1, "auto"): Bar(">=", 15.0),
        (2, 1): Bar(">=", 100.0),
        (2, "auto"): Bar(">=", 100.0),
    }
    names = ("all", f"the leading {sizes.leading}", "the leading one")
    bases = _bases(sizes)
    exact = [Twin(module).exponents(inputs[:1], basis) for basis in bases]
    own, driving = module.to(device), inputs.to(device)
    cases: list[tuple[int, Interval]] = [(0, 1), *bars]  # type: ignore[list-item]
    calls: list[Callable[[], Any]] = [
        partial(_spectrum, own, driving, bases[which], every) for which, every in cases
    ]
    differences = [
        largest_difference(call(), exact[which])
        for call, (which, _) in zip(calls, cases, strict=True)
    ]
    vector = bases[2].float().to(device)
    calls.append(partial(leading_exponent, own, driving, vector))
    weight = torch.ones(sizes.units, 4 * sizes.units, device=device)
    calls.append(partial(products, sizes.batch, sizes.steps, weight))
    times = in_turn(calls, sizes.rounds, stopwatch=stopwatch_of(device), warm_up=False)
    rows = [Row("all, interval 1", Spread(1.0, 1.0, 1.0, len(times)), difference=differences[0])]
    for i, (which, every) in enumerate(cases[1:], start=1):
        what = f"{names[which]}, interval {every}"
        bar = bars[which, every]
        rows.append(Row(what, ratio(times, 0, i), bar, difference=differences[i]))
    off = float((leading_exponent(own, driving[:1], vector).cpu() - exact[2][:, 0]).abs())
    bare = ratio(times, 0, len(cases))
    rows.append(Row("the leading one, equations alone", bare, difference=off))
    rows.append(Row("the leading one, products alone", ratio(times, 0, len(cases) + 1)))
    accuracy = Spread.of(differences[i] for i, (_, every) in enumerate(cases) if every == "auto")
    worst = Spread(accuracy.highest, accuracy.lowest, accuracy.highest, 1)
    rows.append(Row("interval auto: largest difference, nats per step", worst, Bar("<=", 1e-3)))
    text = TEXT.format(units=sizes.units, batch=sizes.batch, steps=sizes.steps)
    return Result("Automatic interval and leading exponents", text, rows)


def _spectrum(
    module: torch.nn.RNNBase, inputs: Tensor, basis: Tensor | None, every: Interval
) -> SpectrumEstimate:
    """Measure from a given basis.

    Args:
        module: The LSTM.
        inputs: ``[B, T, I]``.
        basis: ``[N, K]``, or None for the identity.
        every: The interval.

    Returns:
        The estimate.
    """
    start = None if basis is None else basis.float().expand(len(inputs), -1, -1)
    return lyapunov_spectrum(
        module,
        inputs,
        state="hidden",
        initial_basis=start,
        orthonormalize_every=every,
        warmup_steps=0,
    )
