"""How much of the wall time the measurements take, and what would make them cheaper."""

import math
import time

SLOW_FRACTION = 0.1


class Pace:
    """A clock that runs from one measurement to the next."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def restart(self) -> None:
        """Start the clock again, at the end of a measurement."""
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
