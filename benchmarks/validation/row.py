"""One comparison: a known value, an estimate, and the verdict."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Deviations above this many standard errors differ.
LIMIT = 3.0
HEADER = ("system", "quantity", "source", "known", "estimate", "deviation", "verdict")


@dataclass(frozen=True)
class Effort:
    """How much to compute.

    Attributes:
        orbits: Orbits of a chaotic system.
        steps: Steps counted of each.
        reference_steps: Steps of each orbit of a NumPy reference.
        networks: Random networks of each size.
        size: Units of the larger random networks; the smaller ones have half.
        training_steps: Optimizer steps of the trained network.
        seed: Of every section's generator.
    """

    orbits: int = 1000
    steps: int = 1000
    reference_steps: int = 10_000
    networks: int = 10
    size: int = 1024
    training_steps: int = 200
    seed: int = 0


QUICK = Effort(orbits=200, steps=200, reference_steps=2000, networks=6, size=128, training_steps=40)


@dataclass(frozen=True)
class Row:
    """A known value against an estimate.

    Judged by a tolerance where one is given, else by the combined standard error.

    Attributes:
        system: What was measured.
        quantity: Which number; nats per step unless it says otherwise.
        source: Where the known value comes from.
        known: The known value.
        estimate: Ours.
        standard_error: Of the estimate; 0 where it has none.
        known_error: Standard error of the known value, where it is an average itself.
        tolerance: Largest absolute deviation of identities and of errors that are not statistical.
    """

    system: str
    quantity: str
    source: str
    known: float
    estimate: float
    standard_error: float = 0.0
    known_error: float = 0.0
    tolerance: float | None = None

    @property
    def name(self) -> str:
        """System and quantity: the same in every run."""
        return f"{self.system}: {self.quantity}"

    @property
    def deviation(self) -> float:
        """Estimate minus known value; 0 where both are the same infinity."""
        return 0.0 if self.estimate == self.known else self.estimate - self.known

    @property
    def error(self) -> float:
        """Combined standard error."""
        return math.hypot(self.standard_error, self.known_error)

    @property
    def agrees(self) -> bool:
        """Whether the deviation is allowed; NaN never is.

        Example:
            >>> Row("map", "sum", "theory", known=1.0, estimate=1.2, standard_error=0.1).agrees
            True
            >>> Row("map", "sum", "theory", known=1.0, estimate=1.2, tolerance=0.1).agrees
            False
        """
        limit = LIMIT * self.error if self.tolerance is None else self.tolerance
        return abs(self.deviation) <= limit

    def cells(self) -> tuple[str, ...]:
        """Write the row in the columns of `HEADER`."""
        known, estimate = f"{self.known:.6f}", f"{self.estimate:.6f}"
        if self.known_error:
            known += f" ± {self.known_error:.6f}"
        if self.tolerance is None:
            estimate += f" ± {self.standard_error:.6f}"
            deviation = f"{self.deviation / self.error if self.error else math.inf:+.1f} SE"
        else:
            deviation = f"{self.deviation:+.1e} ({self.tolerance:.2g} allowed)"
        verdict = "agrees" if self.agrees else "DIFFERS"
        return (self.system, self.quantity, self.source, known, estimate, deviation, verdict)


def farthest(
    system: str, quantity: str, source: str, known: Tensor, estimate: Tensor, tolerance: float
) -> Row:
    """Compare whole spectra and keep the exponent that deviates most.

    Args:
        system: See `Row`.
        quantity: See `Row`.
        source: See `Row`.
        known: ``[K]``, descending.
        estimate: ``[K]``, descending.
        tolerance: Largest absolute deviation.

    Returns:
        The row of that exponent.

    Raises:
        ValueError: If the numbers of exponents differ.

    Example:
        >>> known, estimate = torch.tensor([1.0, 0.5]), torch.tensor([1.0, 0.25])
        >>> farthest("map", "both", "theory", known, estimate, 0.1).deviation
        -0.25
    """
    if known.shape != estimate.shape:
        raise ValueError(f"Expected {known.shape[0]} exponents, but got {estimate.shape[0]}.")
    gaps = torch.where(known == estimate, 0.0, estimate - known).abs()
    k = int(gaps.nan_to_num(nan=math.inf).argmax())
    values = float(known[k]), float(estimate[k])
    return Row(system, quantity, source, *values, tolerance=tolerance)


def table(rows: list[Row]) -> str:
    """Write rows as an aligned Markdown table.

    Args:
        rows: In order.

    Returns:
        Lines, without a newline at the end.
    """
    lines = [HEADER, *(tuple(c.replace("|", "\\|") for c in row.cells()) for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(HEADER))]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| " + " | ".join(f"{c:{width}}" for c, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )
