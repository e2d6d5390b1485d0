r"""Weighted sums of gate matrices: the one product that every gated tangent map consists of.

Each cell's Jacobian is a sum ``sum_g diag(c_g) W_g`` over its gates, plus diagonal terms; the
coefficients c differ from sequence to sequence, the weights W are shared. Its product with K
tangent vectors can be had in two ways:

* matrix-free: all ``W_g Q`` in one product (``G N^2 K`` multiplications), then weigh and add;
* dense: add the weighted matrices first (a pass over ``N^2`` numbers), then one product
  (``N^2 K``).

Dense saves ``(G - 1) N^2 K`` multiplications and costs the pass, so it wins once ``(G - 1) K``
exceeds the number of multiplications that one pass is worth. On CPUs that number was measured at
about 24 (`benchmarks/tangent_maps.py`; less for N = 128, twice as many for N = 512): for four gates
in one sum (LSTM, hidden state) the switch lies at K = 8, for three (GRU; the cell state of an LSTM)
at 12, and a single gate (vanilla; the output gate of a full LSTM) is never made dense.

A complete basis that is kept as reflectors takes the dense way always: they act on the matrix.
"""

import torch
from torch import Tensor

from lightning_lyap.reflectors import Basis, Reflectors

MULTIPLICATIONS_PER_PASS = 24


def prefers_dense(num_gates: int, num_vectors: int) -> bool:
    """Tell whether adding up the gate matrices first is the cheaper way.

    Args:
        num_gates: G.
        num_vectors: K.

    Returns:
        True where the dense way is the cheaper one.

    Example:
        >>> prefers_dense(4, 7), prefers_dense(4, 8), prefers_dense(1, 512)
        (False, True, False)
    """
    return (num_gates - 1) * num_vectors >= MULTIPLICATIONS_PER_PASS


def mix_gates(
    weight: Tensor, coefficients: Tensor, tangent: Basis, diagonal: Tensor | None = None
) -> Tensor:
    """Apply ``sum_g diag(c_g) W_g + diag(d)`` to tangent vectors, the cheapest way.

    Args:
        weight: The gates' matrices, ``[G, H, D]``.
        coefficients: The gates' coefficients, ``[B, G, H]``.
        tangent: Tangent vectors, ``[B, D, K]``.
        diagonal: The diagonal d, ``[B, H]``, with ``H = D``; None for none.

    Returns:
        ``[B, H, K]``, column-major.
    """
    if isinstance(tangent, Reflectors):
        return tangent.applied_to(mixed_columns(weight, coefficients, diagonal))
    if prefers_dense(weight.shape[0], tangent.shape[-1]):
        return mix_dense(weight, coefficients, tangent, diagonal)
    mixed = mix_matrix_free(weight, coefficients, tangent)
    return mixed if diagonal is None else mixed + diagonal.unsqueeze(-1) * tangent


def mixed_columns(weight: Tensor, coefficients: Tensor, diagonal: Tensor | None) -> Tensor:
    """Add up the weighted gate matrices, column by column.

    Args:
        weight: ``[G, H, D]``.
        coefficients: ``[B, G, H]``.
        diagonal: To be added, ``[B, H]``, or None.

    Returns:
        Columns of the sums, ``[B, D, H]``, contiguous.
    """
    columns = weight.mT.contiguous()
    mixed = columns[0] * coefficients[:, 0, None]
    for gate in range(1, len(columns)):
        mixed.addcmul_(columns[gate], coefficients[:, gate, None])
    if diagonal is not None:
        mixed.diagonal(dim1=-2, dim2=-1).add_(diagonal)
    return mixed


def mix_dense(
    weight: Tensor, coefficients: Tensor, tangent: Tensor, diagonal: Tensor | None = None
) -> Tensor:
    """Apply ``sum_g diag(c_g) W_g + diag(d)`` by adding up the matrices first.

    The sum over gates is a batched product over the H rows, ``[B, G] x [G, D]``, which writes the
    ``B`` matrices in a single pass.

    Args:
        weight: ``[G, H, D]``.
        coefficients: ``[B, G, H]``.
        tangent: ``[B, D, K]``.
        diagonal: ``[B, H]``, with ``H = D``, or None.

    Returns:
        ``[B, H, K]``, column-major.
    """
    # Contiguous coefficients: without, the batched product is four times slower on CPUs.
    rows = torch.bmm(coefficients.permute(2, 0, 1).contiguous(), weight.transpose(0, 1))
    if diagonal is not None:
        rows.diagonal(dim1=0, dim2=2).add_(diagonal)
    return torch.bmm(tangent.mT, rows.permute(1, 2, 0)).mT


def mix_matrix_free(weight: Tensor, coefficients: Tensor, tangent: Tensor) -> Tensor:
    """Apply ``sum_g diag(c_g) W_g`` without forming any matrix per sequence.

    Args:
        weight: ``[G, H, D]``.
        coefficients: ``[B, G, H]``.
        tangent: ``[B, D, K]``.

    Returns:
        ``[B, H, K]``, column-major.
    """
    num_gates, size, inputs = weight.shape
    # One product for all sequences: batched, each of them would read all weights.
    products = tangent.mT.reshape(-1, inputs) @ weight.flatten(0, 1).mT
    products = products.view(len(tangent), -1, num_gates, size)
    mixed = products[:, :, 0] * coefficients[:, None, 0]
    for gate in range(1, num_gates):
        mixed.addcmul_(products[:, :, gate], coefficients[:, None, gate])
    return mixed.mT
