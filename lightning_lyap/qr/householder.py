"""Orthonormalization by Householder reflections: the reference, and the last resort on CUDA.

Bases are ``[B, N, K]``: K tangent vectors of size N, as columns, for each of B sequences.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_lyap.qr.error_bounds import (
    GRADED,
    MARGIN,
    ROW_SIZE_SAMPLES,
    SAFETY,
    CompactOrthonormalization,
    Orthonormalization,
    random_signs,
    row_errors,
    share_of_rows,
)
from lightning_lyap.qr.reflectors import Reflectors, rows_back

# Within 1 / FAR and FAR entries can be squared and added up in float32.
FAR = 1e12


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
    if basis.shape[-1] == 1:
        return _normalize(basis)
    basis, sizes, graded, order, column_lengths, columns = _prepare(basis)
    q, r = torch.linalg.qr(basis)
    q_in_order = q if order is None else rows_back(q, order)
    diagonal = r.diagonal(dim1=-2, dim2=-1)
    signs = torch.where(diagonal < 0, -1.0, 1.0).to(basis.dtype)
    stretch = diagonal.abs()
    if order is not None:
        sizes = row_errors(q, sizes, r.triu().abs().amax(-1))
    norms = basis.shape[-1] ** 0.5 * sizes
    eps = torch.finfo(basis.dtype).eps
    error = eps * (q.abs().mT @ norms.unsqueeze(-1)).squeeze(-1)
    bound = SAFETY * eps * _condition(r, column_lengths)
    if order is not None:
        own = SAFETY * eps * share_of_rows(q, sizes) * _condition(r, torch.ones_like(stretch))
        weighted = torch.minimum(bound, own).clamp(min=SAFETY * eps)
        bound = torch.where(graded[:, None], weighted, bound)
    bound = torch.where(stretch == 0, 0.0, bound)
    return Orthonormalization(
        q_in_order * signs.unsqueeze(-2),
        stretch.double().log(),
        (stretch > MARGIN * error) & (bound < 1),
        bound,
        columns,
        r,
    )


def _normalize(vector: Tensor) -> Orthonormalization:
    """Factor a single column ``[B, N, 1]``: a vector and its length; see `orthonormalize`."""
    # In units of the largest entry: squares would overflow above 1e19 and vanish below 1e-19.
    unit = vector.abs().amax(-2, keepdim=True)
    lost = unit == 0
    scaled = torch.where(
        lost, torch.eye(vector.shape[1], 1, dtype=vector.dtype, device=vector.device), vector / unit
    )
    length = torch.linalg.vector_norm(scaled, dim=-2, keepdim=True)
    log_stretch = (length.double().log() + unit.double().log()).squeeze(-1)
    bound = torch.full_like(log_stretch, SAFETY * torch.finfo(vector.dtype).eps)
    return Orthonormalization(
        scaled / length,
        log_stretch,
        log_stretch.isfinite(),
        bound.masked_fill(lost.squeeze(-1), 0.0),
    )


def reflector_qr(basis: Tensor) -> CompactOrthonormalization:
    """Factor as `householder_qr` does, but leave Q as reflectors, at half the cost.

    What needs Q beside its products is estimated: by the Cauchy-Schwarz inequality the error of
    ``R_ii`` is at most ``eps`` times the norm of all rows, and ``sqrt(N)`` times
    ``|diag(|row_j|) q_i|``, which random signs sample where rows differ much.

    Args:
        basis: Tangent vectors as columns, ``[B, N, N]``.

    Returns:
        See `orthonormalize`.
    """
    basis, sizes, graded, order, column_lengths, columns = _prepare(basis)
    factors, scales = torch.geqrf(basis)
    diagonal = factors.diagonal(dim1=-2, dim2=-1)
    stretch = diagonal.abs()
    signs = torch.where(diagonal < 0, -1.0, 1.0).to(basis.dtype)
    reflectors = Reflectors(factors, scales, signs, order)
    eps, size = torch.finfo(basis.dtype).eps, basis.shape[-1]
    error = eps * size**0.5 * _lengths(sizes.unsqueeze(-1), sizes)
    bound = SAFETY * eps * _condition(factors, column_lengths)
    if order is not None:
        share = _sampled_share_of_rows(reflectors, sizes, factors.triu().abs().amax(-1))
        own = SAFETY * eps * share * _condition(factors, torch.ones_like(stretch))
        weighted = torch.minimum(bound, own).clamp(min=SAFETY * eps)
        bound = torch.where(graded[:, None], weighted, bound)
        error = torch.where(graded[:, None], eps * size * share, error)
    bound = torch.where(stretch == 0, 0.0, bound)
    return CompactOrthonormalization(
        reflectors,
        stretch.double().log(),
        (stretch > MARGIN * error) & (bound < 1),
        bound,
        columns,
    )


def _sampled_share_of_rows(reflectors: Reflectors, sizes: Tensor, along: Tensor) -> Tensor:
    """Sample `share_of_rows` of `row_errors`, ``[B, N]``; sizes as the reflectors act on rows."""
    unit = sizes.amax(-1, keepdim=True)
    signs = random_signs(sizes.shape[-1], sizes.dtype, sizes.device, ROW_SIZE_SAMPLES)
    mixed = reflectors.combined((along / unit).unsqueeze(-1) * signs)
    relative = ((sizes / unit).square() + mixed.square().mean(-1)).sqrt()
    sampled = reflectors.rows_applied_to(relative.unsqueeze(-2) * signs.mT)
    return unit.double() * sampled.double().square().mean(-2).sqrt()


class _Prepared(NamedTuple):
    """A basis as it is best factored.

    Attributes:
        basis: ``[B, N, K]``; its zero columns are the last ones.
        sizes: Largest entries of its rows, ``[B, N]``.
        graded: In which matrices these differ much, ``[B]``, bool.
        order: Its rows, ``[B, N]``; None for all as they were.
        column_lengths: ``[B, K]``.
        columns: Where its columns stood, ``[B, K]``; None for all as they were.
    """

    basis: Tensor
    sizes: Tensor
    graded: Tensor
    order: Tensor | None
    column_lengths: Tensor
    columns: Tensor | None


def _prepare(basis: Tensor) -> _Prepared:
    """Bring rows in order of falling size where they differ much, and zero columns to the end."""
    sizes, graded, order = _order_of_rows(basis)
    column_lengths = _lengths(basis, sizes)
    columns = None
    if bool((column_lengths == 0).any()):  # squares of what is tiny vanish, too
        columns = (basis == 0).all(-2).int().argsort(dim=-1, stable=True)
        basis = basis.gather(-1, columns.unsqueeze(-2).expand_as(basis))
        column_lengths = column_lengths.gather(-1, columns)
    if order is not None:
        sizes = sizes.gather(-1, order)
        rows = order.unsqueeze(1).expand(-1, basis.shape[-1], -1)
        basis = basis.mT.gather(-1, rows).mT
    return _Prepared(basis, sizes, graded, order, column_lengths, columns)


def _order_of_rows(basis: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return how the rows of a basis ``[B, N, K]`` are best ordered.

    Sizes of the rows, ``[B, N]``; of which matrices they differ much, ``[B]``, bool; and the order,
    ``[B, N]``, or None if every matrix can stay as it is.
    """
    # The largest entry stands for a row's norm: squares would underflow below 1e-19.
    # Two passes over the basis take less time than a copy of its absolute values.
    sizes = torch.maximum(basis.amax(-1), -basis.amin(-1))
    graded = sizes.amin(-1) * GRADED < sizes.amax(-1)
    if not bool(graded.any()):
        return sizes, graded, None
    in_place = torch.arange(basis.shape[-2], device=basis.device)
    order = torch.where(graded[:, None], sizes.argsort(dim=-1, descending=True), in_place)
    return sizes, graded, order


