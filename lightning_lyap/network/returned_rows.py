"""Keeps what a module returned for the sequences that are recorded, to compare it later.

Everything is copied, and no more than the recorded sequences and steps.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence, pad_sequence

from lightning_lyap.certificate.returned import Returned, agree, working_eps
from lightning_lyap.dynamics import recurrence_of
from lightning_lyap.dynamics.state_trees import StateForm

# What one sequence has of a state: the form of the whole, and its tensors for this sequence alone.
StateRow = tuple[StateForm, tuple[Tensor, ...]]


@dataclass(frozen=True, eq=False)
class Call:
    """A call with whole sequences, of which some rows are recorded.

    Attributes:
        lengths: Of all its sequences, ``[B]``.
        steps: Steps recorded of each of the first rows.
        num_steps: Steps of the padded inputs.
        unbatched: Whether it was given one sequence without the dimension of the batch.
        packed: Whether it was given a PackedSequence.
    """

    lengths: Tensor
    steps: list[int]
    num_steps: int
    unbatched: bool = False
    packed: bool = False


@dataclass(frozen=True, eq=False)
class ReturnedRow:
    """What a module returned for one sequence.

    Attributes:
        outputs: After each step, ``[T, P]``; None if there are none.
        final: After the last step recorded: see `Returned`; None if the pass went on.
        are_states: See `Returned.outputs_are_states`.
        eps: See `Returned`.
        fault: See `Returned`.
    """

    outputs: Tensor | None = None
    final: StateRow | None = None
    are_states: bool | None = None
    eps: float = 0.0
    fault: str = ""


def rows_of_call(module: nn.Module, output: Any, call: Call) -> list[ReturnedRow]:
    """Copy what a call returned for the rows recorded of it.

    Args:
        module: The module.
        output: What it returned.
        call: What it was given.

    Returns:
        A row for each; empty ones where nothing can be compared: dropout was at work, or the output
        is of another form.
    """
    nothing = [ReturnedRow()] * len(call.steps)
    if _is_random(module):
        return nothing
    try:
        tensors = StateForm.of(_padded(output)).tensors(_padded(output)) or ()
        form = StateForm.of(_padded(output))
    except TypeError:  # the user's own structures
        return nothing
    if not tensors or not all(tensor.is_floating_point() for tensor in tensors):
        return nothing
    of_torch = recurrence_of(module) is None
    if of_torch and not (len(form.parts) == 2 and form.parts[0].kind is Tensor):
        return nothing
    outputs = [
        _as_outputs(tensor, module, call, of_torch and k > 0) for k, tensor in enumerate(tensors)
    ]
    found = next((own for own in outputs if own is not None), None)
    if of_torch:
        dim, states, form = 1, tensors[1:], form.parts[1]
        if call.unbatched:
            states = tuple(tensor.unsqueeze(1) for tensor in states)
        known = all(part.ndim == 3 and part.shape[1] == len(call.lengths) for part in states)
        told = states[0][-1] if known else None
    else:
        # In place of outputs something of no state's shape: the state is found by its shapes.
        dim = 0
        states = tuple(
            _as_state(tensor, call) if own is None else tensor.new_zeros(len(call.lengths), 0)
            for tensor, own in zip(tensors, outputs, strict=True)
        )
        known = all(part.ndim > 1 and part.shape[0] == len(call.lengths) for part in states)
        told = next((part for part in states if part.shape[1:].numel()), None) if known else None
    if not known and found is None:
        return [ReturnedRow(fault=_exchanged(module, tensors, call))] * len(call.steps)
    return [
        _row(b, steps, found, (form, states) if known else None, told, dim, call, tensors[0])
        for b, steps in enumerate(call.steps)
    ]


def _row(
    b: int,
    steps: int,
    outputs: Tensor | None,
    states: tuple[StateForm, tuple[Tensor, ...]] | None,
    told: Tensor | None,
    dim: int,
    call: Call,
    like: Tensor,
) -> ReturnedRow:
    """Copy one sequence's part of outputs ``[B, T, P]`` and of states that hold it in a dim."""
    length = int(call.lengths[b])
    are_states = None
    if outputs is not None and told is not None:
        are_states = agree(outputs[b, length - 1], told[b])
    final = None
    if states is not None and steps == length:
        final = states[0], tuple(t.select(dim, b).detach().clone() for t in states[1])
    own = None if outputs is None else outputs[b, :steps].detach().clone()
    return ReturnedRow(own, final, are_states, working_eps(like))


def together(rows: list[ReturnedRow], dim: int, hint: str) -> Returned | None:
    """Put rows together.

    Args:
        rows: One for each sequence.
        dim: The dimension of states that counts sequences.
        hint: See `Returned`.

    Returns:
        What was returned, NaN for what is not known; None if nothing is known at all.
    """
    outputs = _filled([row.outputs for row in rows])
    forms = {row.final[0] for row in rows if row.final is not None}
    final = None
    if len(forms) == 1:
        count = max(len(row.final[1]) for row in rows if row.final is not None)
        columns = [
            _filled([row.final[1][k] if row.final else None for row in rows], dim)
            for k in range(count)
        ]
        if all(column is not None for column in columns):
            final = forms.pop().build(tuple(c for c in columns if c is not None))
    fault = next((row.fault for row in rows if row.fault), "")
    if outputs is None and final is None and not fault:
        return None
    told = {row.are_states for row in rows if row.outputs is not None}
    are_states = False if False in told else (True if told == {True} else None)
    eps = max(row.eps for row in rows)
    return Returned(
        outputs=outputs, final=final, outputs_are_states=are_states, eps=eps, hint=hint, fault=fault
    )


