"""What a saved history must hold, and what stands for what earlier versions did not save."""

import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_lyap.estimator.result import NUMBERS, VECTORS
from lightning_lyap.statistics.measures import OF_THE_WHOLE

# The tensors of every measurement.
WHOLE = (*VECTORS, "statistic_errors")
FAILURE = {"epoch", "step", "message"}
# The tensors of a saved history: a dtype of the same kind, and E measurements of K exponents
# and of S statistics with a pair of errors.
SAVED = {
    "epochs": (torch.float64, "E"),
    "seconds": (torch.float64, "E"),
    "steps": (torch.int64, "E"),
    "num_sequences": (torch.int64, "E"),
    **dict.fromkeys(NUMBERS, (torch.float64, "E")),
    **dict.fromkeys(VECTORS, (torch.float64, "EK")),
    "resolved": (torch.bool, "EK"),
    "settled": (torch.bool, "EK"),
    "layer": (torch.int64, "EK"),
    "statistic_errors": (torch.float64, "ESP"),
}


# What files of earlier versions lack, all of it, and what stands for it: not known to have settled,
# not known how many.
LATER = {"settled": False, **dict.fromkeys((*NUMBERS, "statistic_errors"), math.nan)}


def no_errors() -> Tensor:
    """Return what stands for errors of statistics that are not known, NaN.

    Returns:
        ``[S, 2]``, float64.
    """
    return torch.full((len(OF_THE_WHOLE), 2), math.nan, dtype=torch.float64)


def saved_tensors(state: Any) -> dict[str, Tensor]:
    """Return the tensors of a saved history, all of them of the same measurements.

    Args:
        state: What `SpectrumHistory.state_dict` returned, if it is that.

    Returns:
        Tensors by name; for what earlier versions did not save, what stands for it.

    Raises:
        ValueError: If something is missing or does not fit together.
    """
    if not isinstance(state, Mapping):
        raise ValueError(f"Expected a saved history, but got a {type(state).__name__}.")
    saved: dict[str, Tensor] = {}
    sizes = {"S": len(OF_THE_WHOLE), "P": 2}
    older = not LATER.keys() & state.keys()
    for name, (dtype, dimensions) in SAVED.items():
        # An empty history saves no exponents.
        if dimensions != "E" and not sizes["E"]:
            continue
        if name == "layer" and name not in state:
            continue
        if older and name in LATER:
            saved[name] = torch.full([sizes[each] for each in dimensions], LATER[name], dtype=dtype)
            continue
        value = state.get(name)
        if not isinstance(value, Tensor):
            raise ValueError(f"Expected a tensor `{name}` in a saved history, but got {value!r}.")
        sizes = dict(zip(dimensions, value.shape, strict=False)) | sizes
        shape = [sizes.get(each, 0) for each in dimensions]
        same_kind = torch.can_cast(value.dtype, dtype) and torch.can_cast(dtype, value.dtype)
        if list(value.shape) != shape or not same_kind:
            raise ValueError(
                f"Expected numbers `{name}` like {dtype} of the shape {shape} in a saved history, "
                f"but got {value.dtype} of {list(value.shape)}."
            )
        saved[name] = value
    if not bool(saved["epochs"].isfinite().all()):
        raise ValueError("Expected finite `epochs` in a saved history, but got others.")
    return saved


def saved_size(state: Mapping[str, Any], num_exponents: int) -> int:
    """Return N of a saved history, an int in a checkpoint and a tensor in a file.

    Args:
        state: What `SpectrumHistory.state_dict` returned.
        num_exponents: K, which is no larger.

    Returns:
        N.

    Raises:
        ValueError: If it is missing or too small.
    """
    size, least = state.get("tangent_size"), max(num_exponents, 1)
    size = size.item() if isinstance(size, Tensor) and size.ndim == 0 else size
    if type(size) is not int or size < least:
        raise ValueError(
            f"Expected a whole number `tangent_size` of at least {least} in a saved history, but "
            f"got {size!r}."
        )
    return size


def saved_json(state: Mapping[str, Any], name: str, kind: type) -> Any:
    """Return what the JSON of the settings or the failures stands for.

    Args:
        state: What `SpectrumHistory.state_dict` returned.
        name: ``"settings"`` or ``"failures"``.
        kind: Type that it must have.

    Returns:
        A dict or a list of dicts.

    Raises:
        ValueError: If it is missing or something else.
    """
    try:
        value = json.loads(state[name])
    except (KeyError, TypeError, ValueError):
        value = None
    parts = value if isinstance(value, list) else []
    named = all(isinstance(part, dict) and part.keys() >= FAILURE for part in parts)
    if not isinstance(value, kind) or not named:
        raise ValueError(
            f"Expected the `{name}` of a saved history as JSON of a {kind.__name__}, but got "
            f"{state.get(name)!r}."
        )
    return value
