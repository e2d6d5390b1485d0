"""What the variances in the caption of Fig. 1 may be variances of."""

import math
from collections.abc import Callable

VALUES = (1 / 500, 100.0, 500.0)  # sigma_V^2 of (a), (b), (c) in the caption
# What the caption's variances may be: the gain by value and N.
READINGS: dict[str, Callable[[float, int], float]] = {
    "the variance of V's entries": lambda value, size: math.sqrt(size * value),
    "the variance of V's entries, 1/500 being left out of 100 and 500": lambda value, size: (
        math.sqrt(size * (value / 500 if value > 1 else value))
    ),
    "the square of the gain": lambda value, size: math.sqrt(value),
    "the gain": lambda value, size: value,
    "the standard deviation of V's entries": lambda value, size: math.sqrt(size) * value,
    "the sum of the squares of V's entries": lambda value, size: math.sqrt(value / size),
}


def read_as(name: str, size: int) -> tuple[float, ...]:
    """Turn the caption's values into gains.

    Args:
        name: Of the reading.
        size: N.

    Returns:
        Gains of (a), (b) and (c).
    """
    return tuple(READINGS[name](value, size) for value in VALUES)
