"""Linear maps and products of random matrices."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[[Tensor, Tensor], Tensor]


def linear_step(matrix: Tensor) -> Step:
    """Build ``s' = A s``: the logarithms of the moduli of A's eigenvalues.

    Args:
        matrix: A, ``[N, N]``.

    Returns:
        A step function.

    Example:
        >>> linear_step(torch.tensor([[0.0, 2.0], [1.0, 0.0]]))(None, torch.tensor([[3.0, 4.0]]))
        tensor([[8., 3.]])

    Reference:
        Oseledets (1968), Transactions of the Moscow Mathematical Society 19, 197-231.
    """
    return lambda x, s: s @ matrix.mT


def log_moduli(matrix: Tensor) -> Tensor:
    """Compute the logarithms of the moduli of the eigenvalues.

    Args:
        matrix: ``[N, N]``.

    Returns:
        Descending, ``[N]``, nats.

    Example:
        >>> log_moduli(torch.tensor([[0.0, 2.0], [-2.0, 0.0]]))
        tensor([0.6931, 0.6931])
    """
    return torch.linalg.eigvals(matrix).abs().log().sort(descending=True).values


def skewed_matrix() -> Tensor:
    """Build a non-normal matrix with moduli 1.3, 1.3, 0.8, 0.5, 0.5, 0.2; two pairs turn.

    Returns:
        ``[6, 6]``, float64.

    Example:
        >>> log_moduli(skewed_matrix()).exp()
        tensor([1.3000, 1.3000, 0.8000, 0.5000, 0.5000, 0.2000], dtype=torch.float64)
    """

    def turn(angle: float) -> Tensor:
        cos, sin = math.cos(angle), math.sin(angle)
        return torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)

    one = torch.ones(1, 1, dtype=torch.float64)
    blocks = torch.block_diag(1.3 * turn(0.7), -0.8 * one, 0.5 * turn(2.0), 0.2 * one)
    shear = torch.eye(6, dtype=torch.float64) + torch.ones(6, 6, dtype=torch.float64).triu(1)
    return shear @ blocks @ torch.linalg.inv(shear)


def product_step(x: Tensor, s: Tensor) -> Tensor:
    """Apply the matrix that the input carries: ``s' = A_t s``.

    Args:
        x: A_t row by row, ``[B, N^2]``.
        s: ``[B, N]``.

    Returns:
        ``[B, N]``.

    Example:
        >>> product_step(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[1.0, 10.0]]))
        tensor([[21., 43.]])
    """
    size = s.shape[-1]
    return (x.unflatten(-1, (size, size)) @ s.unsqueeze(-1)).squeeze(-1)


def gaussian_product_exponents(size: int) -> Tensor:
    """Compute the exponents of products of independent matrices with N(0, 1) entries.

    ``lambda_i = (log 2 + psi((N - i + 1) / 2)) / 2``.

    Args:
        size: N.

    Returns:
        Descending, ``[N]``, nats per step, float64.

    Example:
        >>> gaussian_product_exponents(4)
        tensor([ 0.5580,  0.3648,  0.0580, -0.6352], dtype=torch.float64)

    Reference:
        Newman (1986), Communications in Mathematical Physics 103, 121-126.
    """
    degrees = torch.arange(size, 0, -1, dtype=torch.float64)
    return (math.log(2) + torch.digamma(degrees / 2)) / 2


def gaussian_product_variances(size: int) -> Tensor:
    """Compute the variances per step of those exponents, ``psi'((N - i + 1) / 2) / 4``.

    Args:
        size: N.

    Returns:
        In the order of the exponents, ``[N]``, nats^2 per step, float64: variances of the logarithm
        of a chi variable of N - i + 1 degrees of freedom.

    Example:
        >>> gaussian_product_variances(1) * 8 / math.pi**2
        tensor([1.0000], dtype=torch.float64)

    Reference:
        Newman (1986), Communications in Mathematical Physics 103, 121-126.
    """
    degrees = torch.arange(size, 0, -1, dtype=torch.float64)
    return torch.polygamma(1, degrees / 2) / 4
