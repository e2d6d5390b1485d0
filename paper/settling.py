"""How the exponents of a network settled, and how far sequences are apart, for Fig. 2."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paper.confidence import FLOAT
from paper.measured import Measured

LAST = 10  # steps
FLOOR = 0.01  # nats per step


@dataclass(frozen=True, eq=False)
class Settling:
    """What was measured on a network.

    Attributes:
        task: Its task.
        num_steps: T of the paper.
        steps: Steps after which `course` holds, ``[M]``.
        course: Mean over the long sequences, ``[M, K]``, nats per step.
        moments: Each long sequence shortly before T, at T and at its end, ``[3, b, K]``.
        long_resolved: Whether exponents are resolved along the long sequences, ``[K]``, bool.
        per_sequence: Exponents of sequences of T steps, ``[B, K]``, nats per step.
        resolved: Whether they are resolved, ``[K]``, bool.
    """

    task: str
    num_steps: int
    steps: NDArray[np.int64]
    course: FLOAT
    moments: FLOAT
    long_resolved: NDArray[np.bool_]
    per_sequence: FLOAT
    resolved: NDArray[np.bool_]

    @classmethod
    def of(cls, task: str, measured: Measured) -> "Settling":
        """Take what `measure` has returned.

        Args:
            task: The task.
            measured: The numbers.

        Returns:
            The same.
        """
        return cls(task, int(measured.sizes["num_steps"]), **measured.arrays)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Exponents that are resolved and finite along all long sequences, ``[K]``."""
        return np.asarray(self.long_resolved & np.isfinite(self.moments).all((0, 1)))

    @property
    def clean(self) -> NDArray[np.bool_]:
        """Exponents that are resolved and finite in all short sequences, ``[K]``."""
        return np.asarray(self.resolved & np.isfinite(self.per_sequence).all(0))

    def shares(self, moment: int, reference: int, relative: float) -> FLOAT:
        """Compute for each long sequence which part of the exponents is near a reference.

        Args:
            moment: Index into `moments`.
            reference: Index into `moments`.
            relative: How far from it an exponent may be, of its size.

        Returns:
            Parts, ``[b]``.
        """
        here, there = (self.moments[i][:, self.usable] for i in (moment, reference))
        near = np.abs(here - there) <= np.maximum(relative * np.abs(there), FLOOR)
        return np.asarray(near.mean(1))


def table(settling: Settling) -> list[dict[str, Any]]:
    """List the exponents of a network.

    Args:
        settling: The network.

    Returns:
        A row for each index.
    """
    before, at, end = settling.moments.mean(1)
    mean, std = settling.per_sequence.mean(0), deviations(settling.per_sequence)
    return [
        {
            "task": settling.task,
            "index": index + 1,
            "exponent": mean[index],
            "std_over_sequences": std[index],
            "resolved": int(settling.resolved[index]),
            "long_sequences_at_end": end[index],
            "long_sequences_at_t": at[index],
            f"long_sequences_{LAST}_steps_before_t": before[index],
            "long_sequences_resolved": int(settling.long_resolved[index]),
        }
        for index in range(mean.size)
    ]


def deviations(values: FLOAT) -> FLOAT:
    """Compute the standard deviation over sequences; NaN where it does not exist.

    Args:
        values: ``[B, K]``.

    Returns:
        ``[K]``.
    """
    finite = np.isfinite(values).all(0)
    deviation = np.where(finite, values, 0.0).std(0, ddof=1)
    return np.asarray(np.where(finite, deviation, np.nan))


def relative_spread(values: FLOAT) -> float:
    """Compute the root mean square of the standard deviations, in units of the spectrum's range.

    Args:
        values: Exponents of each sequence, finite, ``[B, K]``.

    Returns:
        A number.
    """
    return float(np.sqrt(np.square(deviations(values)).mean()) / np.ptp(values.mean(0)))
