"""Orthonormalization by products and small Cholesky factorizations: made for batches on a GPU.

Householder QR goes from column to column and, on CUDA, from matrix to matrix. Here the columns are
taken in panels; nearly all of the work lies in products of the whole batch, and nothing waits for
the device. Inside, tangent vectors are rows, ``[B, K, N]``.
"""

import torch
from torch import Tensor

from lightning_lyap.qr.error_bounds import (
    GRADED,
    MARGIN,
    SAFETY,
    Orthonormalization,
    random_signs,
    row_errors,
    share_of_rows,
)

# Columns factored together, and how many are tried first. With more there are fewer, larger
# operations: on an H100 wide panels take half the time. With fewer the condition of each panel is
# smaller.
PANEL_WIDTH, FIRST_PANEL_WIDTH = 64, 256
# Added to the diagonal of a panel's Gram matrix, in eps times its size: positive definite whatever
# rounding has done to it.
DIAGONAL_SHIFT = 4.0
# Steps of Newton's iteration that end each panel; its error is squared in each: 0.1 becomes 1e-8.
REFINEMENTS = 3
# Largest entry of ``|Q^T Q - I|`` to accept, in eps of the basis: 8e-6 in float32, 1.4e-14 in
# float64.
ORTHOGONAL = 64.0
# GPUs whose float64 arithmetic is not much slower than float32, by compute capability.
FAST_FLOAT64 = {(6, 0), (7, 0), (8, 0), (9, 0), (10, 0)}


def working_dtype(basis: Tensor) -> torch.dtype:
    """Choose the type that Gram matrices are computed in: float64 where the card is good at it.

    Args:
        basis: On any device.

    Returns:
        float64, or the basis's own type on GPUs with little float64 arithmetic.
    """
    if basis.is_cuda and torch.cuda.get_device_capability(basis.device) not in FAST_FLOAT64:
        return basis.dtype
    return torch.float64


def cholesky_qr(
    basis: Tensor,
    passes: int = 1,
    dtype: torch.dtype | None = None,
    panel_width: int | None = None,
) -> tuple[Orthonormalization, Tensor]:
    r"""Factor ``basis = Q R`` by block Gram-Schmidt with Cholesky-QR of each panel.

    Each pass takes from a panel its part along the columns before, scales its columns to unit
    length and multiplies it by the inverse of the shifted Cholesky factor of its Gram matrix. A
    last pass takes off again what is left along the columns before, and makes the panel orthonormal
    by Newton's iteration on its Gram matrix. One pass is enough as long as no column is closer to
    those of its panel than 1e-7 (the root of the shift), or to those before than 1e-15; each
    further pass squares both.

    ``R_ii`` is the product of the diagonals of all passes. Whatever these were, ``basis = Q R``
    holds up to rounding, row by row: the product with the inverse of a triangle whose rows fall off
    like those of the basis keeps an error of every row's own size, as Householder reflections do
    on sorted rows. So the result is right if Q is orthonormal, and that is measured: a Cholesky
    factorization that fails leaves something else.

    Columns that are zero come last. They, and columns beyond the number of rows that are not zero,
    have the stretch ``-inf`` and are replaced by directions that don't matter.

    Args:
        basis: ``[B, N, K]`` with ``K <= N``, float32 or float64.
        passes: Cholesky factorizations of each panel, at least 1.
        dtype: Type of the arithmetic. Default: `working_dtype`.
        panel_width: Columns of a panel. Default: `PANEL_WIDTH`.

    Returns:
        The factorization, see `orthonormalize`; and which matrices have failed, ``[B]``, bool: they
        are finite, but their Q is not orthonormal, and nothing of theirs means anything.

    Reference:
        Yamamoto, Nakatsukasa, Yanagisawa, Fukaya (2015), Roundoff error analysis of the CholeskyQR2
        algorithm; Fukaya et al. (2020), Shifted Cholesky QR for computing the QR factorization of
        ill-conditioned matrices; Barlow and Smoktunowicz (2013), Reorthogonalized block classical
        Gram-Schmidt.
    """
    dtype, width = dtype or working_dtype(basis), panel_width or PANEL_WIDTH
    finite = basis.isfinite().flatten(1).all(-1)
    rows, unit, lost, columns = _prepare(basis.mT.to(dtype))
    size = rows.shape[-1]
    # Multiplied by R^-1 along with the rest, signs times lengths are samples of the conditions.
    lengths = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    signs = random_signs(len(rows[0]), dtype, rows.device)
    work = torch.cat([rows, lengths * signs, signs / unit.unsqueeze(-1)], dim=-1)
    stretches = []
    for start in range(0, rows.shape[1], width):
        done, panel = work[:, :start], work[:, start : start + width]
        panel, stretch = _orthonormal_panel(panel, done, size, passes)
        work[:, start : start + width] = panel
        stretches.append(stretch)
    q, samples = work[..., :size], work[..., size:].double().unflatten(-1, (2, -1))
    log_stretch = torch.cat(stretches, dim=-1).log() + unit.double().log()
    log_stretch = log_stretch.masked_fill(lost, -torch.inf)
    log_stretch = log_stretch.masked_fill(~finite.unsqueeze(-1), torch.nan)
    off = (q @ q.mT - _identity(q)).abs().flatten(1).amax(-1)
    failed = finite & ~(off <= ORTHOGONAL * torch.finfo(basis.dtype).eps)
    triangle = (q @ rows.mT * unit.unsqueeze(-2)).triu().masked_fill(lost.unsqueeze(-2), 0.0)
    conditions, along = samples.square().mean(-1).sqrt(), triangle.abs().amax(-1)
    resolved, bound = _judge(basis, q.mT, log_stretch, conditions, along)
    result = Orthonormalization(q.to(basis.dtype).mT, log_stretch, resolved, bound, columns)
    return result, failed


