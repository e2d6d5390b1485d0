"""What the package adds to the products and factorizations that nobody can avoid."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lightning_lyap import lyapunov_spectrum
from lightning_lyap.dynamics import from_torch_module
from performance.networks import characters, network
from performance.table import Bar, Result, Row
from performance.timing import in_turn, ratio, stopwatch_of
from performance.twin import Twin, largest_difference

TEXT = (
    "Time of `lyapunov_spectrum` (interval 1, float32, complete spectrum) over that of a bare loop "
    "of nothing but the batched product `torch.bmm(J, Q)`, with the Jacobians given, and "
    "`torch.linalg.qr`: B = {batch}, T = {steps}, one thread. The package also computes states and "
    "Jacobians, checks itself and keeps error bounds; on the CPU it keeps Q as reflectors, which "
    "the bare loop writes out."
)
KEPT = 4  # Jacobians of the bare loop, taken in turn


@dataclass(frozen=True)
class Sizes:
    """How much to compute.

    Attributes:
        units: H.
        batch: B.
        steps: T.
        rounds: How often.
        kinds: Of networks.
    """

    units: int
    batch: int
    steps: int
    rounds: int
    kinds: tuple[str, ...] = ("LSTM", "GRU", "RNN")


FULL = Sizes(512, 10, 30, 3)
QUICK = Sizes(256, 10, 10, 3)


def jacobians(module: nn.RNNBase, inputs: Tensor) -> list[Tensor]:
    """Write out the first Jacobians along trajectories.

    Args:
        module: The network.
        inputs: ``[B, T, I]``.

    Returns:
        `KEPT` of ``[B, N, N]``.
    """
    system = from_torch_module(module, "hidden")
    state = system.initial_state(None, len(inputs))
    unit = torch.eye(system.tangent_size, device=inputs.device).expand(len(inputs), -1, -1)
    found = []
    for drive in system.drive(inputs[:, :KEPT]):
        state, tangent = system.step(drive, state)
        found.append(tangent(unit).contiguous())
    return found


@torch.no_grad()
def bare_loop(dense: list[Tensor], steps: int) -> Tensor:
    """Multiply and factorize, step after step.

    Args:
        dense: Jacobians, taken in turn, ``[B, N, N]`` each.
        steps: T.

    Returns:
        Exponents, ``[B, N]``.
    """
    basis = torch.eye(dense[0].shape[-1], device=dense[0].device).expand_as(dense[0])
    total = torch.zeros(basis.shape[:2], dtype=torch.float64, device=basis.device)
    for t in range(steps):
        basis, r = torch.linalg.qr(torch.bmm(dense[t % len(dense)], basis))
        total += r.diagonal(dim1=-2, dim2=-1).abs().log()
    return total / steps


@torch.no_grad()
def measure(sizes: Sizes, device: torch.device) -> Result:
    """Measure the section.

    Args:
        sizes: How much.
        device: Where.

    Returns:
        A row for each kind of network.
    """
    inputs = characters(sizes.batch, sizes.steps)
    rows = []
    for kind in sizes.kinds:
        module = network(kind, sizes.units)
        exact = Twin(module).exponents(inputs[:1])
        own, driving = module.to(device), inputs.to(device)
        run = partial(lyapunov_spectrum, own, driving, state="hidden", warmup_steps=0)
        calls: list[Callable[[], object]] = [
            run,
            partial(bare_loop, jacobians(own, driving), sizes.steps),
        ]
        difference = largest_difference(run(), exact)
        times = in_turn(calls, sizes.rounds, stopwatch=stopwatch_of(device), warm_up=False)
        what = f"{kind}, {sizes.units} units: spectrum over bare loop"
        rows.append(Row(what, ratio(times, 0, 1), Bar("<=", 1.15), difference=difference))
    text = TEXT.format(batch=sizes.batch, steps=sizes.steps)
    return Result("Overhead over a bare loop", text, rows)
