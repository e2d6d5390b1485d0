"""What a factorization reports, and how far rounding may have moved it.

Bases are ``[B, N, K]``: K tangent vectors of size N, as columns, for each of B sequences.
"""

from functools import lru_cache
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from lightning_lyap._device import upload
from lightning_lyap.qr.reflectors import Reflectors

# How far a stretch must stand out from the estimated rounding error to count as resolved.
MARGIN = 3.0
# Bound of the error of a log-stretch in units of its condition, and samples to estimate that.
# Measured on a trained LSTM-512, intervals 1 to 30, both precisions: of the errors of its exponents
# half were below 0.3 of these units, 99 % below 2 to 3; the largest of all was 6.
SAFETY, SAMPLES = 3.0, 4
# Samples that estimate `share_of_rows` where Q is not written out: one estimate in ten is off
# by a quarter or more.
ROW_SIZE_SAMPLES = 16
# Rows that differ by less than this factor are taken as of one size: the errors it could cost stay
# below 1e-4 in float32, and sorting takes a sixth of the time of a Householder factorization.
GRADED = 1e3


class Orthonormalization(NamedTuple):
    """The result of `orthonormalize`.

    Attributes:
        basis: Q, orthonormal columns, ``[B, N, K]``.
        log_stretch: ``log R_ii``, ``[B, K]``, nats, float64; ``-inf`` for a zero column.
        resolved: Which stretches stand out from the rounding noise, ``[B, K]``, bool.
        rounding_error: Bound of the error of each log-stretch, ``[B, K]``, nats, float64; 0 for a
            zero column.
        columns: Where each vector stood in the basis that was factored, ``[B, K]``, int64: zero
            columns are moved to the end. None where all stay.
        triangle: R, ``[B, K, K]``, its rows up to their signs. None where it was not formed.
    """

    basis: Tensor
    log_stretch: Tensor
    resolved: Tensor
    rounding_error: Tensor
    columns: Tensor | None = None
    triangle: Tensor | None = None


class CompactOrthonormalization(NamedTuple):
    """The same for a complete basis that is kept as reflectors; see `Orthonormalization`."""

    basis: Reflectors
    log_stretch: Tensor
    resolved: Tensor
    rounding_error: Tensor
    columns: Tensor | None = None
    triangle: None = None


Factorization: TypeAlias = Orthonormalization | CompactOrthonormalization


@lru_cache(maxsize=16)
def random_signs(
    count: int, dtype: torch.dtype, device: torch.device, samples: int = SAMPLES
) -> Tensor:
    """Return the random signs that sums of squares are sampled with, the same each time.

    Args:
        count: K.
        dtype: Type of the result.
        device: Device of the result.
        samples: S.

    Returns:
        1 or -1, ``[K, S]``.
    """
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(2, (count, samples), generator=generator, device="cpu")
    return upload((2 * signs - 1).to(dtype), device)


def row_errors(q: Tensor, sizes: Tensor, along: Tensor) -> Tensor:
    """Return what the rounding errors of rows are in proportion to.

    Taking off the part ``R_ij`` that other columns have along a column of Q leaves errors of its
    size in all rows this column lies in. Where columns come in the order of their stretches, rows
    are as large themselves; where one is shorter than those behind it, by what was cancelled in it
    before, they may be far smaller.

    Args:
        q: ``[B, N, K]``.
        sizes: Sizes of the rows before, ``[B, N]``.
        along: The largest ``|R_ij|`` of each row i of R, ``[B, K]``.

    Returns:
        ``sqrt(s_j^2 + sum_i (q_ji r_i)^2)``, ``[B, N]``.
    """
    # In units of the largest: what underflows adds nothing.
    unit = sizes.amax(-1, keepdim=True)
    mixed = q.square() @ (along / unit).to(q).square().unsqueeze(-1)
    return unit * ((sizes / unit).square() + mixed.squeeze(-1)).sqrt()


def share_of_rows(q: Tensor, sizes: Tensor) -> Tensor:
    """Return how large the rows are that a column of Q lies in.

    Args:
        q: ``[B, N, K]``.
        sizes: Of the rows, ``[B, N]``.

    Returns:
        ``sqrt(sum_j q_ji^2 s_j^2)``, ``[B, K]``, float64.
    """
    unit = sizes.amax(-1, keepdim=True)
    squares = (sizes / unit).square().unsqueeze(-1)
    return unit.double() * (q.square().mT @ squares).squeeze(-1).double().sqrt()
