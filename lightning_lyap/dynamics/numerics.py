"""Slopes and determinants that keep their relative accuracy."""

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
    # Not 1 - tanh^2, which is zero as soon as tanh rounds to one.
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
    # sigmoid(-a), not 1 - sigmoid(a), for the same reason.
    return torch.sigmoid(activation) * torch.sigmoid(-activation)


def log_abs_det(matrix: Tensor) -> Tensor:
    """Compute ``log |det A|`` in float64, by QR on rows scaled to one size.

    Saturated units make rows that differ by tens of orders of magnitude; scaled, all of them keep
    their relative accuracy. Not by LU (`torch.linalg.slogdet`): batches of float64 matrices hang
    with several threads in the LAPACK of some CPU builds of torch.

    Args:
        matrix: ``[..., N, N]``.

    Returns:
        ``[...]``, nats, float64; ``-inf`` for a matrix with a zero row.

    Example:
        >>> log_abs_det(torch.diag(torch.tensor([-1.0, 0.5])))
        tensor(-0.6931, dtype=torch.float64)
    """
    sizes = matrix.double().abs().amax(-1)
    scaled = matrix.double() / torch.where(sizes > 0, sizes, 1.0).unsqueeze(-1)
    diagonal = torch.geqrf(scaled)[0].diagonal(dim1=-2, dim2=-1)
    return diagonal.abs().log().sum(-1) + sizes.log().sum(-1)
