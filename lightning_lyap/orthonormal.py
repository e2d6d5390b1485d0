"""Batched orthonormalization of tangent vectors.

Bases are ``[B, N, K]``: K tangent vectors of size N, as columns, for each of B sequences.
"""

import torch
from torch import Tensor


def orthonormalize(basis: Tensor) -> tuple[Tensor, Tensor]:
    r"""Factor ``basis = Q R`` and return Q with the logarithms of R's positive diagonal.

    Householder QR (LAPACK ``geqrf`` and ``orgqr``), with the signs moved so that every diagonal
    entry of R is positive. That makes the factorization unique for a basis of full rank. Zero
    columns are moved behind the others, which keep the leading exponents; they get ``-inf`` and an
    orthonormal replacement that can grow again.

    Args:
        basis: Tangent vectors as columns, ``[B, N, K]`` with ``K <= N``, float32 or float64.

    Returns:
        Q, ``[B, N, K]``, and the log-stretches ``log R_ii``, ``[B, K]``, nats, always float64.

    Example:
        >>> q, log_stretch = orthonormalize(torch.diag(torch.tensor([-2.0, 1.0]))[None])
        >>> log_stretch
        tensor([[0.6931, 0.0000]], dtype=torch.float64)

    Reference:
        Benettin et al. (1980), Meccanica 15, 9-20; Dieci and Van Vleck (1995).
    """
    q, r = torch.linalg.qr(basis)
    if (r.diagonal(dim1=-2, dim2=-1) == 0).any():
        zero = (basis == 0).all(-2)
        if zero.any():
            order = zero.int().argsort(dim=-1, stable=True).unsqueeze(-2)
            q, r = torch.linalg.qr(basis.gather(-1, order.expand_as(basis)))
    diagonal = r.diagonal(dim1=-2, dim2=-1)
    signs = torch.where(diagonal < 0, -1.0, 1.0).to(basis.dtype)
    return q * signs.unsqueeze(-2), diagonal.abs().double().log()


def random_orthonormal_basis(
    size: int, num_vectors: int, seed: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Draw a uniformly distributed orthonormal basis from a private generator.

    A partial identity would miss the leading directions of a system whose first units are
    decoupled from the rest; a random subspace contains a part of every direction. It is drawn on
    the CPU in float64, so it is the same on every device and does not touch the global generator.

    Args:
        size: N, the dimension of the tangent space.
        num_vectors: K, at most N.
        seed: Seed of the private generator.
        dtype: Type of the result.
        device: Device of the result.

    Returns:
        Orthonormal columns, ``[N, K]``.
    """
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn(
        1, size, num_vectors, generator=generator, dtype=torch.float64, device="cpu"
    )
    return orthonormalize(gaussian)[0][0].to(device=device, dtype=dtype)