def _prepare(rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scale the vectors ``[B, K, N]`` to a largest entry of 1, zeros last, and replace lost ones.

    Return them; what they were divided by, which are replacements, and where they stood, ``[B, K]``
    each.
    """
    # Gram matrices square: beyond 1e19 they overflow in float32, below 1e-19 they vanish.
    unit = rows.abs().amax(-1)
    order = (unit == 0).int().argsort(dim=-1, stable=True)
    unit = unit.gather(-1, order)
    rows = rows.gather(1, order.unsqueeze(-1).expand_as(rows))
    filled = (rows != 0).any(1)
    index = torch.arange(rows.shape[1], device=rows.device)
    lost = index >= torch.minimum((unit != 0).sum(-1), filled.sum(-1)).unsqueeze(-1)
    unit = unit.masked_fill(lost, 1.0)
    rows = torch.where(lost.unsqueeze(-1), _replacements(rows, filled), rows / unit.unsqueeze(-1))
    return rows, unit, lost, order


def _replacements(rows: Tensor, filled: Tensor) -> Tensor:
    """Return vectors for those that are lost, ``[B, K, N]``, the same each time.

    Where all others are zero in some entries, the unit vectors of these, as Householder reflections
    do; else vectors in no particular direction. ``filled``, ``[B, N]``, marks the entries in which
    any vector is not zero.
    """
    index = torch.arange(rows.shape[1], device=rows.device)
    empty_last = filled.logical_not().int().argsort(dim=-1, stable=True)[:, : len(index), None]
    units = empty_last == torch.arange(rows.shape[2], device=rows.device)
    beyond = (index >= filled.sum(-1, keepdim=True)).unsqueeze(-1)
    return torch.where(beyond, units.to(rows.dtype), _scattered(rows))


def _scattered(rows: Tensor) -> Tensor:
    """Return vectors in no particular direction, ``[K, N]``, entries between -0.5 and 0.5."""
    count, size = (torch.arange(n, dtype=torch.float64, device=rows.device) for n in rows.shape[1:])
    angle = 12.9898 * size + 78.233 * count.unsqueeze(-1) + 1
    return ((43758.5453 * angle.sin()).frac().abs() - 0.5).to(rows.dtype)


def _identity(rows: Tensor) -> Tensor:
    """Return the unit matrix ``[K, K]`` for vectors ``[B, K, N]``."""
    return torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)


def _orthonormal_panel(
    panel: Tensor, done: Tensor, size: int, passes: int
) -> tuple[Tensor, Tensor]:
    """Return a panel orthonormal to itself and the vectors before, and its part of diag(R).

    ``panel`` is ``[B, b, N + SAMPLES]``, of which the first N entries (``size``) are a vector;
    ``done``, the vectors before, ``[B, a, N + SAMPLES]``; the diagonal ``[B, b]``, float64.
    """
    unit, tiny = _identity(panel), torch.finfo(panel.dtype).tiny ** 0.5
    shift = DIAGONAL_SHIFT * len(unit) * torch.finfo(panel.dtype).eps * unit
    stretch: Tensor | float = 1.0
    for _ in range(passes):
        panel = _take_off(panel, done, size)
        lengths = torch.linalg.vector_norm(panel[..., :size], dim=-1).clamp(min=tiny)
        panel = panel / lengths.unsqueeze(-1)
        # Unlike `cholesky` it does not wait for the device to learn of a failure: that shows in Q.
        lower = torch.linalg.cholesky_ex(_gram(panel, size) + shift).L
        panel = torch.linalg.solve_triangular(lower, panel, upper=False)
        stretch = stretch * (lengths * lower.diagonal(dim1=-2, dim2=-1)).double()
    panel = _take_off(panel, done, size)
    inverse = _inverse_root(_gram(panel, size), unit)
    return inverse @ panel, stretch / inverse.diagonal(dim1=-2, dim2=-1).double()


def _gram(panel: Tensor, size: int) -> Tensor:
    """Return the products of the vectors of a panel with each other, ``[B, b, b]``."""
    return panel[..., :size] @ panel[..., :size].mT


def _take_off(panel: Tensor, done: Tensor, size: int) -> Tensor:
    """Return a panel, ``[B, b, N + SAMPLES]``, without its part along the vectors before."""
    if done.shape[1] == 0:
        return panel
    along = panel[..., :size] @ done[..., :size].mT
    return torch.baddbmm(panel, along, done, alpha=-1)


def _inverse_root(gram: Tensor, unit: Tensor) -> Tensor:
    """Return the inverse Cholesky factor of ``[B, b, b]`` close to the unit matrix, by products.

    If ``X G X^T = I + E``, then ``(I - L) X`` with the lower triangle L of E, half its diagonal,
    leaves an E of the size of its square.
    """
    half = torch.ones_like(unit).tril(-1) + 0.5 * unit
    minus = -0.5 * unit
    inverse = unit - torch.addcmul(minus, gram, half)
    for _ in range(REFINEMENTS - 1):
        error = torch.addcmul(minus, inverse @ gram @ inverse.mT, half)
        inverse = torch.baddbmm(inverse, error, inverse, alpha=-1)
    return inverse


def _judge(
    basis: Tensor, q: Tensor, log_stretch: Tensor, conditions: Tensor, along: Tensor
) -> tuple[Tensor, Tensor]:
    """Return which stretches are resolved and bounds of their errors; see `orthonormalize`.

    ``basis`` and ``q`` are ``[B, N, K]``, results ``[B, K]``; ``conditions``, of each column among
    those before it, in units of their lengths and in units of one, ``[B, K, 2]``; ``along`` as for
    `row_errors`.
    """
    info = torch.finfo(basis.dtype)
    sizes = basis.abs().amax(-1).to(q.dtype)
    graded = sizes.amin(-1) * GRADED < sizes.amax(-1)
    # What is smaller than the smallest normal number has an error of that one's size.
    sizes = sizes.clamp(min=info.tiny)
    sizes = torch.where(graded.unsqueeze(-1), row_errors(q, sizes, along), sizes)
    norms = basis.shape[-1] ** 0.5 * sizes
    error = info.eps * (q.abs().mT @ norms.unsqueeze(-1)).squeeze(-1)
    bound, own = (SAFETY * info.eps * condition for condition in conditions.unbind(-1))
    weighted = torch.fmin(bound, own * share_of_rows(q, sizes)).clamp(min=SAFETY * info.eps)
    bound = torch.where(graded.unsqueeze(-1), weighted, bound)
    bound = bound.masked_fill(log_stretch.isneginf(), 0.0)
    return (log_stretch > (MARGIN * error).double().log()) & (bound < 1), bound
