"""The textbook loop, one sequence at a time: dense Jacobians by reverse mode, torch's own QR."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.functional import jacobian

from lightning_lyap import SpectrumEstimate


def dense_spectrum(
    step: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, start: Tensor, basis: Tensor
) -> Tensor:
    """Return the exponents along one sequence, in the order of the basis vectors.

    Args:
        step: ``step(x_t, state) -> state`` on ``[I]`` and ``[N]``.
        inputs: ``[T, I]``.
        start: ``[N]``.
        basis: ``[N, K]``.

    Returns:
        ``[K]``, nats per step.
    """
    state, total = start, torch.zeros(basis.shape[1], dtype=torch.float64)
    for x in inputs:
        dense: Any = jacobian(lambda s, x=x: step(x, s), state)
        basis, r = torch.linalg.qr(dense @ basis)
        total += r.diagonal().abs().log()
        state = step(x, state).detach()
    return total / len(inputs)


def by_column(estimate: SpectrumEstimate) -> Tensor:
    """Return each sequence's exponents in the order of the basis vectors, ``[B, K]``."""
    return estimate.per_sequence[:, estimate.order.argsort()]
