"""Orthonormalization by Householder reflections: the reference, and the last resort on CUDA.

Bases are ``[B, N, K]``: K tangent vectors of size N, as columns, for each of B sequences.
"""

import torch
from torch import Tensor

from lightning_lyap.rounding import (
    GRADED,
    MARGIN,
    SAFETY,
    Orthonormalization,
    random_signs,
    share_of_rows,
)


def householder_qr(basis: Tensor) -> Orthonormalization:
    r"""Factor ``basis = Q R`` with a positive diagonal of R.

    Householder QR (LAPACK ``geqrf`` and ``orgqr``), on the rows in order of falling size where
    they differ much. The order does not change R, but rounding: saturated units make rows of J Q
    that differ by tens of orders of magnitude, and only in this order does every row keep an error
    of its own size (Cox and Higham, 1998, who also pivot the columns; here earlier steps have
    ordered them), so that stretches far below the rounding error of the largest come out right.

    Batches are factored matrix by matrix on CUDA, and some decisions wait for the device there.

    Args:
        basis: Tangent vectors as columns, ``[B, N, K]`` with ``K <= N``, float32 or float64.

    Returns:
        See `orthonormalize`.

    Example:
        >>> householder_qr(torch.diag(torch.tensor([-2.0, 1.0]))[None]).log_stretch
        tensor([[0.6931, 0.0000]], dtype=torch.float64)

    Reference:
        Cox and Higham (1998), Stability of Householder QR factorization for weighted least squares
        problems.
    """
    # The largest entry stands for a row's norm: squares would underflow below 1e-19.
    sizes = basis.abs().amax(-1)
    graded = sizes.amin(-1) * GRADED < sizes.amax(-1)
    any_graded = bool(graded.any())
    if any_graded:
        in_place = torch.arange(basis.shape[-2], device=basis.device)
        order = torch.where(graded[:, None], sizes.argsort(dim=-1, descending=True), in_place)
        sizes = sizes.gather(-1, order)
        rows = order.unsqueeze(1).expand(-1, basis.shape[-1], -1)
        q, r = _factor(basis.mT.gather(-1, rows).mT)
        q_in_order = torch.empty_like(q.mT).scatter_(-1, rows, q.mT).mT
    else:
        q, r = _factor(basis)
        q_in_order = q
    norms = basis.shape[-1] ** 0.5 * sizes
    eps = torch.finfo(basis.dtype).eps
    error = eps * (q.abs().mT @ norms.unsqueeze(-1)).squeeze(-1)
    diagonal = r.diagonal(dim1=-2, dim2=-1)
    signs = torch.where(diagonal < 0, -1.0, 1.0).to(basis.dtype)
    stretch = diagonal.abs()
    bound = SAFETY * eps * _condition(r)
    if any_graded:
        shared = (bound * share_of_rows(q, sizes)).clamp(min=SAFETY * eps)
        bound = torch.where(graded[:, None], shared, bound)
    bound = torch.where(stretch == 0, 0.0, bound)
    return Orthonormalization(
        q_in_order * signs.unsqueeze(-2),
        stretch.double().log(),
        (stretch > MARGIN * error) & (bound < 1),
        bound,
    )


def _condition(r: Tensor) -> Tensor:
    """Estimate ``|diag(|a_k|) R^-1 e_i|``, the condition of each column among those before it.

    Its square is the mean of ``(R^-T (z |a|))_i^2`` over random signs z; four samples are taken.

    Args:
        r: ``[B, K, K]``, upper triangular; its columns are as long as those of the basis, a_k.

    Returns:
        ``[B, K]``, float64.
    """
    if r.shape[-1] == 1:
        return torch.ones(r.shape[:-1], dtype=torch.float64, device=r.device)
    signs = random_signs(r.shape[-1], r.dtype, r.device)
    # In units of the largest entry: squares would overflow above 1e19.
    unit = r.abs().amax((-2, -1), keepdim=True).clamp(min=torch.finfo(r.dtype).tiny)
    lengths = torch.linalg.vector_norm(r / unit, dim=-2).unsqueeze(-1)
    samples = torch.linalg.solve_triangular((r / unit).mT, lengths * signs, upper=False)
    return samples.double().square().mean(-1).sqrt()


def _factor(basis: Tensor) -> tuple[Tensor, Tensor]:
    """Factor by Householder reflections, zero columns behind the others.

    Args:
        basis: ``[B, N, K]``.

    Returns:
        Q, ``[B, N, K]``, and R, ``[B, K, K]``, with a diagonal of either sign.
    """
    q, r = torch.linalg.qr(basis)
    if (r.diagonal(dim1=-2, dim2=-1) == 0).any():
        q, r = torch.linalg.qr(_zero_columns_last(basis))
    return q, r


def _zero_columns_last(basis: Tensor) -> Tensor:
    """Move zero columns behind the others, which keep their order.

    Args:
        basis: ``[B, N, K]``.

    Returns:
        ``[B, N, K]``.
    """
    order = (basis == 0).all(-2).int().argsort(dim=-1, stable=True)
    return basis.gather(-1, order.unsqueeze(-2).expand_as(basis))
