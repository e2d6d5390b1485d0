"""Batched orthonormalization of tangent vectors.

Bases are ``[B, N, K]``: K tangent vectors of size N, as columns, for each of B sequences.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_lyap.qr.cholesky import FIRST_PANEL_WIDTH, PANEL_WIDTH, cholesky_qr
from lightning_lyap.qr.error_bounds import (
    CompactOrthonormalization,
    Factorization,
    Orthonormalization,
)
from lightning_lyap.qr.householder import householder_qr

__all__ = ["Cascade", "Orthonormalization", "orthonormalize", "random_orthonormal_basis"]
# Cholesky factorizations of each panel that are tried in turn: stretches may spread over 30, 60 and
# 90 nats, about.
PASSES = (1, 2, 4)


def orthonormalize(basis: Tensor) -> Orthonormalization:
    r"""Factor ``basis = Q R`` with a positive diagonal of R.

    By Householder reflections on the CPU, by `Cascade` on CUDA, where it is many times faster.

    The positive diagonal makes the factorization unique for a basis of full rank. Zero columns are
    moved behind the others, which keep the leading exponents; they get ``-inf`` and an orthonormal
    replacement that can grow again.

    Errors of relative size eps in the rows change ``R_ii`` by about ``eps sum_j |q_ji| |row_j|``. A
    stretch is resolved if it exceeds three times that: what is smaller is the remainder of a
    cancellation, and may be noise.

    The error of ``log R_ii`` is, to first order, ``sum_k (q_i^T E a_k) (R^-1)_ki`` for an error E
    of the columns a_k, so about ``eps |diag(|a_k|) R^-1 e_i|``: the condition of column i among
    those before it. Where rows differ much in size E is of the size of the rows. Three times that
    is given as the bound of the error; a stretch with a bound above 1 is not resolved either.

    Args:
        basis: Tangent vectors as columns, ``[B, N, K]`` with ``K <= N``, float32 or float64.

    Returns:
        Q, the log-stretches, which of them are resolved, and bounds of their errors.

    Example:
        >>> orthonormalize(torch.diag(torch.tensor([-2.0, 1.0]))[None]).log_stretch
        tensor([[0.6931, 0.0000]], dtype=torch.float64)

    Reference:
        Benettin et al. (1980), Meccanica 15, 9-20; Dieci and Van Vleck (1995).
    """
    if not cascade_is_faster_on(basis.device):
        return householder_qr(basis)
    cascade = Cascade()
    while True:
        result = cascade(basis)
        if cascade.holds():
            return result


def cascade_is_faster_on(device: torch.device) -> bool:
    """Return whether `Cascade` is faster than Householder reflections on a device."""
    return device.type == "cuda"


class Cascade:
    """Factorizes the bases of a run by Cholesky factorizations, and learns how many it takes.

    Calls never wait for the device: whether their results hold is asked later, once for many. If
    they do not they must be thrown away and done again: with narrower panels, then with more
    Cholesky factorizations of each, at last with Householder reflections for the matrices that
    still fail. What was needed once is kept for the rest of the run.

    Attributes:
        panel_width: Columns factored together.
        level: How often more was needed: an index into `PASSES`, or its length for Householder.
    """

    def __init__(self) -> None:
        self.panel_width = FIRST_PANEL_WIDTH
        self.level = 0
        self._most_columns = 0
        self._failed: Tensor | None = None

    def __call__(self, basis: Tensor) -> Orthonormalization:
        """Factorize; see `orthonormalize`.

        Args:
            basis: ``[B, N, K]``.

        Returns:
            A result that may have to be thrown away: ask `holds`.
        """
        if self.level == len(PASSES):
            return _repaired(basis)
        self._most_columns = max(self._most_columns, basis.shape[-1])
        result, failed = cholesky_qr(basis, PASSES[self.level], panel_width=self.panel_width)
        failed = failed.any()
        self._failed = failed if self._failed is None else self._failed | failed
        return result

    def holds(self) -> bool:
        """Return whether all results since the last call hold; go to the next level if not.

        Waits for the device.
        """
        held = self._failed is None or not bool(self._failed)
        self._failed = None
        if not held:
            self._go_on()
        return held

    def _go_on(self) -> None:
        """Take narrower panels, where that makes a difference, or go to the next level."""
        if min(self.panel_width, self._most_columns) > PANEL_WIDTH:
            self.panel_width = PANEL_WIDTH
        else:
            self.level += 1


def _repaired(basis: Tensor) -> Orthonormalization:
    """Factorize, and do what fails again with Householder reflections."""
    result, failed = cholesky_qr(basis, PASSES[-1])
    rows = failed.nonzero()[:, 0]
    if len(rows) == 0:
        return result
    right = householder_qr(basis[rows])
    in_order = torch.arange(basis.shape[-1]).to(rows).expand(len(rows), -1)
    columns = in_order if right.columns is None else right.columns
    pairs = zip(result[:5], (*right[:4], columns), strict=True)
    parts = (part if whole is None else whole.index_copy(0, rows, part) for whole, part in pairs)
    return Orthonormalization(*parts)


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
    return householder_qr(gaussian).basis[0].to(device=device, dtype=dtype)


def factorize_blocks(
    count: int, basis: Tensor, method: Callable[[Tensor], Factorization]
) -> Factorization:
    """Orthonormalize the basis of each block of the tangent space by itself.

    Args:
        count: Number of blocks, which a tangent map does not mix.
        basis: ``[B, N, k]``.
        method: `orthonormalize`, a `Cascade`, or, for complete bases, `reflector_qr`.

    Returns:
        Q, ``[B, N, k]``; the other fields are ``[B, C]``, block after block.
    """
    if count == 1:
        return method(basis)
    # Block after block, so that the columns of each are adjacent in memory.
    result = method(torch.cat(basis.mT.chunk(count, dim=2)).mT)
    columns = result.columns
    if columns is not None:
        size, number = basis.shape[-1], torch.arange(count, device=columns.device)
        columns = columns + size * number.repeat_interleave(len(basis)).unsqueeze(-1)
        columns = torch.cat(columns.chunk(count), dim=1)
    stretch, resolved, error = (torch.cat(part.chunk(count), dim=1) for part in result[1:4])
    if isinstance(result, CompactOrthonormalization):
        stacked = result.basis.stacked(count)
        return CompactOrthonormalization(stacked, stretch, resolved, error, columns)
    basis = stack_rows(list(result.basis.chunk(count)))
    return Orthonormalization(basis, stretch, resolved, error, columns)


def stack_rows(blocks: list[Tensor]) -> Tensor:
    """Stack tangent blocks on top of each other and keep the result column-major.

    Args:
        blocks: Tensors ``[B, N_k, K]``.

    Returns:
        ``[B, sum of N_k, K]``.
    """
    return blocks[0] if len(blocks) == 1 else torch.cat([b.mT for b in blocks], dim=-1).mT
