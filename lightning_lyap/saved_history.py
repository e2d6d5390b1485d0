"""What a history that was saved must hold: checked before anything of it is taken over."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor


class SavedTexts(NamedTuple):
    """What a saved history holds as text.

    Attributes:
        settings: How the spectra were measured.
        failures: Epoch, step and message of each.
    """

    settings: dict[str, Any]
    failures: list[dict[str, Any]]


def check_saved(state: Any, rows: Iterable[str]) -> SavedTexts:
    """Check that everything is there, of its type, and for the same measurements.

    Args:
        state: What `SpectrumHistory.state_dict` returned, E measurements of K exponents.
        rows: Names of what is ``[E, K]`` in it.

    Returns:
        What it holds as text.

    Raises:
        ValueError: If something is missing or does not fit.
    """
    if not isinstance(state, Mapping):
        raise ValueError(f"Expected a saved history, but got a {type(state).__name__}.")
    epochs = _tensor(state, "epochs", (None,), floating=True)
    count = epochs.shape[0]
    if not bool(epochs.isfinite().all()):
        raise ValueError("Expected finite `epochs` in a saved history, but got others.")
    _tensor(state, "seconds", (count,), floating=True)
    for name in ("steps", "num_sequences"):
        _tensor(state, name, (count,), floating=False)
    if count:
        _check_rows(state, count, rows)
    settings, failures = _parsed(state, "settings", dict), _parsed(state, "failures", list)
    for failure in failures:
        if not isinstance(failure, dict) or not {"epoch", "step", "message"} <= failure.keys():
            raise ValueError(
                "Expected epoch, step and message of each failure in a saved history, but got "
                f"{failure!r}."
            )
    return SavedTexts(settings, failures)


def _check_rows(state: Mapping[str, Any], count: int, rows: Iterable[str]) -> None:
    """Check what there is of every exponent.

    Args:
        state: See `check_saved`.
        count: E, at least 1.
        rows: Names.

    Raises:
        ValueError: If something is missing or does not fit.
    """
    size = _tensor(state, "exponents", (count, None), floating=True).shape[1]
    for name in rows:
        if name == "resolved":
            resolved = _tensor(state, name, (count, size))
            if resolved.dtype != torch.bool:
                raise ValueError(
                    f"Expected `resolved` of bools in a saved history, but got {resolved.dtype}."
                )
        else:
            _tensor(state, name, (count, size), floating=True)
    if "layer" in state:
        _tensor(state, "layer", (count, size), floating=False)
    whole = state.get("tangent_size")
    if isinstance(whole, Tensor) and whole.shape == () and _is_floating(whole) is False:
        whole = int(whole)
    if not isinstance(whole, int) or isinstance(whole, bool) or whole < max(size, 1):
        raise ValueError(
            f"Expected a whole number `tangent_size` of at least {max(size, 1)} in a saved "
            f"history, but got {whole!r}."
        )


def _tensor(
    state: Mapping[str, Any],
    name: str,
    shape: tuple[int | None, ...],
    floating: bool | None = None,
) -> Tensor:
    """Take a tensor and check its shape and type.

    Args:
        state: See `check_saved`.
        name: Its name.
        shape: None where any number will do.
        floating: Whether it holds floating-point or whole numbers; None does not look.

    Returns:
        The tensor.

    Raises:
        ValueError: If it is missing or does not fit.
    """
    tensor = state.get(name)
    if not isinstance(tensor, Tensor):
        got = "nothing" if tensor is None else f"a {type(tensor).__name__}"
        raise ValueError(f"Expected a tensor `{name}` in a saved history, but got {got}.")
    fits = tensor.ndim == len(shape) and all(
        want is None or want == have for want, have in zip(shape, tensor.shape, strict=True)
    )
    if not fits or (floating is not None and _is_floating(tensor) is not floating):
        kind = {True: "floating-point ", False: "whole ", None: ""}[floating]
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise ValueError(
            f"Expected {kind}numbers `{name}` of the shape [{wanted}] in a saved history, but got "
            f"{tensor.dtype} of {list(tensor.shape)}."
        )
    return tensor


def _is_floating(tensor: Tensor) -> bool | None:
    """Tell whether a tensor holds floating-point numbers, whole ones, or (None) something else."""
    if tensor.is_floating_point():
        return True
    return None if tensor.is_complex() or tensor.dtype == torch.bool else False


def _parsed(state: Mapping[str, Any], name: str, kind: type) -> Any:
    """Parse a text.

    Args:
        state: See `check_saved`.
        name: Its name.
        kind: What it must stand for.

    Returns:
        What it stands for.

    Raises:
        ValueError: If it is missing or stands for something else.
    """
    text = state.get(name)
    try:
        value = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        value = None
    if not isinstance(value, kind):
        raise ValueError(
            f"Expected `{name}` in a saved history to be the JSON of a {kind.__name__}, but got "
            f"{text!r}."
        )
    return value
