"""What one recurrent module receives, taken apart into sequences: whole calls, or steps of a loop.

Everything is copied, so nothing of the forward pass is kept alive.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence, pad_sequence

from lightning_lyap.dynamics import recurrence_of
from lightning_lyap.dynamics.states import StateForm

Row = tuple[StateForm, tuple[Tensor, ...]]


@dataclass(frozen=True, eq=False)
class DrivingSequences:
    """What drives a recurrent module.

    Attributes:
        inputs: ``[B, T, I]``, padded at the end.
        lengths: ``[B]``, int64, on the CPU.
        initial_state: In the form the module takes, ``[L, B, H]`` or a pair of such for torch's
            modules, ``[B, N]`` or a tuple or dict of such for cells and registered modules; None
            for the default.
    """

    inputs: Tensor
    lengths: Tensor
    initial_state: Any


class Recording(Protocol):
    """What one module received so far."""

    @property
    def is_complete(self) -> bool:
        """Whether enough was seen."""
        ...

    def before(self, inputs: Any, state: Any) -> None:
        """Take in what a call of the module is given.

        Args:
            inputs: Its first argument.
            state: Its second argument, or None.
        """
        ...

    def after(self, output: Any) -> None:
        """Take in what the call returned."""
        ...

    def sequences(self, name: str) -> DrivingSequences:
        """Put the sequences together.

        Args:
            name: The module's name.

        Returns:
            The sequences, padded to the longest.

        Raises:
            RuntimeError: If there are none.
        """
        ...


def recording_of(module: nn.Module, num_sequences: int, num_steps: int) -> Recording:
    """Choose the way to record a module.

    Args:
        module: A recurrent module.
        num_sequences: How many sequences to record.
        num_steps: How many steps of each to record at most.

    Returns:
        An empty recording.
    """
    known = recurrence_of(module)
    if known is not None and not known.sequences:
        return LoopRecording(module, num_sequences, num_steps)
    return CallRecording(module, num_sequences, num_steps)


class CallRecording:
    """Records a module whose every call takes whole sequences.

    Args:
        module: The module.
        num_sequences: How many sequences to record.
        num_steps: How many steps of each to record at most.
    """

    def __init__(self, module: nn.Module, num_sequences: int, num_steps: int) -> None:
        self._module = module
        self._num_sequences = num_sequences
        self._num_steps = num_steps
        self._row_dim = 1 if recurrence_of(module) is None else 0
        self._rows: list[Tensor] = []
        self._states: list[Row | None] = []

    @property
    def is_complete(self) -> bool:
        """Whether enough sequences were seen."""
        return len(self._rows) >= self._num_sequences

    def before(self, inputs: Any, state: Any) -> None:
        """Copy the rows of a call that are still wanted; see `Recording.before`."""
        if isinstance(inputs, PackedSequence):
            padded, lengths = pad_packed_sequence(inputs, batch_first=True)
            unbatched = False
        elif not isinstance(inputs, Tensor) or inputs.ndim not in (2, 3):
            got = tuple(inputs.shape) if isinstance(inputs, Tensor) else type(inputs).__name__
            raise TypeError(
                f"Expected the first argument of {type(self._module).__name__} to be sequences, a "
                f"tensor of two or three dimensions or a PackedSequence, but got {got}."
            )
        else:
            unbatched = inputs.ndim == 2
            padded = inputs.unsqueeze(0) if unbatched else inputs
            if not unbatched and not getattr(self._module, "batch_first", True):
                padded = padded.transpose(0, 1)
            lengths = torch.full((padded.shape[0],), padded.shape[1])
        steps = lengths.clamp(max=self._num_steps).tolist()
        count = min(self._num_sequences - len(self._rows), len(steps))
        self._states.extend(state_row(state, b, self._row_dim, unbatched) for b in range(count))
        self._rows.extend(padded[b, : steps[b]].detach().clone() for b in range(count))

    def after(self, output: Any) -> None:
        """Ignore what the call returned."""

    def sequences(self, name: str) -> DrivingSequences:
        """Put the sequences together; see `Recording.sequences`."""
        refuse_if_never_called(name, self._rows)
        if self._num_steps > 1 and all(len(row) == 1 for row in self._rows):
            raise RuntimeError(
                f"Expected the module {name!r} to receive sequences, but it is called for one "
                "step at a time. Let the DataModule offer `lyapunov_sequences`, or use the cell "
                "of the module (nn.LSTMCell for nn.LSTM) in the loop."
            )
        return collect(self._module, self._rows, self._states, self._row_dim)


@dataclass(eq=False)
class _Track:
    """One sequence that a loop runs through: its steps ``[I]`` and the state it started from."""

    steps: list[Tensor]
    start: Row | None


class LoopRecording:
    """Records a cell that the model calls step by step in a loop of its own.

    A row of a call goes on with the sequence of the same row of the call before if the state it is
    given equals the one returned there. If it equals the state *given* there, the loop has not
    taken that step over (it masks rows that have ended), and the step is replaced: of the padding
    at most one step remains. Every other row starts a new sequence.

    Args:
        module: The cell.
        num_sequences: How many sequences to record.
        num_steps: How many steps of each to record at most.
    """

    def __init__(self, module: nn.Module, num_sequences: int, num_steps: int) -> None:
        self._module = module
        self._num_sequences = num_sequences
        self._num_steps = num_steps
        self._tracks: list[_Track] = []
        self._open: list[_Track | None] = []
        self._given: Any = None
        self._returned: Any = None
        self._unbatched = False
        self._was_given_states = False
        self._went_on = False

    @property
    def is_complete(self) -> bool:
        """Whether enough sequences of enough steps were seen."""
        lengths = [len(track.steps) for track in self._tracks]
        return len(lengths) >= self._num_sequences and min(lengths) >= self._num_steps

    def before(self, inputs: Any, state: Any) -> None:
        """Add a step to each sequence that goes on, and begin new ones; see `Recording.before`."""
        if not isinstance(inputs, Tensor) or inputs.ndim not in (1, 2):
            got = tuple(inputs.shape) if isinstance(inputs, Tensor) else type(inputs).__name__
            raise TypeError(
                f"Expected the first argument of {type(self._module).__name__} to be one step of "
                f"the input, a tensor [B, I] or [I], but got {got}. A module that is called with "
                "whole sequences is registered with sequences=True."
            )
        self._unbatched = inputs.ndim == 1
        x = inputs.detach().unsqueeze(0) if self._unbatched else inputs.detach()
        rows = x.shape[0]
        given = _batched_copy(state, self._unbatched)
        goes_on = _equal_rows(given, self._returned, rows)
        repeats = _equal_rows(given, [self._given], rows)
        if len(self._open) != rows:
            self._open = [None] * rows
        for b in range(rows):
            track = self._open[b]
            if goes_on[b]:
                self._went_on = True
                self._add(track, x[b])
            elif repeats[b]:
                self._replace(track, x[b])
            else:
                self._open[b] = self._begin(x[b], state, b)
        self._given = given
        self._was_given_states |= state is not None

    def after(self, output: Any) -> None:
        """Keep what the call returned, to see whether the next call goes on from there."""
        parts = list(output) if isinstance(output, tuple | list) else []
        self._returned = [_batched_copy(part, self._unbatched) for part in (output, *parts)]

    def sequences(self, name: str) -> DrivingSequences:
        """Put the sequences together; see `Recording.sequences`.

        Sequences of a single step are left out if there are others.
        """
        refuse_if_never_called(name, self._tracks)
        if self._num_steps > 1 and not self._went_on:
            raise RuntimeError(self._no_recurrence(name))
        longer = [track for track in self._tracks if len(track.steps) > 1] or self._tracks
        rows = [torch.stack(track.steps) for track in longer]
        return collect(self._module, rows, [track.start for track in longer], 0)

    def _begin(self, step: Tensor, state: Any, b: int) -> _Track | None:
        """Begin a sequence from row b of a state, if it is still wanted."""
        if len(self._tracks) >= self._num_sequences:
            return None
        start = state_row(state, b, 0, self._unbatched)
        self._tracks.append(_Track([step.clone()], start))
        return self._tracks[-1]

    def _add(self, track: _Track | None, step: Tensor) -> None:
        """Add a step to a sequence, if both are wanted."""
        if track is not None and len(track.steps) < self._num_steps:
            track.steps.append(step.clone())

    def _replace(self, track: _Track | None, step: Tensor) -> None:
        """Take a step for the last one, which was not taken over."""
        if track is not None and len(track.steps) < self._num_steps:
            track.steps[-1] = step.clone()

    def _no_recurrence(self, name: str) -> str:
        """Say why a cell that never goes on can't be measured."""
        remedy = (
            "Register a module that does the whole step by `register_recurrence`, pass a function "
            "step(x_t, state) to `lyapunov_spectrum`, or choose other modules by `modules=[...]`."
        )
        if not self._was_given_states:
            return (
                f"Expected the cell {name!r} to be called in a loop over time with the state it "
                f"returned, but it never was given a state. {remedy}"
            )
        return (
            f"Expected the cell {name!r} to be given the state it returned one step before, but it "
            "always was given another one: the recurrence has more in it than this cell (a "
            f"normalization of the state, a second stream, ...). {remedy}"
        )


