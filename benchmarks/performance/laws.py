"""How the time grows with the sizes of the problem: exponents of power laws."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from lightning_lyap import lyapunov_spectrum
from lightning_lyap.dynamics import LayerChoice
from lightning_lyap.qr.orthonormalize import random_orthonormal_basis
from performance.fits import law
from performance.networks import characters, network
from performance.table import Result, Row
from performance.timing import in_turn, stopwatch_of
from performance.twin import Twin, largest_difference

TEXT = (
    "Exponents of power laws, `time = c size^exponent`, from straight lines through the logarithms "
    "of the times, with their standard errors (GRU, float32, interval 1, one thread). By counting "
    "operations a complete spectrum takes N³ B T, K exponents N² K B T, and of L layers of equal "
    "size the joint one L³, the union's factorizations L; small sizes grow more slowly, because "
    "what does not depend on them counts there."
)


@dataclass(frozen=True)
class Problem:
    """One spectrum.

    Attributes:
        units: H.
        batch: B.
        steps: T.
        count: K; None for all.
        stack: L.
        layers: ``"joint"`` or ``"union"``.
    """

    units: int
    batch: int
    steps: int
    count: int | None = None
    stack: int = 1
    layers: LayerChoice = "joint"

    def call(self) -> Callable[[], Any]:
        """Return what measures it."""
        module = network("GRU", self.units, self.stack)
        return partial(
            lyapunov_spectrum,
            module,
            characters(self.batch, self.steps),
            num_exponents=self.count,
            layers=self.layers,
            warmup_steps=0,
        )

    @torch.no_grad()
    def difference(self) -> float:
        """Compare with the twin, on one sequence."""
        module, inputs = network("GRU", self.units, self.stack), characters(1, self.steps)
        size, basis = self.units * self.stack, None
        if self.count is not None:
            basis = random_orthonormal_basis(
                size, self.count, 0, torch.float64, torch.device("cpu")
            )
        blocks = self.stack if self.layers == "union" else 1
        estimate = lyapunov_spectrum(
            module,
            inputs,
            initial_basis=None if basis is None else basis.float()[None],
            layers=self.layers,
            warmup_steps=0,
        )
        return largest_difference(estimate, Twin(module).exponents(inputs, basis, blocks))


@dataclass(frozen=True)
class Law:
    """A row: one size is varied.

    Attributes:
        what: In words.
        name: Of the size, an attribute of `Problem`.
        sizes: Its values, at least three.
        rest: The other sizes.
    """

    what: str
    name: str
    sizes: tuple[int, ...]
    rest: Problem

    def problems(self) -> Sequence[Problem]:
        """Return the problem of each size."""
        changes: list[dict[str, Any]] = [{self.name: size} for size in self.sizes]
        return [replace(self.rest, **change) for change in changes]


@dataclass(frozen=True)
class Sizes:
    """How much to compute.

    Attributes:
        units: Values of N.
        counts: Values of K.
        batches: Values of B.
        steps: Values of T.
        stacks: Values of L.
        partial: K of the partial spectra, smaller than every N.
        rounds: How often.
    """

    units: tuple[int, ...]
    counts: tuple[int, ...]
    batches: tuple[int, ...]
    steps: tuple[int, ...]
    stacks: tuple[int, ...]
    partial: int
    rounds: int

    def laws(self) -> list[Law]:
        """Return the rows."""
        small, middle, few = self.units[0], self.units[1], self.partial
        both: list[Law] = []
        for name, count, steps in (("complete", None, 8), (f"K = {few}", few, 24)):
            both += [
                Law(f"N, {name}", "units", self.units, Problem(0, 2, steps, count)),
                Law(f"B, {name}", "batch", self.batches, Problem(middle, 0, 24, count)),
                Law(f"T, {name}", "steps", self.steps, Problem(small, 4, 0, count)),
            ]
        stack = Problem(small, 4, 12)
        return [
            *both,
            Law("K, of N fixed", "count", self.counts, Problem(self.units[-2], 4, 12)),
            Law("L, complete, joint", "stack", self.stacks, stack),
            Law("L, complete, union", "stack", self.stacks, replace(stack, layers="union")),
            Law(f"L, K = {few}, joint", "stack", self.stacks, replace(stack, count=few)),
        ]


FULL = Sizes(
    (128, 256, 512, 1024, 2048),
    (8, 16, 32, 64, 128, 256),
    (2, 4, 8, 16),
    (25, 50, 100, 200),
    (1, 2, 3, 4),
    32,
    3,
)
QUICK = replace(FULL, units=(128, 256, 512, 1024), counts=(8, 32, 128), rounds=2)


def measure(sizes: Sizes, device: torch.device) -> Result:
    """Measure the section.

    Args:
        sizes: How much.
        device: The CPU.

    Returns:
        A row for each law, two for those in N: all sizes, and the three largest.
    """
    rows = []
    for each in sizes.laws():
        problems = each.problems()
        calls = [problem.call() for problem in problems]
        calls[0]()
        times = in_turn(calls, sizes.rounds, stopwatch=stopwatch_of(device), warm_up=False)
        difference = problems[1].difference()
        # The largest sizes by themselves, where what does not depend on them counts least.
        for first in sorted({0, len(each.sizes) - 3 if each.name == "units" else 0}):
            found, error = law(each.sizes[first:], [row[first:] for row in times])
            what = f"time in {each.what} ({each.sizes[first]} to {each.sizes[-1]})"
            rows.append(Row(what, found, error=error, difference=difference))
    return Result("How the time grows", TEXT, rows)
