"""Batched orthonormalization of tangent vectors.

Bases are ``[B, N, K]``: K tangent vectors of size N, as columns, for each of B sequences.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

# How far a stretch must stand out from the estimated rounding error to count as resolved.
MARGIN = 3.0
# Bound of the error of a log-stretch in units of its condition, and samples to estimate that.
# Measured on a trained LSTM-512, intervals 1 to 30, both precisions: of the errors of its exponents
# half were below 0.3 of these units, 99 % below 2 to 3; the largest of all was 6.
SAFETY, SAMPLES = 3.0, 4
# Rows that differ by less than this factor are left in place: the errors it could cost stay below
# 1e-4 in float32, and sorting takes a sixth of the time of the factorization.
GRADED = 1e3


class Orthonormalization(NamedTuple):
    """The result of `orthonormalize`.

    Attributes:
        basis: Q, orthonormal columns, ``[B, N, K]``.
        log_stretch: ``log R_ii``, ``[B, K]``, nats, float64; ``-inf`` for a zero column.
        resolved: Which stretches stand out from the rounding noise, ``[B, K]``, bool.
        rounding_error: Bound of the error of each log-stretch, ``[B, K]``, nats, float64; 0 for a
            zero column.
    """

    basis: Tensor
    log_stretch: Tensor
    resolved: Tensor
    rounding_error: Tensor


def orthonormalize(basis: Tensor) -> Orthonormalization:
    r"""Factor ``basis = Q R`` with a positive diagonal of R.

    Householder QR (LAPACK ``geqrf`` and ``orgqr``), on the rows in order of falling size where
    they differ much. The order does not change R, but rounding: saturated units make rows of J Q
    that differ by tens of orders of magnitude, and only in this order does every row keep an error
    of its own size (Cox and Higham, 1998, who also pivot the columns; here earlier steps have
    ordered them), so that stretches far below the rounding error of the largest come out right.

    The signs are moved so that every diagonal entry of R is positive, which makes the
    factorization unique for a basis of full rank. Zero columns are moved behind the others, which
    keep the leading exponents; they get ``-inf`` and an orthonormal replacement that can grow
    again.

    Errors of relative size eps in the rows change ``R_ii`` by about ``eps sum_j |q_ji| |row_j|``. A
    stretch is resolved if it exceeds three times that: what is smaller is the remainder of a
    cancellation, and may be noise.

    The error of ``log R_ii`` is, to first order, ``sum_k (q_i^T E a_k) (R^-1)_ki`` for an error E
    of the columns a_k, so about ``eps |diag(|a_k|) R^-1 e_i|``: the condition of column i among
    those before it. For rows sorted by size E is of the size of the rows. Three times that is given
    as the bound of the error; a stretch with a bound above 1 is not resolved either.

    Args:
        basis: Tangent vectors as columns, ``[B, N, K]`` with ``K <= N``, float32 or float64.

    Returns:
        Q, the log-stretches, which of them are resolved, and bounds of their errors.

    Example:
        >>> orthonormalize(torch.diag(torch.tensor([-2.0, 1.0]))[None]).log_stretch
        tensor([[0.6931, 0.0000]], dtype=torch.float64)

    Reference:
        Benettin et al. (1980), Meccanica 15, 9-20; Dieci and Van Vleck (1995). Cox and Higham
        (1998), Stability of Householder QR factorization for weighted least squares problems.
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
        shared = (bound * _share_of_rows(q, sizes)).clamp(min=SAFETY * eps)
        bound = torch.where(graded[:, None], shared, bound)
    bound = torch.where(stretch == 0, 0.0, bound)
    return Orthonormalization(
        q_in_order * signs.unsqueeze(-2),
        stretch.double().log(),
        (stretch > MARGIN * error) & (bound < 1),
        bound,
    )


@lru_cache(maxsize=16)
def _signs(count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the random signs of the samples, ``[count, SAMPLES]``, the same each time."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(2, (count, SAMPLES), generator=generator, device="cpu")
    return (2 * signs - 1).to(device, dtype)


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
    signs = _signs(r.shape[-1], r.dtype, r.device)
    # In units of the largest entry: squares would overflow above 1e19.
    unit = r.abs().amax((-2, -1), keepdim=True).clamp(min=torch.finfo(r.dtype).tiny)
    lengths = torch.linalg.vector_norm(r / unit, dim=-2).unsqueeze(-1)
    samples = torch.linalg.solve_triangular((r / unit).mT, lengths * signs, upper=False)
    return samples.double().square().mean(-1).sqrt()


def _share_of_rows(q: Tensor, sizes: Tensor) -> Tensor:
    """Tell how large the rows are that a column of Q lies in, relative to all rows.

    Args:
        q: ``[B, N, K]``.
        sizes: Sizes of the rows, ``[B, N]``.

    Returns:
        ``sqrt(N sum_j q_ji^2 s_j^2 / sum_j s_j^2)``, ``[B, K]``, float64; 1 for rows of one size.
    """
    # In units of the largest: what underflows adds nothing.
    squares = (sizes / sizes.amax(-1, keepdim=True)).square().unsqueeze(-1)
    weighted = (q.square().mT @ squares).squeeze(-1)
    return (q.shape[-2] * weighted / squares.sum(-2)).double().sqrt()


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