def state_row(state: Any, b: int, row_dim: int, unbatched: bool) -> Row | None:
    """Copy one row of the state that a module was given.

    Args:
        state: In the form the module takes, or None.
        b: Which row.
        row_dim: The dimension of the tensors that counts sequences.
        unbatched: Whether that dimension is missing.

    Returns:
        The form of the state and copies of its tensors without that dimension, or None.
    """
    if state is None:
        return None
    form = StateForm.of(state)
    tensors = (t.unsqueeze(row_dim) if unbatched else t for t in form.tensors(state) or ())
    return form, tuple(t.select(row_dim, b).detach().clone() for t in tensors)


def collect(
    module: nn.Module, rows: list[Tensor], states: list[Row | None], row_dim: int
) -> DrivingSequences:
    """Put rows of inputs and states together.

    Args:
        module: The module.
        rows: Inputs ``[T_b, I]``.
        states: Initial states, or None where the module was given none.
        row_dim: The dimension of the states that counts sequences.

    Returns:
        The sequences.

    Raises:
        RuntimeError: If some sequences start from a state and others from none, and the module's
            default state is not known.
    """
    return DrivingSequences(
        inputs=pad_sequence(rows, batch_first=True),
        lengths=torch.tensor([len(row) for row in rows]),
        initial_state=_collect_states(module, states, row_dim),
    )


