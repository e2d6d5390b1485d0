"""What a module itself returned on some sequences, to be compared with the dynamics."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Of numbers in TF32, which multiplications on CUDA round to where that is allowed.
TF32_EPS = 2.0**-10


@dataclass(frozen=True, eq=False)
class Returned:
    """What a module returned in a forward pass of its own, row by row that of the sequences.

    NaN stands for what is not known: outputs after the end of a sequence, states where the pass
    went on beyond the steps recorded.

    Attributes:
        outputs: After each step, ``[B, T, P]``; None if there are none.
        steps: What a cell returned at each step, in its own form, tensors ``[B, T, ...]``; None for
            modules that take whole sequences.
        final: After the last step: the state of torch's modules, ``[L, B, H]`` or a pair of such;
            of others all they returned, in its form, tensors ``[B, ...]``. None if there is none.
        outputs_are_states: Whether the last outputs are the state told last; None where that is not
            known.
        eps: Machine epsilon of the type that the pass computed in.
        hint: What a difference may come from, and the remedy.
        fault: Why nothing fits together, if that is seen by the shapes alone; else empty.
    """

    outputs: Tensor | None = None
    steps: Any = None
    final: Any = None
    outputs_are_states: bool | None = None
    eps: float = 0.0
    hint: str = ""
    fault: str = ""


def returned_by_torch(outputs: Tensor, state: Any, eps: float) -> Returned:
    """Read what a forward pass of torch's modules returned.

    Args:
        outputs: ``[B, T, P]``.
        state: ``h_n`` or ``(h_n, c_n)``, ``[L, B, H]`` each, after the last of the T steps.
        eps: Machine epsilon of the pass.

    Returns:
        The same.
    """
    hidden = state if isinstance(state, Tensor) else state[0]
    same = agree(outputs[:, -1], hidden[-1])
    return Returned(outputs=outputs, final=state, outputs_are_states=same, eps=eps)


def agree(outputs: Tensor, state: Tensor) -> bool:
    """Return whether outputs are states, ``[..., N]`` both, to the last digits of their types."""
    if outputs.shape != state.shape:
        return False
    few = 8 * max(torch.finfo(part.dtype).eps for part in (outputs, state))
    return torch.allclose(outputs.double(), state.double(), rtol=few, atol=few, equal_nan=True)


def working_eps(tensor: Tensor) -> float:
    """Return the machine epsilon that a forward pass computes with here and now.

    Args:
        tensor: What it returned.

    Returns:
        That of the tensor's type, or of autocast or TF32 where they are on.

    Example:
        >>> working_eps(torch.ones(1, dtype=torch.float64)) == 2.0**-52
        True
    """
    device, dtype = tensor.device.type, tensor.dtype
    eps = torch.finfo(dtype if dtype.is_floating_point else torch.float32).eps
    if torch.is_autocast_enabled(device):
        eps = max(eps, torch.finfo(torch.get_autocast_dtype(device)).eps)
    tf32 = torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
    return max(eps, TF32_EPS) if device == "cuda" and dtype == torch.float32 and tf32 else eps
