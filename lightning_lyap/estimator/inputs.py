"""Checks of the tensors the estimator is given, before any work starts."""

from math import nan
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_lyap._checks import check_count, check_readable
from lightning_lyap.dynamics.base import DynamicalSystem, State

FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Sequences(NamedTuple):
    """Which of the driving sequences can be measured.

    Attributes:
        ends: Length of each sequence, ``[B]``, int64; that of the longest for those left out, which
            run along with the others and never end a block.
        not_finite: Which have inputs that are not finite, ``[B]``, bool.
        too_short: Which have no step beyond the warm-up, ``[B]``, bool. All on the CPU.
    """

    ends: Tensor
    not_finite: Tensor
    too_short: Tensor

    @property
    def left_out(self) -> Tensor:
        """Which are left out of the spectrum, ``[B]``, bool."""
        return self.not_finite | self.too_short

    def prepared(self, inputs: Tensor, state: State, basis: Tensor) -> tuple[Tensor, State, Tensor]:
        """Let those that are left out be lost from the start: inputs of zero, states of NaN.

        Args:
            inputs: ``[B, T, I]``.
            state: Tensors ``[B, ...]``.
            basis: ``[B, N, K]``.

        Returns:
            The same, where none is left out.
        """
        if not bool(self.left_out.any()):
            return inputs, state, basis

        def filled(tensor: Tensor, value: float) -> Tensor:
            rows = self.left_out.to(tensor.device).view(-1, *[1] * (tensor.ndim - 1))
            return tensor.masked_fill(rows, value)

        lost = tuple(filled(part, nan) if part.is_floating_point() else part for part in state)
        return filled(inputs, 0.0), lost, filled(basis, nan)

    @property
    def reasons(self) -> str:
        """Why sequences are left out, and how many; empty if none is."""
        short = self.too_short & ~self.not_finite
        parts = {
            "with inputs that are not finite": self.not_finite,
            "no longer than the warm-up": short,
        }
        return ", ".join(f"{int(rows.sum())} {why}" for why, rows in parts.items() if rows.any())


def check_weights(dynamics: Any) -> None:
    """Refuse modules whose weights hold no numbers yet.

    Args:
        dynamics: What the user gave as dynamics.

    Raises:
        TypeError: If a weight is laid out in another way than `torch.strided`.
        ValueError: If a weight is on the device ``"meta"``, or not initialized.
    """
    if not isinstance(dynamics, nn.Module):
        return
    for name, parameter in dynamics.named_parameters():
        if isinstance(parameter, nn.UninitializedParameter):
            raise ValueError(
                f"Expected `dynamics` with weights, but got {name!r} that is not initialized. Call "
                "the lazy module once on a batch."
            )
        check_readable(f"dynamics.{name}", parameter)


def check_inputs(
    system: DynamicalSystem,
    dynamics: Any,
    inputs: Any,
    lengths: Any,
    warmup_steps: int,
    dtype: torch.dtype | None,
) -> Sequences:
    """Check the driving sequences and their lengths.

    Args:
        system: The dynamics.
        dynamics: What the user gave as dynamics.
        inputs: ``[B, T, I]``.
        lengths: ``[B]`` or None.
        warmup_steps: Steps that are not counted.
        dtype: The type asked for, or None.

    Returns:
        The lengths, and which sequences are left out: their inputs are not finite, or they are no
        longer than the warm-up.

    Raises:
        TypeError: If the inputs are no dense floating-point tensor.
        ValueError: If a shape or range is wrong, or no sequence is left.
    """
    if not isinstance(inputs, Tensor) or inputs.dtype not in FLOATING:
        got = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
        raise TypeError(
            f"Expected `inputs` to be a floating-point tensor [B, T, I], but got {got}. Embed or "
            "one-hot encode tokens as the network does; `torch.as_tensor` takes arrays and lists."
        )
    check_readable("inputs", inputs)
    _check_shape(dynamics, inputs)
    if dtype is not None and system.dtype != dtype:
        raise ValueError(
            f"Expected `dtype` to agree with the dynamics' own {system.dtype}, but got {dtype}."
        )
    ends = _check_lengths(inputs, lengths, warmup_steps)
    steps = torch.arange(inputs.shape[1], device=inputs.device)
    read = steps < ends.to(inputs.device).unsqueeze(1)
    not_finite = (~inputs.isfinite().all(-1) & read).any(1).cpu()
    too_short = ends <= warmup_steps
    found = Sequences(ends, not_finite, too_short)
    if bool(found.left_out.all()):
        raise ValueError(
            "Expected finite `inputs`, but got NaN or infinite values in every sequence. Fill or "
            "leave out what is missing; padding beyond `lengths` is never read."
        )
    return found._replace(ends=ends.masked_fill(found.left_out, int(ends[~found.left_out].max())))


