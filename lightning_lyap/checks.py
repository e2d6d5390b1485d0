"""Checks of what the estimator is given, before any work starts."""

from typing import Any

import torch
from torch import Tensor, nn

from lightning_lyap.dynamics.base import Dynamics


def check_count(name: str, value: Any, minimum: int) -> None:
    """Check that a setting is a whole number of at least some size.

    Args:
        name: The setting's name.
        value: Its value.
        minimum: The smallest value allowed.

    Raises:
        TypeError: If it is no int.
        ValueError: If it is too small.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"Expected `{name}` to be an int, but got {value!r}.")
    if value < minimum:
        raise ValueError(f"Expected `{name}` to be at least {minimum}, but got {value}.")


def check_settings(
    num_exponents: int | None, warmup_steps: int, orthonormalize_every: Any, seed: int = 0
) -> None:
    """Check the estimator's settings that do not depend on its inputs.

    Args:
        num_exponents: K, at least 1, or None.
        warmup_steps: At least 0.
        orthonormalize_every: At least 1, or ``"auto"``.
        seed: At least 0.

    Raises:
        TypeError: If one is no int.
        ValueError: If one is out of range.
    """
    if num_exponents is not None:
        check_count("num_exponents", num_exponents, 1)
    check_count("warmup_steps", warmup_steps, 0)
    if orthonormalize_every != "auto":
        if isinstance(orthonormalize_every, bool) or not isinstance(orthonormalize_every, int):
            kind = ValueError if isinstance(orthonormalize_every, str) else TypeError
            raise kind(
                "Expected `orthonormalize_every` to be an int or 'auto', "
                f"but got {orthonormalize_every!r}."
            )
        check_count("orthonormalize_every", orthonormalize_every, 1)
    check_count("seed", seed, 0)


def check_inputs(
    system: Dynamics,
    dynamics: Any,
    inputs: Tensor,
    lengths: Tensor | list[int] | None,
    warmup_steps: int,
    dtype: torch.dtype | None,
) -> Tensor:
    """Check the driving sequences and their lengths.

    Args:
        system: The dynamics.
        dynamics: What the user gave as dynamics.
        inputs: ``[B, T, I]``.
        lengths: ``[B]`` or None.
        warmup_steps: Steps that are not counted.
        dtype: The type asked for, or None.

    Returns:
        The lengths, ``[B]``, int64, on the CPU.

    Raises:
        TypeError: If the inputs are no floating-point tensor.
        ValueError: If a shape or range is wrong, or an input is not finite.
    """
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        got = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
        raise TypeError(
            f"Expected `inputs` to be a floating-point tensor [B, T, I], but got {got}. Embed or "
            "one-hot encode tokens as the network does."
        )
    if inputs.ndim != 3 or inputs.shape[0] == 0:
        raise ValueError(
            "Expected `inputs` of shape [B, T, I] (sequences, steps, features; batch first) with "
            f"at least one sequence, but got {tuple(inputs.shape)}. A single sequence [T, I] takes "
            "`inputs.unsqueeze(0)`."
        )
    sized = isinstance(dynamics, nn.RNNBase | nn.RNNCellBase)
    if sized and inputs.shape[2] != dynamics.input_size:
        raise ValueError(
            f"Expected `inputs` with {dynamics.input_size} features, the module's input_size, "
            f"but got {tuple(inputs.shape)}."
        )
    if dtype is not None and system.dtype != dtype:
        raise ValueError(
            f"Expected `dtype` to agree with the dynamics' own {system.dtype}, but got {dtype}."
        )
    ends = _check_lengths(inputs, lengths, warmup_steps)
    steps = torch.arange(inputs.shape[1], device=inputs.device)
    read = steps < ends.to(inputs.device).unsqueeze(1)
    if not bool((inputs.isfinite().all(-1) | ~read).all()):
        raise ValueError("Expected finite `inputs`, but got NaN or infinite values.")
    return ends


def _check_lengths(inputs: Tensor, lengths: Tensor | list[int] | None, warmup_steps: int) -> Tensor:
    """Check the lengths of the sequences.

    Args:
        inputs: ``[B, T, I]``.
        lengths: ``[B]`` or None.
        warmup_steps: Steps that are not counted.

    Returns:
        ``[B]``, int64, on the CPU.

    Raises:
        TypeError: If the lengths are no whole numbers.
        ValueError: If there is not one per sequence or one is out of range.
    """
    batch_size, num_steps = inputs.shape[:2]
    try:
        given = [num_steps] * batch_size if lengths is None else lengths
        ends = torch.as_tensor(given, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"Expected `lengths` to be whole numbers, but got {lengths!r}.") from error
    if ends.is_floating_point() or ends.is_complex() or ends.dtype == torch.bool:
        raise TypeError(f"Expected `lengths` to be whole numbers, but got {ends.dtype}.")
    ends = ends.long()
    if tuple(ends.shape) != (batch_size,):
        raise ValueError(
            f"Expected `lengths` of shape [{batch_size}], one per sequence, "
            f"but got {tuple(ends.shape)}."
        )
    if int(ends.min()) <= warmup_steps or int(ends.max()) > num_steps:
        raise ValueError(
            f"Expected every sequence to have more than the {warmup_steps} steps of "
            f"`warmup_steps` and at most the {num_steps} steps of `inputs`, but got lengths from "
            f"{int(ends.min())} to {int(ends.max())}. Use longer sequences or a shorter warm-up."
        )
    return ends


def check_basis(
    basis: Tensor, batch_size: int, block_size: int, num_vectors: int | None, num_blocks: int = 1
) -> Tensor:
    """Check a given basis.

    Args:
        basis: ``[B, N, K]``: the bases of the blocks, ``[B, N / blocks, K]``, on top of each other.
        batch_size: B.
        block_size: N / blocks.
        num_vectors: K, or None to take it from the basis.
        num_blocks: Blocks that the tangent map does not mix.

    Returns:
        The basis.

    Raises:
        TypeError: If it is no tensor.
        ValueError: If its shape is wrong or its columns are not orthonormal.
    """
    if not isinstance(basis, Tensor):
        raise TypeError(f"Expected `initial_basis` to be a tensor, but got {type(basis).__name__}.")
    shape, tangent_size = tuple(basis.shape), block_size * num_blocks
    count = num_vectors or (shape[-1] if shape else 0)
    if shape != (batch_size, tangent_size, count) or not 1 <= count <= block_size:
        raise ValueError(
            f"Expected `initial_basis` of shape ({batch_size}, {tangent_size}, "
            f"{num_vectors or 'K'}) with 1 <= K <= {block_size}, but got {shape}."
        )
    blocks = basis.double().unflatten(1, (num_blocks, block_size))
    gram = blocks.mT @ blocks
    if not torch.allclose(gram, torch.eye(count, dtype=gram.dtype, device=gram.device), atol=1e-3):
        raise ValueError(
            "Expected `initial_basis` with orthonormal columns, but they are not. Pass the "
            "`final_basis` of an estimate, or the Q of `torch.linalg.qr`."
        )
    return basis


def check_range(
    name: str, value: Any, low: float, high: float = float("inf"), *, open_low: bool = False
) -> None:
    """Check that a setting is a number in ``[low, high)``, or ``(low, high)``.

    Args:
        name: The setting's name.
        value: Its value.
        low: Lower end.
        high: Upper end, excluded.
        open_low: Whether the lower end is excluded, too.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"Expected `{name}` to be a number, but got {value!r}.")
    if not (low < value < high or (value == low and not open_low)):
        bracket = "(" if open_low else "["
        raise ValueError(f"Expected `{name}` in {bracket}{low:g}, {high:g}), but got {value!r}.")
