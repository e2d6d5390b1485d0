"""Counts validations and the time between measurements, and what would make them cheaper."""

import math
import time

SLOW_FRACTION = 0.1


class Pace:
    """Counts validations, and what passes from one measurement to the next: them and time.

    Attributes:
        validations: Those of the run so far.
    """

    def __init__(self) -> None:
        self.validations = 0
        self._validations_since = 0
        self._since = time.perf_counter()

    def count(self, fitting: bool) -> None:
        """Count a validation that starts.

        Args:
            fitting: Whether it is part of the run; that of ``trainer.validate`` is not.
        """
        self.validations += fitting
        self._validations_since += 1

    def is_due(self, every: int) -> bool:
        """Return whether the validation counted last is the first of the run, or an n-th.

        Args:
            every: n.

        Returns:
            True if it is.
        """
        return self.validations == 1 or self.validations % every == 0

    def is_regular(self, every: int) -> bool:
        """Return whether the last measurement was n validations ago.

        The first measurement, and one after a resumption, follow fewer validations: their fraction
        says nothing about the setting.

        Args:
            every: n.

        Returns:
            True if it was.
        """
        return self._validations_since == every

    def restart(self) -> None:
        """Begin to count the time and the validations again, at the end of a measurement."""
        self._validations_since = 0
        self._since = time.perf_counter()

    def fraction(self, seconds: float) -> float:
        """Return the part of the time since the last measurement that this one took.

        Args:
            seconds: Wall time of the measurement that ends now.

        Returns:
            Between 0 and 1.
        """
        return seconds / max(time.perf_counter() - self._since, seconds, 1e-9)


def advice(seconds: float, fraction: float, every: int) -> str | None:
    """Name the cheaper setting when a measurement takes too much of the time.

    Args:
        seconds: Wall time of the measurement.
        fraction: Part of all the time since the one before.
        every: Present setting of ``every_n_validations``.

    Returns:
        The advice, or None where none is needed.

    Example:
        >>> advice(1.0, 0.5, every=1)
        'The Lyapunov spectrum took 1 s, 50% of the time since ... `every_n_validations=9` ...'
        >>> advice(1.0, 0.01, every=1) is None
        True
    """
    if fraction <= SLOW_FRACTION:
        return None
    training = max(seconds / fraction - seconds, 1e-9) / every
    enough = math.ceil(seconds * (1 / SLOW_FRACTION - 1) / training)
    return (
        f"The Lyapunov spectrum took {seconds:.3g} s, {fraction:.0%} of the time since the one "
        f"before. `every_n_validations={enough}` brings it under {SLOW_FRACTION:.0%}; "
        "`num_exponents` (the leading ones alone), fewer `num_sequences` or `figures=False` make "
        "each cheaper."
    )
