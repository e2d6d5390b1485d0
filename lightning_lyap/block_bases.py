"""Factorizes bases whose blocks a tangent map does not mix, each block by itself."""

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_lyap.dynamics import Dynamics
from lightning_lyap.dynamics.base import num_blocks, stack_rows
from lightning_lyap.rounding import CompactOrthonormalization, Factorization, Orthonormalization


def factorize(
    system: Dynamics, basis: Tensor, method: Callable[[Tensor], Factorization]
) -> Factorization:
    """Orthonormalize the basis of each block of the tangent space by itself.

    Args:
        system: The dynamics.
        basis: ``[B, N, k]``.
        method: `orthonormalize`, a `Cascade`, or, for complete bases, `reflector_qr`.

    Returns:
        Q, ``[B, N, k]``; the other fields are ``[B, C]``, block after block.
    """
    count = num_blocks(system)
    if count == 1:
        return method(basis)
    # Block after block, so that the columns of each are adjacent in memory.
    result = method(torch.cat(basis.mT.chunk(count, dim=2)).mT)
    fields = (torch.cat(part.chunk(count), dim=1) for part in result[1:])
    if isinstance(result, CompactOrthonormalization):
        return CompactOrthonormalization(result.basis.stacked(count), *fields)
    return Orthonormalization(stack_rows(list(result.basis.chunk(count))), *fields)
