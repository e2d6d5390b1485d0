"""Which tensors can be measured: dense and real ones that hold numbers."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def check_readable(name: str, tensor: Tensor) -> None:
    """Refuse tensors whose numbers can't be read: nested, sparse, quantized, or without any.

    Args:
        name: The argument's name.
        tensor: A tensor.

    Raises:
        TypeError: If it is nested, or laid out in another way than `torch.strided`.
        ValueError: If it is on the device ``"meta"``.
    """
    if tensor.is_nested:
        raise TypeError(
            f"Expected `{name}` to be a tensor of one shape, but got a nested one. Pad it "
            "(`torch.nested.to_padded_tensor`) and give `lengths`."
        )
    if tensor.layout != torch.strided or tensor.is_quantized:
        got = "a quantized tensor" if tensor.is_quantized else f"the layout {tensor.layout}"
        way = "dequantize" if tensor.is_quantized else "to_dense"
        raise TypeError(
            f"Expected `{name}` to be a dense tensor, but got {got}. Convert it by `.{way}()`."
        )
    if tensor.device.type == "meta":
        raise ValueError(
            f"Expected `{name}` to hold numbers, but got a tensor on the device 'meta', which has "
            "none. Make it on the device of the network."
        )


def check_state_tensors(state: Any) -> None:
    """Check what a user gives as initial state: its tensors, not yet their form and shapes.

    Entries that are not finite are left to the estimate, which leaves out such sequences.

    Args:
        state: A tensor, or a tuple, list or mapping of such; None; or the form of dynamics of the
            user's own, whose tensors can't be looked at.

    Raises:
        TypeError: If a tensor is complex, or none of numbers one after the other.
        ValueError: If a tensor holds no numbers.
    """
    for tensor in _tensors_in(state):
        check_readable("initial_state", tensor)
        if tensor.is_complex():
            raise TypeError(
                f"Expected `initial_state` of real numbers, but got {tensor.dtype}. Stack real "
                "and imaginary part: the tangent space is real."
            )


def _tensors_in(state: Any) -> Iterator[Tensor]:
    """Iterate over the tensors in a state of the usual forms."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, Mapping):
        for part in state.values():
            yield from _tensors_in(part)
    elif isinstance(state, tuple | list):
        for part in state:
            yield from _tensors_in(part)
