"""Maps of the interval, of the plane, and of a lattice."""

import math

import torch
from torch import Tensor

# Sprott (2003), Chaos and Time-Series Analysis, appendix A; nats per step.
HENON = (0.4192, -1.6232)
# What an input adds to an expanding map: the binary digits that doubling uses up.
FRESH_DIGITS = 1e-12


def logistic_step(x: Tensor, s: Tensor, r: float = 4.0) -> Tensor:
    """Iterate ``s' = r s (1 - s)``: log 2 at r = 4, ``log|2 - r|`` where 1 - 1/r is stable, r < 3.

    Args:
        x: No input, ``[B, 0]``.
        s: Between 0 and 1, ``[B, 1]``.
        r: Between 0 and 4.

    Returns:
        ``[B, 1]``.

    Example:
        >>> logistic_step(torch.zeros(1, 0), torch.tensor([[0.25]]))
        tensor([[0.7500]])

    Reference:
        Ulam and von Neumann (1947), Bulletin of the American Mathematical Society 53, 1120; Sprott
        (2003), Chaos and Time-Series Analysis, appendix A.
    """
    return r * s * (1 - s)


def henon_step(x: Tensor, s: Tensor) -> Tensor:
    """Iterate the Henon map, a = 1.4, b = 0.3: 0.4192, -1.6232; the sum is log 0.3 at every step.

    Args:
        x: No input, ``[B, 0]``.
        s: ``[B, 2]``; near zero lies in the basin of the attractor.

    Returns:
        ``[B, 2]``.

    Example:
        >>> henon_step(torch.zeros(1, 0), torch.tensor([[1.0, 0.5]]))
        tensor([[0.1000, 0.3000]])

    Reference:
        Henon (1976), Communications in Mathematical Physics 50, 69-77; Sprott (2003), Chaos and
        Time-Series Analysis, appendix A.
    """
    u, v = s.unbind(-1)
    return torch.stack([1 - 1.4 * u.square() + v, 0.3 * u], dim=-1)


def ikeda_step(x: Tensor, s: Tensor, u: float = 0.9) -> Tensor:
    """Iterate ``z' = 1 + u z exp(i t)`` with ``t = 0.4 - 6 / (1 + |z|^2)``.

    The sum of the exponents is ``2 log u`` at every step: turning by t(|z|) keeps areas.

    Args:
        x: No input, ``[B, 0]``.
        s: Real and imaginary part of z, ``[B, 2]``. Near zero lies in the basin of the chaotic
            attractor; for u = 0.9 there is a stable fixed point as well, near 2.97 + 4.15i.
        u: Dissipation, dimensionless.

    Returns:
        ``[B, 2]``.

    Example:
        >>> ikeda_step(torch.zeros(1, 0), torch.zeros(1, 2))
        tensor([[1., 0.]])

    Reference:
        Hammel, Jones, Moloney (1985), Journal of the Optical Society of America B 2, 552-564.
    """
    re, im = s.unbind(-1)
    turn = 0.4 - 6 / (1 + s.square().sum(-1))
    cos, sin = turn.cos(), turn.sin()
    return torch.stack([1 + u * (re * cos - im * sin), u * (re * sin + im * cos)], dim=-1)


def kaplan_yorke_step(x: Tensor, s: Tensor) -> Tensor:
    """Iterate ``u' = 2 u mod 1, v' = 0.2 v + cos 4 pi u``: log 2 and log 0.2, dimension 1.43068.

    Args:
        x: Fresh digits for u, of order one, ``[B, 1]``: in binary arithmetic doubling alone would
            end at zero.
        s: u and v, ``[B, 2]``.

    Returns:
        ``[B, 2]``.

    Example:
        >>> kaplan_yorke_step(torch.zeros(1, 1), torch.tensor([[0.75, 1.0]]))
        tensor([[ 0.5000, -0.8000]])

    Reference:
        Kaplan and Yorke (1979), Chaotic behavior of multidimensional difference equations.
    """
    u, v = s.unbind(-1)
    doubled = (2 * u + FRESH_DIGITS * x[..., 0]).remainder(1)
    return torch.stack([doubled, 0.2 * v + torch.cos(4 * math.pi * u)], dim=-1)


def bernoulli_lattice_step(x: Tensor, s: Tensor, coupling: float = 0.4) -> Tensor:
    """Double on a ring: ``s_i' = 2 [(1 - e) s_i + (e / 2)(s_{i-1} + s_{i+1})] mod 1``.

    Args:
        x: Fresh digits, of order one, ``[B, N]``; see `kaplan_yorke_step`.
        s: ``[B, N]``.
        coupling: e, between 0 and 1.

    Returns:
        ``[B, N]``.

    Example:
        >>> bernoulli_lattice_step(torch.zeros(1, 4), torch.tensor([[0.5, 0.0, 0.0, 0.0]]))
        tensor([[0.6000, 0.2000, 0.0000, 0.2000]])

    Reference:
        Isola, Politi, Ruffo, Torcini (1990), Physics Letters A 143, 365-368.
    """
    neighbors = s.roll(1, -1) + s.roll(-1, -1)
    return (2 * ((1 - coupling) * s + coupling / 2 * neighbors) + FRESH_DIGITS * x).remainder(1)


def bernoulli_lattice_exponents(size: int, coupling: float = 0.4) -> Tensor:
    """Compute ``log(2 |1 - e + e cos(2 pi k / N)|)``: the Jacobian is a constant circulant matrix.

    Args:
        size: N.
        coupling: e.

    Returns:
        Descending, ``[N]``, nats per step, float64.

    Example:
        >>> bernoulli_lattice_exponents(4, 0.25).exp()
        tensor([2.0000, 1.5000, 1.5000, 1.0000], dtype=torch.float64)

    Reference:
        Isola, Politi, Ruffo, Torcini (1990), Physics Letters A 143, 365-368.
    """
    waves = 2 * math.pi * torch.arange(size, dtype=torch.float64) / size
    factors = 2 * (1 - coupling + coupling * waves.cos())
    return factors.abs().log().sort(descending=True).values
