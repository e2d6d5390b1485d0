"""Derivatives of saturating functions that keep their relative accuracy in saturation.

The textbook forms ``1 - tanh(a)^2`` and ``s (1 - s)`` are differences of nearly equal numbers once
a unit saturates: in float32 they become exactly zero at ``a = 9`` and ``a = 17``, where the true
slopes, 6e-8 and 4e-8, still shape the tail of the spectrum.
"""

import torch
from torch import Tensor


def tanh_slope(activation: Tensor) -> Tensor:
    """Return ``sech^2(a)``, the derivative of tanh.

    Args:
        activation: a, any shape.

    Returns:
        The same shape.

    Example:
        >>> tanh_slope(torch.tensor([0.0, 20.0]))
        tensor([1.0000e+00, 1.6993e-17])
    """
    return torch.cosh(activation).reciprocal().square()


def sigmoid_slope(activation: Tensor) -> Tensor:
    """Return ``sigmoid(a) sigmoid(-a)``, the derivative of the sigmoid.

    Args:
        activation: a, any shape.

    Returns:
        The same shape.

    Example:
        >>> sigmoid_slope(torch.tensor([0.0, 40.0]))
        tensor([2.5000e-01, 4.2484e-18])
    """
    return torch.sigmoid(activation) * torch.sigmoid(-activation)
