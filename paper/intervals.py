"""What longer intervals between factorizations did to the spectrum of a network, for Fig. 6."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paper.confidence import FLOAT
from paper.measured import Measured

RELATIVE, FLOOR = 0.01, 0.01  # of an exponent; nats per step


@dataclass(frozen=True, eq=False)
class Intervals:
    """What was measured on a network; arrays of intervals end with ``"auto"``.

    Attributes:
        task: Its task.
        device: On what it was measured.
        fixed: The intervals before ``"auto"``, ``[I]``; the first is 1.
        truth: Exponents of interval 1 in float64, ``[K]``, nats per step.
        known: Which of them are resolved and finite, ``[K]``, bool.
        exponents: ``[I + 1, K]``, nats per step.
        resolved: ``[I + 1, K]``, bool.
        factorizations: ``[I + 1]``.
        seconds: Of each round, ``[R, I + 1]``.
    """

    task: str
    device: str
    fixed: list[int]
    truth: FLOAT
    known: NDArray[np.bool_]
    exponents: FLOAT
    resolved: NDArray[np.bool_]
    factorizations: NDArray[np.int64]
    seconds: FLOAT

    @classmethod
    def of(cls, task: str, measured: Measured) -> "Intervals":
        """Take what `measure` has returned.

        Args:
            task: The task.
            measured: The numbers.

        Returns:
            The same.
        """
        return cls(task, measured.device, list(measured.sizes["intervals"]), **measured.arrays)

    @property
    def names(self) -> list[str]:
        """Names of the intervals, ``"auto"`` last."""
        return [*map(str, self.fixed), "auto"]

    @property
    def differences(self) -> FLOAT:
        """Absolute differences to the truth, ``[I + 1, K]``; NaN where the truth is not known."""
        estimates = np.where(np.isfinite(self.exponents), self.exponents, -np.inf)
        away = np.abs(estimates - np.where(self.known, self.truth, 0.0))
        return np.asarray(np.where(self.known, away, np.nan))

    @property
    def off(self) -> NDArray[np.bool_]:
        """Which exponents are off, ``[I + 1, K]``."""
        size = np.abs(np.where(self.known, self.truth, 0.0))
        return np.asarray(self.differences > np.maximum(RELATIVE * size, FLOOR))

    @property
    def leaves(self) -> list[int | None]:
        """First index, from 1, that is off at each interval; None if there is none."""
        return [int(row.argmax()) + 1 if row.any() else None for row in self.off]

    @property
    def flatness(self) -> list[float | None]:
        """Span of the estimates from there to the end, over that of the truth; None if nowhere."""
        return [
            None if first is None else self._flatness(row, first - 1)
            for row, first in zip(self.exponents, self.leaves, strict=True)
        ]

    def _flatness(self, row: FLOAT, first: int) -> float:
        """Compare spans; infinite where the truth's is none.

        Args:
            row: Estimates, ``[K]``.
            first: Index, from 0.

        Returns:
            Their ratio.
        """
        compared = self.known[first:] & np.isfinite(row[first:])
        if not compared.any():
            return 0.0
        span = float(np.ptp(self.truth[first:][compared]))
        return float(np.ptp(row[first:][compared])) / span if span > 0 else np.inf

    @property
    def speedups(self) -> FLOAT:
        """How many times faster than interval 1, in each round, ``[R, I + 1]``."""
        return np.asarray(self.seconds[:, :1] / self.seconds)


def table(found: Intervals) -> list[dict[str, Any]]:
    """List what each interval does.

    Args:
        found: A network.

    Returns:
        A row for each interval.
    """
    half = found.truth.size // 2
    lines = zip(found.names, found.leaves, found.flatness, strict=True)
    return [
        {
            "task": found.task,
            "interval": name,
            "factorizations": found.factorizations[i],
            "first_index_off": "" if leaves is None else leaves,
            "span_beyond_over_truth": "" if flat is None else flat,
            "exponents_off": int(found.off[i].sum()),
            "not_resolved": int((~found.resolved[i]).sum()),
            "off_and_not_resolved": int((found.off[i] & ~found.resolved[i]).sum()),
            "largest_difference_first_half": np.nanmax(found.differences[i, :half]),
            "largest_difference_resolved": largest(found, i),
            "time_ratio": np.median(found.speedups[:, i]),
            "exponents": int(found.known.sum()),
            "device": found.device,
        }
        for i, (name, leaves, flat) in enumerate(lines)
    ]


def largest(found: Intervals, place: int) -> float:
    """Return the largest difference to the truth of a resolved exponent.

    Args:
        found: A network.
        place: Of the interval.

    Returns:
        Nats per step; 0 if none is resolved.
    """
    kept = found.known & found.resolved[place]
    return float(found.differences[place][kept].max(initial=0.0))
