"""Checks of settings and tensors, before any work starts.

Checks of a setting take its name and its value and return the value as what it stands for; they
raise a TypeError for a value of another kind, and a ValueError for one out of range.
"""

from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from operator import index
from typing import Any, NamedTuple

import torch
from torch import Tensor

MOST_SEED = 2**64  # of torch's generators


class CheckedSettings(NamedTuple):
    """The estimator's settings that do not depend on its inputs, as plain numbers.

    See `lyapunov_spectrum` for their meanings and `check_settings` for their ranges.
    """

    num_exponents: int | None
    warmup_steps: Any
    orthonormalize_every: Any
    seed: int


def check_count(name: str, value: Any, minimum: int) -> int:
    """Check that a setting is a whole number of at least some size.

    Ints and what stands for one, such as NumPy's integers and integer tensors of one element, but
    no bools.

    Example:
        >>> check_count("num_exponents", 3, 1)
        3
    """
    number = _as_int(value)
    if number is None:
        raise TypeError(f"Expected `{name}` to be an int, but got {value!r}.")
    if number < minimum:
        raise ValueError(f"Expected `{name}` to be at least {minimum}, but got {value}.")
    return number


def _as_int(value: Any) -> int | None:
    """Return the int a value stands for; None if it is no whole number, or a bool of any make."""
    if isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool"):
        return None
    try:
        return index(value)
    except (TypeError, ValueError, RuntimeError):  # the last two from tensors without values
        return None


def check_count_or_auto(name: str, value: Any, minimum: int) -> Any:
    """Check that a setting is a whole number of at least some size, or ``"auto"``."""
    if isinstance(value, str) and value == "auto":
        return "auto"
    if isinstance(value, str) or _as_int(value) is None:
        kind = ValueError if isinstance(value, str) else TypeError
        raise kind(f"Expected `{name}` to be an int or 'auto', but got {value!r}.")
    return check_count(name, value, minimum)


def check_settings(
    num_exponents: Any, warmup_steps: Any, orthonormalize_every: Any, seed: Any = 0
) -> CheckedSettings:
    """Check the estimator's settings that do not depend on its inputs.

    At least 1 exponent or None, 0 steps of warm-up or ``"auto"``, 1 step between factorizations or
    ``"auto"``, and a seed from 0 to 2**64 - 1.
    """
    checked = CheckedSettings(
        None if num_exponents is None else check_count("num_exponents", num_exponents, 1),
        check_count_or_auto("warmup_steps", warmup_steps, 0),
        check_count_or_auto("orthonormalize_every", orthonormalize_every, 1),
        check_count("seed", seed, 0),
    )
    if checked.seed >= MOST_SEED:
        raise ValueError(f"Expected `seed` to be less than 2**64, but got {checked.seed}.")
    return checked


def check_flag(name: str, value: Any) -> bool:
    """Check that a setting is True or False, and no word that only looks like one."""
    if not isinstance(value, bool):
        raise TypeError(f"Expected `{name}` to be True or False, but got {value!r}.")
    return value


def check_function(name: str, value: Any) -> None:
    """Check that a setting can be called, or is None."""
    if value is not None and not callable(value):
        raise TypeError(f"Expected `{name}` to be a function or None, but got {value!r}.")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Check that a setting is one of some words."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"Expected `{name}` to be one of {tuple(choices)}, but got {value!r}.")
    return value


def check_name(name: str, value: Any) -> str:
    """Check that a setting names a folder, which does not lead out of another, and a logged key."""
    if not isinstance(value, str):
        raise TypeError(f"Expected `{name}` to be a word, but got {value!r}.")
    parts = value.split("/")
    if any(part.strip() in ("", ".", "..") for part in parts):
        raise ValueError(
            f"Expected `{name}` to name a folder inside the log folder, but got {value!r}."
        )
    return value


def check_range(
    name: str, value: Any, low: float, high: float = float("inf"), *, open_low: bool = False
) -> float:
    """Check that a setting is a number in ``[low, high)``, or ``(low, high)`` with ``open_low``."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"Expected `{name}` to be a number, but got {value!r}.")
    number = float(value)
    if not (low < number < high or (number == low and not open_low)):
        bracket = "(" if open_low else "["
        raise ValueError(f"Expected `{name}` in {bracket}{low:g}, {high:g}), but got {value!r}.")
    return number


def check_readable(name: str, tensor: Tensor) -> None:
    """Refuse tensors whose numbers can't be read.

    TypeError for nested, quantized and sparse ones, ValueError for those on the device ``"meta"``.
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

    A tensor, or a tuple, list or mapping of such; None; or the form of dynamics of the user's own,
    whose tensors can't be looked at. TypeError for complex tensors and those `check_readable`
    refuses. Entries that are not finite are left to the estimate, which leaves out such sequences.
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