def _collect_states(module: nn.Module, states: list[Row | None], row_dim: int) -> Any:
    """Put the initial states together, in the form of the first; see `collect`."""
    given = [state for state in states if state is not None]
    if not given:
        return None
    form, tensors = given[0]
    if len(given) < len(states):
        default = _default_row(module, form, tensors)
        states = [default if state is None else state for state in states]
    columns = zip(*[row[1] for row in states if row is not None], strict=True)
    return form.build(tuple(torch.stack(column, dim=row_dim) for column in columns))


def _default_row(module: nn.Module, form: StateForm, like: tuple[Tensor, ...]) -> Row:
    """Return a row of the state that a module starts from if it is given none.

    Args:
        module: The module.
        form: Form of its states.
        like: Tensors of another row.

    Returns:
        The row.

    Raises:
        RuntimeError: If the default is not known.
    """
    known = recurrence_of(module)
    if known is None:
        return form, tuple(torch.zeros_like(tensor) for tensor in like)
    default = None if known.initial_state is None else known.initial_state(module, 1)
    tensors = form.tensors(default)
    if tensors is None:
        raise RuntimeError(
            f"Expected the default state of {type(module).__name__} in the form of the states the "
            "model passes, because some sequences start without one, but it is not known. Give it "
            "by `register_recurrence(..., initial_state=lambda module, batch_size: ...)`."
        )
    return form, tuple(t[0].detach().to(o) for t, o in zip(tensors, like, strict=True))


def refuse_if_never_called(name: str, seen: list[Any]) -> None:
    """Refuse a module that received nothing.

    Args:
        name: Its name.
        seen: What it received.

    Raises:
        RuntimeError: If that is empty.
    """
    if not seen:
        raise RuntimeError(
            f"Expected the module {name!r} to be called in the batches watched, but it "
            "never was. Choose the modules that are used by `modules=[...]`, or let the "
            "DataModule offer `lyapunov_sequences(num_sequences, num_steps)`."
        )


def _batched_copy(state: Any, unbatched: bool) -> list[Tensor] | None:
    """Copy the tensors of a state, sequences first, or return None if it is no state.

    Args:
        state: Anything.
        unbatched: Whether the dimension of sequences is missing.

    Returns:
        Tensors ``[B, ...]``.
    """
    try:
        tensors = StateForm.of(state).tensors(state) or ()
    except TypeError:
        return None
    return [(t.unsqueeze(0) if unbatched else t).detach().clone() for t in tensors]


def _equal_rows(state: list[Tensor] | None, others: Any, rows: int) -> list[bool]:
    """Tell for each row whether a state equals one of some others there.

    Args:
        state: Tensors ``[B, ...]``, or None.
        others: Lists of tensors, or None; NaN equals NaN.
        rows: B.

    Returns:
        A truth value for each row.
    """
    equal = [False] * rows
    for other in _comparable(state, others or []):
        pairs = zip(state or (), other, strict=True)
        same = [((a == b) | (a.isnan() & b.isnan())).flatten(1).all(-1) for a, b in pairs]
        verdict: list[bool] = torch.stack(same).all(0).tolist()
        equal = [one or two for one, two in zip(equal, verdict, strict=True)]
    return equal


def _comparable(state: list[Tensor] | None, others: list[Any]) -> Iterator[list[Tensor]]:
    """Yield those of some states that have the shapes of another one."""
    if state:
        shapes = [tensor.shape for tensor in state]
        for other in others:
            if other is not None and [tensor.shape for tensor in other] == shapes:
                yield other
