"""Finds tangent maps that are computed in lower precision than that of the state."""

import torch
from torch import Tensor

from lightning_lyap.certificate.along_the_run import RESIDUALS
from lightning_lyap.certificate.result import Check
from lightning_lyap.dynamics import AutodiffDynamics
from lightning_lyap.dynamics.base import DynamicalSystem, State, UserDynamics

# Weights of two directions, of many digits in whatever type.
WEIGHTS = 0.7310585786300049, 1.3678794411714423
HINT = (
    "the step computes in another precision than that of its state: `.float()`, autocast, a table "
    "of few digits; the trailing exponents are its rounding noise"
)


def precision_check(system: DynamicalSystem, drive: Tensor, state: State) -> Check | None:
    """Compare the tangent map of a sum with the sum of the maps: it is linear to its last digit.

    Rounding errors are of the precision at work, whatever type the result has: 1e-7 relative to the
    result in float32 inside of float64, 4e-3 in bfloat16.

    Args:
        system: The dynamics.
        drive: One step, ``[B, ...]``.
        state: That before it.

    Returns:
        The check of the worst sequence whose tangents are finite; None if there is none, or for
        dynamics of this package, whose precision is known.
    """
    if not isinstance(system, AutodiffDynamics | UserDynamics) or system.dtype not in RESIDUALS:
        return None
    shape = (2, system.tangent_size, 1)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    v, w = (part.to(system.device, system.dtype).expand(len(drive), -1, -1) for part in drawn)
    a, b = WEIGHTS
    push = system.step(drive, state)[1]
    vectors = a * v + b * w, v, w
    if isinstance(system, AutodiffDynamics):  # in one call: a step may keep count of its calls
        of_sum, of_v, of_w = push(torch.cat(vectors, dim=-1)).double().unbind(-1)
    else:
        of_sum, of_v, of_w = (push(vector).double().flatten(1) for vector in vectors)
    # Denormal numbers have no digits to speak of.
    info = torch.finfo(system.dtype)
    scale = (a * of_v.norm(dim=-1) + b * of_w.norm(dim=-1)).clamp(min=info.tiny / info.eps)
    residuals = (of_sum - a * of_v - b * of_w).norm(dim=-1) / scale
    known = residuals[residuals.isfinite()]
    if not known.numel():
        return None
    return Check(known.max().item(), RESIDUALS[system.dtype], HINT)
