r"""Weighted sums of gate matrices: the one product that every gated tangent map consists of.

Each cell's Jacobian is a sum ``sum_g diag(c_g) W_g`` over its gates, plus diagonal terms; the
coefficients c differ from sequence to sequence, the weights W are shared. There are two ways to
compute its product with K tangent vectors:

* matrix-free: all ``W_g Q`` in one product (``G N^2 K`` multiplications), then weigh and add;
* dense: add the weighted matrices first (a pass over ``N^2`` numbers), then one product
  (``N^2 K``).

Dense saves ``(G - 1) N^2 K`` multiplications and costs the pass, so it wins once ``(G - 1) K``
exceeds the number of multiplications that one pass is worth. On CPUs that number was measured at
about 21 for N = 128, and twice as many from N = 256 on, where the pass no longer stays in the cache
(`benchmarks/tangent_maps.py`): for four gates in one sum (LSTM, hidden state) the switch lies at
K = 7 and 14, for three (GRU; the cell state of an LSTM) at 11 and 21, and a single gate (vanilla;
the output gate of a full LSTM) is never made dense.

A complete basis that is kept as reflectors always takes the dense way: they act on the matrix.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_lyap.qr.reflectors import Basis, Reflectors

# Multiplications that are worth a pass over the weights, below N = OUT_OF_CACHE and from there on.
OUT_OF_CACHE = 256
MULTIPLICATIONS_PER_PASS = (21, 42)
# Up to so many vectors the product itself and then its transpose take less time (up to a third
# less) than the transposed product, which is column-major at once.
FEW = 48
# Sums of weighted matrices, in bytes, that are formed at a time where all of them take more than
# that twice over: fresh memory of that size comes from the system, page by page, which may take
# longer than the products.
BLOCK = 16 * 2**20


class Gates(NamedTuple):
    """Matrices of gates, row by row and column by column.

    Products with few vectors read all weights and do little else; column by column that takes half
    the time. Sums of weighted matrices are formed row by row.

    Attributes:
        rows: ``[G, H, D]``.
        columns: The same, ``[D, G, H]``, adjacent in memory for all gates of a column.
    """

    rows: Tensor
    columns: Tensor

    def applied_to(self, vectors: Tensor) -> Tensor:
        """Multiply all of them with vectors.

        Args:
            vectors: ``[..., D]``.

        Returns:
            ``[..., G * H]``.
        """
        return vectors @ self.columns.flatten(1)

    def applied_along(self, states: Tensor, tangent: Basis | None) -> tuple[Tensor, Tensor | None]:
        """Multiply states and, where these are few, tangent vectors at once: weights are read once.

        Args:
            states: ``[B, D]``.
            tangent: Tangent vectors, ``[B, D or more, K]``, those of the states first; or None.

        Returns:
            Products of the states, ``[B, G * H]``, and those of the tangent vectors,
            ``[B, K, G, H]``; None where `mix_gates` has a cheaper way.
        """
        num_gates, size, inputs = self.rows.shape
        if (
            not isinstance(tangent, Tensor)
            or tangent.shape[-1] > FEW
            or prefers_dense(num_gates, size, tangent.shape[-1])
        ):
            return self.applied_to(states), None
        both = torch.cat([states.unsqueeze(1), tangent[:, :inputs].mT], dim=1)
        products = self.applied_to(both).unflatten(-1, (num_gates, size))
        return products[:, 0].flatten(1), products[:, 1:]


class GateWeights:
    """A recurrent module's weight, shared with it, and the gates' matrices that make it up.

    Args:
        weight: The matrices on top of each other, ``[G * H, D]``.
        num_gates: G.

    Attributes:
        rows: The weight, ``[G, H, D]``.
    """

    def __init__(self, weight: Tensor, num_gates: int) -> None:
        self.rows = weight.unflatten(0, (num_gates, -1))
        self._columns: tuple[int, Tensor] | None = None

    def __getitem__(self, which: slice) -> Gates:
        """Take gates; a copy by columns is made where torch knows that the weight has changed."""
        # Tensors of inference mode count no changes.
        version = 0 if self.rows.is_inference() else self.rows._version
        if self._columns is None or self._columns[0] != version:
            with torch.inference_mode(False), torch.no_grad():
                # Torch transposes matrices faster than it permutes more dimensions.
                columns = self.rows.flatten(0, 1).t().contiguous()
                self._columns = version, columns.unflatten(1, self.rows.shape[:2])
        return Gates(self.rows[which], self._columns[1][:, which])

    def read_again(self) -> None:
        """Forget the copy by columns: changes by ``weight.data`` are not known to torch."""
        self._columns = None


def prefers_dense(num_gates: int, size: int, num_vectors: int) -> bool:
    """Return whether adding up the gate matrices first is the cheaper way.

    Args:
        num_gates: G.
        size: N.
        num_vectors: K.

    Returns:
        True where the dense way is the cheaper one.

    Example:
        >>> prefers_dense(4, 128, 6), prefers_dense(4, 128, 7), prefers_dense(1, 128, 512)
        (False, True, False)
    """
    return (num_gates - 1) * num_vectors >= MULTIPLICATIONS_PER_PASS[size >= OUT_OF_CACHE]


def mix_gates(
    gates: Gates,
    coefficients: Tensor,
    tangent: Basis,
    diagonal: Tensor | None = None,
    products: Tensor | None = None,
) -> Tensor:
    """Apply ``sum_g diag(c_g) W_g + diag(d)`` to tangent vectors, the cheapest way.

    Args:
        gates: W, G matrices H x D.
        coefficients: The gates' coefficients, ``[B, G, H]``.
        tangent: Tangent vectors, ``[B, D, K]``.
        diagonal: The diagonal d, ``[B, H]``, with ``H = D``; None for none.
        products: ``W_g Q`` if they are known, ``[B, K, G, H]``; see `Gates.applied_along`.

    Returns:
        ``[B, H, K]``, column-major.
    """
    if isinstance(tangent, Reflectors):
        return tangent.applied_to(mixed_columns(gates, coefficients, diagonal))
    num_gates, size, _ = gates.rows.shape
    if products is not None:
        mixed = _mix_products(products, coefficients)
    elif prefers_dense(num_gates, size, tangent.shape[-1]):
        return mix_dense(gates, coefficients, tangent, diagonal)
    else:
        mixed = mix_matrix_free(gates, coefficients, tangent)
    return mixed if diagonal is None else mixed + diagonal.unsqueeze(-1) * tangent


def mixed_columns(gates: Gates, coefficients: Tensor, diagonal: Tensor | None) -> Tensor:
    """Add up the weighted gate matrices, column by column.

    Args:
        gates: W, G matrices H x D.
        coefficients: ``[B, G, H]``.
        diagonal: To be added, ``[B, H]``, or None.

    Returns:
        Columns of the sums, ``[B, D, H]``, contiguous.
    """
    columns = gates.columns
    mixed = columns[:, 0] * coefficients[:, 0, None]
    for gate in range(1, columns.shape[1]):
        mixed.addcmul_(columns[:, gate], coefficients[:, gate, None])
    if diagonal is not None:
        mixed.diagonal(dim1=-2, dim2=-1).add_(diagonal)
    return mixed


def mix_dense(
    gates: Gates, coefficients: Tensor, tangent: Tensor, diagonal: Tensor | None = None
) -> Tensor:
    """Apply ``sum_g diag(c_g) W_g + diag(d)`` by adding up the matrices first.

    The sum over gates is a batched product over the H rows, ``[B, G] x [G, D]``, which writes the
    ``B`` matrices in a single pass.

    Args:
        gates: W, G matrices H x D.
        coefficients: ``[B, G, H]``.
        tangent: ``[B, D, K]``.
        diagonal: ``[B, H]``, with ``H = D``, or None.

    Returns:
        ``[B, H, K]``, column-major.
    """
    # Contiguous coefficients: without, the batched product is four times slower on CPUs.
    by_rows = coefficients.permute(2, 0, 1).contiguous()
    height = _rows_at_a_time(by_rows, gates.rows.shape[-1])
    blocks = []
    for first in range(0, len(by_rows), height):
        own = slice(first, first + height)
        rows = torch.bmm(by_rows[own], gates.rows[:, own].transpose(0, 1))
        if diagonal is not None:
            rows[..., own].diagonal(dim1=0, dim2=2).add_(diagonal[:, own])
        if tangent.shape[-1] <= FEW:
            blocks.append(torch.bmm(rows.transpose(0, 1), tangent).mT)
        else:
            blocks.append(torch.bmm(tangent.mT, rows.permute(1, 2, 0)))
    return (blocks[0].contiguous() if len(blocks) == 1 else torch.cat(blocks, dim=-1)).mT


def _rows_at_a_time(by_rows: Tensor, width: int) -> int:
    """Choose how many rows of width D to form at a time, from coefficients ``[H, B, G]``."""
    size, batch_size, _ = by_rows.shape
    row = batch_size * width * by_rows.itemsize
    on_cpu = by_rows.device.type == "cpu"
    return max(1, BLOCK // row) if on_cpu and size * row > 2 * BLOCK else size


def mix_matrix_free(gates: Gates, coefficients: Tensor, tangent: Tensor) -> Tensor:
    """Apply ``sum_g diag(c_g) W_g`` without forming any matrix per sequence.

    Args:
        gates: W, G matrices H x D.
        coefficients: ``[B, G, H]``.
        tangent: ``[B, D, K]``.

    Returns:
        ``[B, H, K]``, column-major.
    """
    num_gates, size, inputs = gates.rows.shape
    # One product for all sequences: batched, each of them would read all weights.
    products = gates.applied_to(tangent.mT.reshape(-1, inputs))
    return _mix_products(products.view(len(tangent), -1, num_gates, size), coefficients)


def _mix_products(products: Tensor, coefficients: Tensor) -> Tensor:
    """Return the sum of ``c_g W_g Q``, ``[B, H, K]``, column-major, from ``[B, K, G, H]``."""
    mixed = products[:, :, 0] * coefficients[:, None, 0]
    for gate in range(1, products.shape[2]):
        mixed.addcmul_(products[:, :, gate], coefficients[:, None, gate])
    return mixed.mT
