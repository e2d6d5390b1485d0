"""Batched orthonormalization of tangent vectors.

Bases are ``[B, N, K]``: K tangent vectors of size N, as columns, for each of B sequences.
"""

from typing import NamedTuple

import torch
from torch import Tensor

MARGIN = 10.0


class Orthonormalization(NamedTuple):
    """The result of `orthonormalize`.

    Attributes:
        basis: Q, orthonormal columns, ``[B, N, K]``.
        log_stretch: ``log R_ii``, ``[B, K]``, nats, float64; ``-inf`` for a zero column.
        resolved: Which stretches stand out from the rounding noise, ``[B, K]``, bool.
    """

    basis: Tensor
    log_stretch: Tensor
    resolved: Tensor


def orthonormalize(basis: Tensor) -> Orthonormalization:
    r"""Factor ``basis = Q R`` with a positive diagonal of R.

    Householder QR (LAPACK ``geqrf`` and ``orgqr``) on the rows in order of falling norm. The
    order does not change R, but rounding: saturated units make rows of J Q that differ by tens of
    orders of magnitude, and only in this order does every row keep an error of its own size, so
    that stretches far below the rounding error of the largest come out right (Cox and Higham,
    1998). The signs are moved so that every diagonal entry of R is positive, which makes the
    factorization unique for a basis of full rank. Zero columns are moved behind the others, which
    keep the leading exponents; they get ``-inf`` and an orthonormal replacement that can grow
    again.

    An error of relative size eps in each row j changes ``R_ii`` by at most
    ``eps sum_j |q_ji| |row_j|``. A stretch is resolved if it exceeds that many times over: what is
    smaller is the remainder of a cancellation, and may be noise.

    Args:
        basis: Tangent vectors as columns, ``[B, N, K]`` with ``K <= N``, float32 or float64.

    Returns:
        Q, the log-stretches, and which of them are resolved.

    Example:
        >>> orthonormalize(torch.diag(torch.tensor([-2.0, 1.0]))[None]).log_stretch
        tensor([[0.6931, 0.0000]], dtype=torch.float64)

    Reference:
        Benettin et al. (1980), Meccanica 15, 9-20; Dieci and Van Vleck (1995). Cox and Higham
        (1998), Stability of Householder QR factorization for weighted least squares problems.
    """
    norms, order = basis.norm(dim=-1).sort(dim=-1, descending=True)
    rows = order.unsqueeze(1).expand(-1, basis.shape[-1], -1)
    sorted_basis = basis.mT.gather(-1, rows).mT
    q, r = torch.linalg.qr(sorted_basis)
    if (r.diagonal(dim1=-2, dim2=-1) == 0).any():
        q, r = torch.linalg.qr(_zero_columns_last(sorted_basis))
    diagonal = r.diagonal(dim1=-2, dim2=-1)
    signs = torch.where(diagonal < 0, -1.0, 1.0).to(basis.dtype)
    back = torch.empty_like(q.mT).scatter_(-1, rows, (q * signs.unsqueeze(-2)).mT).mT
    noise = MARGIN * torch.finfo(basis.dtype).eps * (q.abs().mT @ norms.unsqueeze(-1)).squeeze(-1)
    return Orthonormalization(back, diagonal.abs().double().log(), diagonal.abs() > noise)


def _zero_columns_last(basis: Tensor) -> Tensor:
    """Move zero columns behind the others, which keep their order.

    Args:
        basis: ``[B, N, K]``.

    Returns:
        ``[B, N, K]``.
    """
    order = (basis == 0).all(-2).int().argsort(dim=-1, stable=True)
    return basis.gather(-1, order.unsqueeze(-2).expand_as(basis))


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
    return orthonormalize(gaussian).basis[0].to(device=device, dtype=dtype)
