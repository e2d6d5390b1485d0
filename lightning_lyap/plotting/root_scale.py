"""A scale for colors that tells exponents near zero apart: linear in the square root of their size.

A spectrum of hundreds of exponents reaches from a few hundredths to tens of nats per step, and what
decides about memory and stability lies next to zero, where a linear scale has but one color.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Ticks stand at least this part of the scale apart.
GAP = 0.085


def root_norm(low: float, high: float) -> Any:
    """Map values to ``[0, 1]``, linearly in ``sign(x) sqrt(|x|)``.

    Args:
        low: Mapped to 0.
        high: Mapped to 1; above `low`.

    Returns:
        A norm of matplotlib's; if the signs differ, zero is in its middle and each sign has its own
        scale.
    """
    from matplotlib.colors import FuncNorm

    below, above = abs(low) or 1.0, abs(high) or 1.0

    def root(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.sign(values) * np.sqrt(np.abs(values) / np.where(values > 0, above, below))

    def square(roots: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.sign(roots) * roots**2 * np.where(roots > 0, above, below)

    return FuncNorm((root, square), low, high)


def root_ticks(norm: Any) -> NDArray[np.float64]:
    """Choose round values that do not crowd each other on such a scale, large ones first.

    Args:
        norm: What `root_norm` returned.

    Returns:
        Ascending values; zero is among them if the signs differ.
    """
    from matplotlib.ticker import MaxNLocator

    sizes = [digit * 10.0**power for power in range(6, -7, -1) for digit in (5, 2, 1)]
    kept: list[float] = []
    for value in (0.0, *(sign * size for size in sizes for sign in (1.0, -1.0))):
        at = float(norm(value))
        if norm.vmin <= value <= norm.vmax and all(abs(at - norm(k)) >= GAP for k in kept):
            kept.append(value)
    if len(kept) < 3:  # a narrow range far from zero
        even = MaxNLocator(4).tick_values(norm.vmin, norm.vmax)
        kept = [float(tick) for tick in even if norm.vmin <= tick <= norm.vmax]
    return np.sort(kept)
