"""Largest exponents as plain averages along orbits, in NumPy: nothing of the package in them.

Published values of these maps have four digits or none. Each function follows many orbits, throws
the first steps away, and returns mean and standard error over the orbits; tangents are written out
by hand.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
ORBITS = 2000
TRANSIENT = 200


def logistic(r: float, steps: int, seed: int) -> tuple[float, float]:
    """Average ``log|r (1 - 2 x)|``.

    Args:
        r: The map's parameter.
        steps: Steps counted of each orbit.
        seed: Of the starting points.

    Returns:
        Mean and standard error, nats per step.
    """
    x = np.random.default_rng(seed).uniform(0.1, 0.9, ORBITS)
    total = np.zeros(ORBITS)
    for t in range(TRANSIENT + steps):
        if t >= TRANSIENT:
            total += np.log(np.abs(r * (1 - 2 * x)))
        x = r * x * (1 - x)
    return _mean(total / steps)


def henon(steps: int, seed: int) -> tuple[float, float]:
    """Average ``log|J v|`` for a = 1.4, b = 0.3, v the normalized tangent vector.

    Args:
        steps: Steps counted of each orbit.
        seed: Of the starting points.

    Returns:
        Mean and standard error, nats per step.
    """
    x, y = 0.1 * np.random.default_rng(seed).uniform(size=(2, ORBITS))
    dx, dy = np.ones(ORBITS), np.zeros(ORBITS)
    total = np.zeros(ORBITS)
    for t in range(TRANSIENT + steps):
        dx, dy = -2.8 * x * dx + dy, 0.3 * dx
        x, y = 1 - 1.4 * x * x + y, 0.3 * x
        norm = np.hypot(dx, dy)
        dx, dy = dx / norm, dy / norm
        if t >= TRANSIENT:
            total += np.log(norm)
    return _mean(total / steps)


def ikeda(u: float, steps: int, seed: int) -> tuple[float, float]:
    """Average ``log|dz'|``, dz the normalized tangent vector.

    ``dz' = u e^{it} (dz + i z dt)`` with ``dt = 12 Re(z* dz) / (1 + |z|^2)^2``.

    Args:
        u: Dissipation.
        steps: Steps counted of each orbit.
        seed: Of the starting points.

    Returns:
        Mean and standard error, nats per step.
    """
    parts = 0.1 * np.random.default_rng(seed).uniform(size=(2, ORBITS))
    z = parts[0] + 1j * parts[1]
    dz = np.ones_like(z)
    total = np.zeros(ORBITS)
    for t in range(TRANSIENT + steps):
        size = 1 + z.real**2 + z.imag**2
        turned = u * np.exp(1j * (0.4 - 6 / size))
        dz = turned * (dz + 1j * z * (12 * (z.real * dz.real + z.imag * dz.imag) / size**2))
        z = 1 + turned * z
        norm = np.abs(dz)
        dz = dz / norm
        if t >= TRANSIENT:
            total += np.log(norm)
    return _mean(total / steps)


def _mean(values: Array) -> tuple[float, float]:
    """Return mean and standard error of independent values, ``[n]``."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size))