def _check_shape(dynamics: Any, inputs: Tensor) -> None:
    """Check the shape ``[B, T, I]`` of the driving sequences."""
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


def _check_lengths(inputs: Tensor, lengths: Any, warmup_steps: int) -> Tensor:
    """Return the checked lengths of sequences ``[B, T, I]``: ``[B]``, int64, on the CPU."""
    batch_size, num_steps = inputs.shape[:2]
    try:
        given = [num_steps] * batch_size if lengths is None else lengths
        ends = torch.as_tensor(given, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"Expected `lengths` to be whole numbers, but got {lengths!r}.") from error
    check_readable("lengths", ends)
    if ends.is_floating_point() or ends.is_complex() or ends.dtype == torch.bool:
        raise TypeError(f"Expected `lengths` to be whole numbers, but got {ends.dtype}.")
    ends = ends.long()
    if tuple(ends.shape) != (batch_size,):
        raise ValueError(
            f"Expected `lengths` of shape [{batch_size}], one per sequence, "
            f"but got {tuple(ends.shape)}."
        )
    lowest, highest = int(ends.min()), int(ends.max())
    if highest <= warmup_steps or highest > num_steps or lowest < 1:
        raise ValueError(
            f"Expected sequences with more than the {warmup_steps} steps of "
            f"`warmup_steps` and at most the {num_steps} steps of `inputs`, but got lengths from "
            f"{lowest} to {highest}. Use longer sequences or a shorter warm-up."
        )
    return ends


def check_basis(
    basis: Any, batch_size: int, block_size: int, num_vectors: int | None, num_blocks: int = 1
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
        TypeError: If it is no dense tensor of real numbers.
        ValueError: If its shape is wrong or its columns are not orthonormal.
    """
    if not isinstance(basis, Tensor) or basis.is_complex():
        got = basis.dtype if isinstance(basis, Tensor) else type(basis).__name__
        raise TypeError(
            f"Expected `initial_basis` to be a tensor of real numbers, but got {got}. Pass the "
            "`final_basis` of an estimate, or the Q of `torch.linalg.qr`."
        )
    check_readable("initial_basis", basis)
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


def check_time_chunks(value: Any, target_stderr: float | None, every: Any) -> int:
    """Check the number of chunks, and that it goes with the other settings.

    Args:
        value: The number asked for.
        target_stderr: Standard error to reach, or None.
        every: Steps between factorizations, or ``"auto"``.

    Returns:
        The number.

    Raises:
        TypeError: If it is no int.
        ValueError: If it is too small, or does not go with another setting.
    """
    count = check_count("time_chunks", value, 1)
    if count > 1 and target_stderr is not None:
        raise ValueError(
            f"Expected `time_chunks` of 1 with `target_stderr`, but got {count}: a run in chunks "
            "has no errors on its way. Leave out one of them."
        )
    if count > 1 and every == "auto":
        raise ValueError(
            f"Expected `time_chunks` of 1 with `orthonormalize_every='auto'`, but got {count}: "
            "each automatic interval follows from those before it. Give a number of steps, or "
            "leave out `time_chunks`."
        )
    return count