def steps_together(tracks: list[list[StateRow]], eps: float, hint: str) -> Returned | None:
    """Put together what a cell returned at the steps of several sequences; see `together`."""
    rows = [row for track in tracks for row in track]
    forms = {form for form, _ in rows}
    if len(forms) != 1 or not all(tracks):
        return None
    form = forms.pop()
    columns = []
    for k in range(len(rows[0][1])):
        shapes = {tensors[k].shape for _, tensors in rows}
        if len(shapes) != 1 or not all(tensors[k].is_floating_point() for _, tensors in rows):
            return None
        own = [torch.stack([tensors[k] for _, tensors in track]) for track in tracks]
        columns.append(pad_sequence(own, batch_first=True, padding_value=math.nan))
    return Returned(steps=form.build(tuple(columns)), eps=eps, hint=hint)


def hint_about(module: nn.Module) -> str:
    """Say what it may come from where a module returned something else than its dynamics do.

    Args:
        module: The module that was watched.

    Returns:
        Causes, and the remedy.
    """
    known, kind = recurrence_of(module), type(module).__name__
    if known is None:
        return (
            f"the {kind} itself returned something else in the forward pass: its weights have "
            "changed since, or a hook or a subclass does more than torch's step"
        )
    if not known.sequences:
        return (
            f"{kind} itself returned another state: its weights have changed since, or it takes "
            "more than x_t and the state, or the `step` registered is not its own"
        )
    first = bool(getattr(module, "batch_first", True))
    return (
        f"{kind} itself returned something else: its weights have changed since, or it takes more "
        "than inputs and state, or `step` or `initial_state` registered are not its own, or it "
        f"takes {'[T, B, I]' if first else '[B, T, I]'}: then set its attribute `batch_first = "
        f"{not first}`; outputs as large as the state are taken for states, unless `step` returns "
        "(output, state)"
    )


def _filled(rows: list[Tensor | None], dim: int | None = None) -> Tensor | None:
    """Stack rows, along ``dim`` or padded along the first; NaN for those that are not there."""
    known = [row for row in rows if row is not None]
    if not known or len({row.shape[1:] if dim is None else row.shape for row in known}) > 1:
        return None
    blank = torch.full_like(known[0] if dim is not None else known[0][:1], math.nan)
    every = [blank if row is None else row for row in rows]
    if dim is None:
        return pad_sequence(every, batch_first=True, padding_value=math.nan)
    return torch.stack(every, dim=dim)


def _is_random(module: nn.Module) -> bool:
    """Return whether dropout may be at work in a module, which the dynamics leave out."""
    if recurrence_of(module) is None:
        dropout, layers = getattr(module, "dropout", 0), getattr(module, "num_layers", 1)
        return bool(module.training and dropout and layers > 1)
    return any(part.training for part in module.modules())


def _padded(output: Any) -> Any:
    """Return an output with padded tensors, batch first, in place of packed sequences."""
    if isinstance(output, PackedSequence):
        return pad_packed_sequence(output, batch_first=True)[0]
    if type(output) in (tuple, list):
        return type(output)(_padded(part) for part in output)
    return output


def _as_outputs(tensor: Tensor, module: nn.Module, call: Call, is_state: bool) -> Tensor | None:
    """Return a tensor as outputs ``[B, T, P]`` if it has their shape, else None."""
    own = tensor.unsqueeze(0) if call.unbatched and not is_state else tensor
    if own.ndim != 3 or is_state:
        return None
    first = getattr(module, "batch_first", True) or call.unbatched or call.packed
    own = own if first else own.transpose(0, 1)
    rows, steps = len(call.lengths), call.num_steps
    # A padded output may be as long as the longest sequence of the call.
    return (
        own if own.shape[0] == rows and own.shape[1] in (steps, int(call.lengths.max())) else None
    )


def _as_state(tensor: Tensor, call: Call) -> Tensor:
    """Return a state with sequences first, ``[B, N]``, also if it is given as that of one layer."""
    own = tensor.unsqueeze(0) if call.unbatched and tensor.ndim == 1 else tensor
    return own[0] if own.ndim == 3 and own.shape[0] == 1 else own


def _exchanged(module: nn.Module, tensors: tuple[Tensor, ...], call: Call) -> str:
    """Say that the axes of a module's inputs are exchanged, if what it returned says so."""
    rows, steps = len(call.lengths), call.num_steps
    if rows == steps or not any(t.ndim > 1 and t.shape[0] == steps for t in tensors):
        return ""
    first = bool(getattr(module, "batch_first", True))
    order, other = ("[B, T, I]", "[T, B, I]")[:: 1 if first else -1]
    kind = type(module).__name__
    return (
        f"{kind} is taken for {rows} sequences of {steps} steps, {order}, but returned "
        f"{[tuple(t.shape) for t in tensors]}, {steps} rows: if it takes {other}, set its "
        f"attribute `batch_first = {not first}`"
    )