def _lengths(basis: Tensor, sizes: Tensor) -> Tensor:
    """Return the lengths of columns, ``[B, K]``; sizes are largest entries of rows, ``[B, N]``."""
    unit = _unit(sizes)
    if unit is None:
        return torch.linalg.vector_norm(basis, dim=-2)
    return torch.linalg.vector_norm(basis / unit.unsqueeze(-1), dim=-2) * unit


def _unit(sizes: Tensor) -> Tensor | None:
    """Return a unit ``[B, 1]`` that keeps squares in range, or None if all sizes can stay."""
    unit = sizes.amax(-1, keepdim=True)
    if bool(((unit > 1 / FAR) & (unit < FAR)).all()):
        return None
    return unit.clamp(min=torch.finfo(sizes.dtype).tiny)


def _condition(r: Tensor, lengths: Tensor) -> Tensor:
    """Estimate ``|diag(|a_k|) R^-1 e_i|``, the condition of each column among those before it.

    Its square is the mean of ``(R^-T (z |a|))_i^2`` over random signs z; four samples are taken.
    Below the diagonal of ``r``, ``[B, K, K]``, nothing is read; the lengths of the columns a_k of
    the basis and the result, float64, are ``[B, K]``.
    """
    if r.shape[-1] == 1:
        return torch.ones(r.shape[:-1], dtype=torch.float64, device=r.device)
    signs = random_signs(r.shape[-1], r.dtype, r.device)
    unit = _unit(lengths)
    if unit is not None:
        r, lengths = r / unit.unsqueeze(-1), lengths / unit
    samples = torch.linalg.solve_triangular(r.mT, lengths.unsqueeze(-1) * signs, upper=False)
    return samples.double().square().mean(-1).sqrt()
