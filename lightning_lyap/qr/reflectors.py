"""Orthonormal bases kept as the Householder reflectors that make them up."""

from typing import Any, TypeAlias

import torch
from torch import Tensor

# Smallest basis that is kept as reflectors: below, they save less than the matrix costs.
SMALLEST = 128


class Reflectors:
    """A complete orthonormal basis, kept as LAPACK's ``geqrf`` leaves it.

    What a step needs of the basis Q is its product ``J Q`` with a Jacobian. Applied to J one by
    one the reflectors give it in as many multiplications as the product itself takes (``2 N^3``
    operations), so that Q, which would take another ``4/3 N^3``, is never written out.

    Args:
        factors: Below their diagonals the reflectors, ``[B, N, N]``.
        scales: Their coefficients, LAPACK's tau, ``[B, N]``.
        signs: Of the columns, 1 or -1, ``[B, N]``.
        order: Rows of Q in the order in which the reflectors act on them, ``[B, N]``; None where
            that is their own.
        blocks: M, the number of bases that are on top of each other in each of ``B / M`` tangent
            spaces; see `DynamicalSystem.num_blocks`. The uppermost of all come first, then those
            below them, and so on.
    """

    def __init__(
        self,
        factors: Tensor,
        scales: Tensor,
        signs: Tensor,
        order: Tensor | None = None,
        blocks: int = 1,
    ) -> None:
        self._factors = factors
        self._scales = scales
        self._signs = signs
        self._order = order
        self._blocks = blocks

    @property
    def shape(self) -> torch.Size:
        """Shape of the bases, ``[B / M, M N, N]``."""
        batch_size, size, count = self._factors.shape
        return torch.Size([batch_size // self._blocks, self._blocks * size, count])

    def stacked(self, blocks: int) -> "Reflectors":
        """Return the same bases, some on top of each other.

        Args:
            blocks: M.

        Returns:
            ``[B / M, M N, N]``.
        """
        return Reflectors(self._factors, self._scales, self._signs, self._order, blocks)

    def chunk(self, chunks: int, dim: int) -> "list[Reflectors]":
        """Take bases that are on top of each other apart, as `torch.chunk` does.

        Args:
            chunks: M.
            dim: -2.

        Returns:
            Bases ``[B / M, N, N]``.
        """
        parts: list[list[Tensor | None]] = [
            [None] * chunks if part is None else list(part.chunk(chunks))
            for part in (self._factors, self._scales, self._signs, self._order)
        ]
        return [Reflectors(*block) for block in zip(*parts, strict=True)]

    def applied_to(self, columns: Tensor) -> Tensor:
        """Compute ``M Q``.

        Args:
            columns: The columns of M, ``[B, N, H]``: its transpose, contiguous.

        Returns:
            ``[B, H, N]``, column-major.
        """
        if self._order is not None:
            columns = _take(columns, self._order)
        product = torch.ormqr(self._factors, self._scales, columns.mT, left=False)
        return product.mul_(self._signs.unsqueeze(-2))

    def rows_applied_to(self, rows: Tensor) -> Tensor:
        """Compute ``M Q`` for a few rows, given in the order in which the reflectors act.

        Args:
            rows: ``[B, S, N]``.

        Returns:
            ``[B, S, N]``, up to signs of columns.
        """
        return torch.ormqr(self._factors, self._scales, rows, left=False)

    def combined(self, weights: Tensor) -> Tensor:
        """Compute ``Q X``, its rows in the order in which the reflectors act, up to signs in X.

        Args:
            weights: X, ``[B, N, S]``.

        Returns:
            ``[B, N, S]``.
        """
        return torch.ormqr(self._factors, self._scales, weights)

    def dense(self) -> Tensor:
        """Write the bases out, ``[B / M, M N, N]``; a single one column-major."""
        basis = torch.linalg.householder_product(self._factors, self._scales)
        if self._order is not None:
            basis = rows_back(basis, self._order)
        basis = basis * self._signs.unsqueeze(-2)
        return basis if self._blocks == 1 else torch.cat(basis.chunk(self._blocks), dim=1)


Basis: TypeAlias = Tensor | Reflectors


def dense(basis: Basis) -> Tensor:
    """Write a basis out if it is not.

    Args:
        basis: ``[B, N, K]``.

    Returns:
        ``[B, N, K]``.
    """
    return basis.dense() if isinstance(basis, Reflectors) else basis


def better_as_reflectors(basis: Tensor, blocks: int = 1) -> bool:
    """Return whether bases are better kept as reflectors: large complete ones, on the CPU.

    Args:
        basis: ``[B, N, K]``.
        blocks: How many are on top of each other.
    """
    size, count = basis.shape[1] // blocks, basis.shape[2]
    return basis.device.type == "cpu" and size == count >= SMALLEST


def rows_back(basis: Tensor, order: Tensor) -> Tensor:
    """Put rows that were taken in an order back to where they were.

    Args:
        basis: ``[B, N, K]``.
        order: ``[B, N]``.

    Returns:
        ``[B, N, K]``, column-major.
    """
    rows = order.unsqueeze(1).expand(-1, basis.shape[-1], -1)
    return torch.empty_like(basis.mT).scatter_(-1, rows, basis.mT).mT


def _take(matrix: Tensor, order: Tensor) -> Tensor:
    """Take the rows of each matrix ``[B, N, H]``, contiguous, in an order ``[B, N]`` of its own."""
    batch_size, size, width = matrix.shape
    starts = torch.arange(0, batch_size * size, size, device=matrix.device)
    rows = (order + starts.unsqueeze(-1)).flatten()
    taken: Any = matrix.reshape(-1, width).index_select(0, rows)
    return taken.view(batch_size, size, width)
