"""Differential equations, one Runge-Kutta step a map. Divide by the step for exponents per time."""

import math

import torch
from torch import Tensor

# Length of a step, in the equations' unit of time.
LORENZ_STEP = 0.01
# (sigma, rho, beta) = (10, 28, 8/3): Sprott (2003), Chaos and Time-Series Analysis, appendix A.
LORENZ = (0.9056, 0.0, -14.5723)
# rho = 20: real parts of the eigenvalues at the stable fixed point, those of the characteristic
# polynomial ``l^3 + 41/3 l^2 + 80 l + 1013.333``. Lorenz (1963), Eq. 32.
LORENZ_FIXED = (-0.154792, -0.154792, -13.357083)


def lorenz_step(x: Tensor, s: Tensor, rho: float = 28.0) -> Tensor:
    """Advance the Lorenz system by 0.01: 0.9056, 0, -14.5723 per unit of time at rho = 28.

    The sum is ``-(10 + 1 + 8/3)`` but for the error of the Runge-Kutta step.

    Args:
        x: No input, ``[B, 0]``.
        s: ``[B, 3]``.
        rho: Reduced Rayleigh number, dimensionless; sigma = 10, beta = 8/3.

    Returns:
        ``[B, 3]``, after one step of the classical fourth-order method.

    Example:
        >>> lorenz_step(torch.zeros(1, 0), torch.zeros(1, 3))
        tensor([[0., 0., 0.]])

    Reference:
        Lorenz (1963), Journal of the Atmospheric Sciences 20, 130-141; Sprott (2003), Chaos and
        Time-Series Analysis, appendix A.
    """

    def flow(s: Tensor) -> Tensor:
        u, v, w = s.unbind(-1)
        return torch.stack([10 * (v - u), u * (rho - w) - v, u * v - 8 / 3 * w], dim=-1)

    k1 = flow(s)
    k2 = flow(s + LORENZ_STEP / 2 * k1)
    k3 = flow(s + LORENZ_STEP / 2 * k2)
    k4 = flow(s + LORENZ_STEP * k3)
    return s + LORENZ_STEP / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def lorenz_fixed_point(rho: float) -> Tensor:
    """Return the fixed point with positive coordinates, stable for 1 < rho < 24.74.

    Args:
        rho: Above 1.

    Returns:
        ``[3]``, float64.

    Example:
        >>> lorenz_fixed_point(25.0)
        tensor([ 8.,  8., 24.], dtype=torch.float64)

    Reference:
        Lorenz (1963), Journal of the Atmospheric Sciences 20, 130-141.
    """
    side = math.sqrt(8 / 3 * (rho - 1))
    return torch.tensor([side, side, rho - 1], dtype=torch.float64)
