"""What spectra cost in units of training, how many units training takes; the paper's numbers."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from paper.records import Record, complete
from paper.timing import Kind, Timing

PAPERS_KIND = Kind(1)


@dataclass(frozen=True)
class Printed:
    """A row of the paper's table: values and standard deviations over its networks.

    Attributes:
        unit: ``"epochs"`` or ``"iterations"``.
        needed: Units to the lowest validation loss.
        cost: Units a spectrum takes.
        fraction: Their ratio.
    """

    unit: str
    needed: tuple[float, float]
    cost: tuple[float, float]
    fraction: tuple[float, float]


PAPER = {
    "charrnn": Printed("epochs", (26, 10), (1.04, 0.04), (0.04, 0.02)),
    "mocap": Printed("iterations", (2400, 500), (104, 3), (0.04, 0.01)),
}


@dataclass(frozen=True)
class Cost:
    """What a spectrum costs, in units of training.

    Attributes:
        median: Over rounds.
        low: The lowest.
        high: The highest.
    """

    median: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Row:
    """A row of our table.

    Attributes:
        timing: What was timed.
        needed: Units of training each network needed to its lowest validation loss.
        at_end: How many of them had it at their last epoch: they might have needed more.
    """

    timing: Timing
    needed: Sequence[float]
    at_end: int = 0

    @property
    def printed(self) -> Printed:
        """The paper's row."""
        return PAPER[self.timing.task]

    @property
    def units_per_step(self) -> float:
        """Units of training in a step."""
        return per_epoch(self.timing) / self.timing.steps_per_epoch

    def cost(self, kind: Kind) -> Cost:
        """Return what a spectrum costs.

        Args:
            kind: The kind of spectrum.

        Returns:
            Its cost.
        """
        units = [steps * self.units_per_step for steps in self.timing.in_steps(kind)]
        return Cost(statistics.median(units), min(units), max(units))

    def fractions(self, kind: Kind) -> list[float]:
        """Return the part of each network's training that a spectrum takes."""
        return [self.cost(kind).median / needed for needed in self.needed]


def per_epoch(timing: Timing) -> int:
    """Return the units of training in an epoch."""
    return 1 if PAPER[timing.task].unit == "epochs" else timing.steps_per_epoch


def with_needed(timing: Timing, records: Sequence[Record]) -> Row:
    """Look up how long the networks of a task were trained to their lowest validation loss.

    Args:
        timing: Of the task.
        records: Networks; those that were not trained to their end don't count.

    Returns:
        The row.

    Raises:
        ValueError: If they were trained on other data than was timed.
    """
    networks = complete(records, timing.task)
    strange = sorted({record.data for record in networks} - {timing.data})
    if strange:
        raise ValueError(
            f"Expected networks of {timing.task} trained on {timing.data} data, as was timed, but "
            f"got {strange}. Name their data by data_dir=PATH or data={strange[0]}."
        )
    needed = [record.best_epoch * per_epoch(timing) for record in networks]
    return Row(timing, needed, sum(record.best_epoch == record.epochs for record in networks))


def mean_and_deviation(values: Sequence[float]) -> tuple[float | str, float | str]:
    """Compute mean and standard deviation.

    Args:
        values: Any number.

    Returns:
        Both; empty text for what so few values don't have.
    """
    mean = statistics.fmean(values) if values else ""
    return mean, statistics.stdev(values) if len(values) > 1 else ""
