"""Power laws: the exponent of a time or a memory in a size, by least squares on logarithms."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from performance.timing import Spread


class Slope(NamedTuple):
    """The slope of a straight line through points.

    Attributes:
        value: The slope.
        error: Its standard error, from how far the points lie from the line.
    """

    value: float
    error: float


def slope(sizes: Sequence[float], values: Sequence[float]) -> Slope:
    """Fit ``value = c size^slope`` to points.

    Args:
        sizes: At least three, positive.
        values: As many, positive.

    Returns:
        Exponent and standard error.

    Raises:
        ValueError: If there are fewer than three points, or one without a partner.

    Example:
        >>> slope([1, 2, 4], [5, 40, 320]).value
        3.0
    """
    if len(sizes) != len(values) or len(sizes) < 3:
        raise ValueError(
            "Expected at least three sizes and a value for each, but got "
            f"{len(sizes)} and {len(values)}."
        )
    x, y = ([math.log2(number) for number in numbers] for numbers in (sizes, values))
    center, middle = sum(x) / len(x), sum(y) / len(y)
    width = sum((a - center) ** 2 for a in x)
    value = sum((a - center) * (b - middle) for a, b in zip(x, y, strict=True)) / width
    rest = sum((b - middle - value * (a - center)) ** 2 for a, b in zip(x, y, strict=True))
    return Slope(value, math.sqrt(rest / (len(x) - 2) / width))


def law(sizes: Sequence[float], rounds: Sequence[Sequence[float]]) -> tuple[Spread, float]:
    """Fit a power law to rounds of measurements.

    Args:
        sizes: The sizes.
        rounds: Values ``[round][size]``.

    Returns:
        The exponents of the rounds, and the standard error of that of the medians.
    """
    medians = [Spread.of(values).median for values in zip(*rounds, strict=True)]
    return Spread.of(slope(sizes, values).value for values in rounds), slope(sizes, medians).error
