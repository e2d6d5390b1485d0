"""The spectra of a network over training, and how they come to the last one, for Fig. 3."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paper.confidence import FLOAT
from paper.records import Record

SETTLED = 0.1  # of the largest squared distance to the last spectrum
EQUAL = 0.01  # nats per step: means that are closer are the same


@dataclass(frozen=True, eq=False)
class Course:
    """The spectra of a network over training.

    Attributes:
        p: Initialization parameter.
        epochs: Epochs completed, ``[E]``, from 0.
        exponents: ``[E, K]``, nats per step.
        kept: Exponents that are resolved at every epoch, ``[K]``, bool.
    """

    p: float
    epochs: FLOAT
    exponents: FLOAT
    kept: NDArray[np.bool_]

    @property
    def mean(self) -> FLOAT:
        """Mean of the kept exponents, ``[E]``, nats per step."""
        return np.asarray(self.exponents[:, self.kept].mean(1))

    @property
    def steps(self) -> FLOAT:
        """Mean squared difference between successive epochs, ``[E - 1]``, (nats per step)^2."""
        return np.asarray(np.square(np.diff(self.exponents[:, self.kept], axis=0)).mean(1))

    @property
    def distances(self) -> FLOAT:
        """Mean squared difference to the last epoch, ``[E]``, (nats per step)^2."""
        kept = self.exponents[:, self.kept]
        return np.asarray(np.square(kept - kept[-1]).mean(1))

    @property
    def slope(self) -> float:
        """Exponent a of a power law t^a fitted to `steps` (least squares of the logarithms)."""
        time = np.log(self.epochs[1:])
        return float(np.polyfit(time, np.log(self.steps), 1)[0])

    @property
    def settled(self) -> float:
        """Epochs after which no more than a tenth of the squared distance to the last is left.

        A tenth of its largest value, wherever that is: the first epochs often lead away.
        """
        far = np.flatnonzero(self.distances > SETTLED * self.distances.max())
        return float(self.epochs[far[-1] + 1])

    @property
    def below(self) -> float:
        """Fraction of the epochs whose mean lies below the last one, of those that differ from it.

        Epochs of training: what was before it belongs to the initialization. NaN if none differs.
        """
        missing = self.mean[-1] - self.mean[1:-1]
        differing = missing[np.abs(missing) > EQUAL]
        return float((differing > 0).mean()) if differing.size else math.nan


def course(record: Record) -> Course:
    """Take the spectra of a record.

    Args:
        record: A network whose spectrum was measured at every epoch.

    Returns:
        Its course.
    """
    spectra = record.history.spectra
    resolved = np.stack([spectrum.resolved.numpy() for spectrum in spectra])
    return Course(
        record.facts["init_p"],
        np.asarray(record.history.epochs),
        np.stack([spectrum.exponents.numpy() for spectrum in spectra]),
        np.asarray(resolved.all(0)),
    )
