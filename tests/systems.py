"""Systems whose Lyapunov spectra are known, each with its source. Exponents in nats per step."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Step = Callable[[Tensor, Tensor], Tensor]

HENON = (0.4192, -1.6232)
LORENZ = (0.9056, 0.0, -14.5723)


def linear_step(matrix: Tensor) -> Step:
    """``s' = A s``: the logarithms of the moduli of A's eigenvalues (Oseledets, 1968)."""
    return lambda x, s: s @ matrix.mT


def skewed_matrix() -> Tensor:
    """Build a non-normal 6 x 6 matrix with moduli 1.3, 1.3, 0.8, 0.5, 0.5, 0.2; two pairs turn."""

    def turn(angle: float) -> Tensor:
        cos, sin = math.cos(angle), math.sin(angle)
        return torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)

    one = torch.ones(1, 1, dtype=torch.float64)
    blocks = torch.block_diag(1.3 * turn(0.7), -0.8 * one, 0.5 * turn(2.0), 0.2 * one)
    shear = torch.eye(6, dtype=torch.float64) + torch.ones(6, 6, dtype=torch.float64).triu(1)
    return shear @ blocks @ torch.linalg.inv(shear)


def log_moduli(matrix: Tensor) -> Tensor:
    """Logarithms of the moduli of the eigenvalues, descending."""
    return torch.linalg.eigvals(matrix).abs().log().sort(descending=True).values


def henon_step(x: Tensor, s: Tensor) -> Tensor:
    """Henon map, a = 1.4, b = 0.3: 0.4192, -1.6232; the sum is log 0.3 at every step.

    Sprott (2003), Chaos and Time-Series Analysis, appendix A.
    """
    u, v = s.unbind(-1)
    return torch.stack([1 - 1.4 * u.square() + v, 0.3 * u], dim=-1)


def lorenz_step(x: Tensor, s: Tensor) -> Tensor:
    """Lorenz system (10, 28, 8/3), one Runge-Kutta step of 0.01: 0.9056, 0, -14.5723 per time unit.

    Sprott (2003), Chaos and Time-Series Analysis, appendix A. The sum is -(10 + 1 + 8/3).
    """

    def flow(s: Tensor) -> Tensor:
        u, v, w = s.unbind(-1)
        return torch.stack([10 * (v - u), u * (28 - w) - v, u * v - 8 / 3 * w], dim=-1)

    k1 = flow(s)
    k2 = flow(s + 0.005 * k1)
    k3 = flow(s + 0.005 * k2)
    k4 = flow(s + 0.01 * k3)
    return s + 0.01 / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def kaplan_yorke_step(x: Tensor, s: Tensor) -> Tensor:
    """``u' = 2 u mod 1, v' = 0.2 v + cos 4 pi u``: log 2 and log 0.2, dimension 1.43068.

    Kaplan and Yorke (1979), Chaotic behavior of multidimensional difference equations. The input
    feeds u the digits that doubling uses up.
    """
    u, v = s.unbind(-1)
    doubled = (2 * u + 1e-12 * x[..., 0]).remainder(1)
    return torch.stack([doubled, 0.2 * v + torch.cos(4 * math.pi * u)], dim=-1)


def product_step(x: Tensor, s: Tensor) -> Tensor:
    """``s' = A_t s`` with the matrix A_t carried by the input, ``[B, N^2]``."""
    size = s.shape[-1]
    return (x.unflatten(-1, (size, size)) @ s.unsqueeze(-1)).squeeze(-1)


def gaussian_product_exponents(size: int) -> Tensor:
    """Products of independent matrices with independent N(0, 1) entries.

    ``lambda_i = (log 2 + psi((N - i + 1) / 2)) / 2``. Newman (1986), Communications in Mathematical
    Physics 103, 121-126.
    """
    degrees = torch.arange(size, 0, -1, dtype=torch.float64)
    return (math.log(2) + torch.digamma(degrees / 2)) / 2


def gaussian_product_variances(size: int) -> Tensor:
    """Variances per step of those exponents, ``psi'((N - i + 1) / 2) / 4``: that of a log chi."""
    degrees = torch.arange(size, 0, -1, dtype=torch.float64)
    return torch.polygamma(1, degrees / 2) / 4


# (gain g, variance s^2 of the drive) -> largest exponent as N goes to infinity.
MEAN_FIELD = {
    (1.5, 0.0): 0.065217,
    (2.0, 0.0): 0.154724,
    (3.0, 0.0): 0.310249,
    (5.0, 0.0): 0.532428,
    (1.5, 0.1): 0.026200,
    (1.5, 1.0): -0.141825,
    (3.0, 1.0): 0.268516,
}


def random_tanh_network(size: int, gain: float, drive_variance: float) -> nn.RNN:
    """``h' = tanh(V h + s x)``, V ~ N(0, g^2 / N), for white inputs x of variance 1 and size N.

    Mean field: ``q = g^2 E tanh^2(sqrt(q) z) + s^2`` and ``lambda_1 = log(g^2 E sech^4(sqrt(q) z))
    / 2``. Molgedey, Schuchhardt, Schuster (1992), Physical Review Letters 69, 3717-3719.
    """
    rnn: Any = nn.RNN(size, size, bias=False, batch_first=True)
    with torch.no_grad():
        rnn.weight_hh_l0.normal_(0, gain / math.sqrt(size))
        rnn.weight_ih_l0.copy_(math.sqrt(drive_variance) * torch.eye(size))
    return rnn


def linear_relu_network(matrix: Tensor) -> nn.RNN:
    """A relu network that stays in its linear part: positive weights, positive inputs."""
    assert (matrix >= 0).all()
    size = matrix.shape[0]
    rnn: Any = nn.RNN(1, size, nonlinearity="relu", bias=False, batch_first=True).to(matrix)
    with torch.no_grad():
        rnn.weight_ih_l0.fill_(1)
        rnn.weight_hh_l0.copy_(matrix)
    return rnn
