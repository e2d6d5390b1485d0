"""Records what a recurrent module receives, as sequences: the base class, and whole sequences.

Everything is copied, so nothing of the forward pass is kept alive.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence, pad_sequence

from lightning_lyap.certificate.returned import Returned
from lightning_lyap.dynamics import recurrence_of
from lightning_lyap.dynamics.evaluation_mode import weights_of
from lightning_lyap.dynamics.state_trees import StateForm
from lightning_lyap.network.returned_rows import (
    Call,
    ReturnedRow,
    StateRow,
    hint_about,
    rows_of_call,
    together,
)


@dataclass(frozen=True, eq=False)
class DrivingSequences:
    """What drives a recurrent module.

    Attributes:
        inputs: ``[B, T, I]``, padded at the end.
        lengths: ``[B]``, int64, on the CPU.
        initial_state: In the form the module takes, ``[L, B, H]`` or a pair of such for torch's
            modules, ``[B, N]`` or a tuple or dict of such for cells and registered modules; None
            for the default.
        returned: What the module returned on them; None if it is not known.
        weights: Weights of the module at that time by their names in it, where they are no
            parameters: a hook or a wrapper computes them for each forward pass.
    """

    inputs: Tensor
    lengths: Tensor
    initial_state: Any
    returned: Returned | None = None
    weights: Mapping[str, Tensor] = field(default_factory=dict)


class Recording(ABC):
    """What one module received so far.

    Args:
        module: The module.
        num_sequences: How many sequences to record.
        num_steps: How many steps of each to record at most.

    Attributes:
        awaits_result: Whether a call is recorded whose result is still to come.
    """

    def __init__(self, module: nn.Module, num_sequences: int, num_steps: int) -> None:
        self._module = module
        self._num_sequences = num_sequences
        self._num_steps = num_steps
        # The dimension of states that counts sequences: torch's modules have their layers before.
        self._row_dim = 1 if recurrence_of(module) is None else 0
        self._weights: dict[str, Tensor] = {}
        self.awaits_result = False

    @property
    @abstractmethod
    def is_complete(self) -> bool:
        """Whether enough was seen."""

    @abstractmethod
    def before(self, inputs: Any, state: Any) -> None:
        """Take in what a call of the module is given.

        Args:
            inputs: Its first argument.
            state: Its second argument, or None.

        Raises:
            TypeError: If they are not what such a module takes.
        """

    @abstractmethod
    def after(self, output: Any) -> None:
        """Take in what the call returned."""

    def sequences(self, name: str) -> DrivingSequences:
        """Put the sequences together.

        Args:
            name: The module's name.

        Returns:
            The sequences, padded to the longest.

        Raises:
            RuntimeError: If there are none, or the module is not used as it must be; or if some
                start from a state and others from the module's default, which is not known.
        """
        rows, states = self._recorded(name)
        if not rows:
            raise RuntimeError(
                f"Expected the module {name!r} to be called in the batches watched, but it never "
                "was, or only inside a compiled function, where it can't be watched. Choose the "
                "modules that are used by `modules=[...]`, compile modules instead of functions, "
                "or let the DataModule offer `lyapunov_sequences(num_sequences, num_steps)`."
            )
        return DrivingSequences(
            inputs=pad_sequence(rows, batch_first=True),
            lengths=torch.tensor([len(row) for row in rows]),
            initial_state=self._collect(states),
            returned=self._returned_together(),
            weights=self._weights,
        )

    def keep_weights(self, module: nn.Module) -> None:
        """Keep the weights that the first call computed with.

        Args:
            module: The module that was called, or the copy of it that was.
        """
        if not self._weights:
            self._weights = weights_of(module)

    @abstractmethod
    def _returned_together(self) -> Returned | None:
        """Put together what the module returned for the sequences."""

    @abstractmethod
    def _recorded(self, name: str) -> tuple[list[Tensor], list[StateRow | None]]:
        """Return the inputs of each sequence, ``[T_b, I]``, and its initial state if it had one."""

    def _state_row(self, state: Any, b: int, unbatched: bool) -> StateRow | None:
        """Copy what the b-th sequence has of a state that the module was given."""
        if state is None:
            return None
        form, dim = StateForm.of(state), self._row_dim
        tensors = (t.unsqueeze(dim) if unbatched else t for t in form.tensors(state) or ())
        return form, tuple(t.select(dim, b).detach().clone() for t in tensors)

    def _collect(self, states: list[StateRow | None]) -> Any:
        """Put initial states together, in the form of the first that was given."""
        given = [state for state in states if state is not None]
        if not given:
            return None
        form, tensors = given[0]
        if len(given) < len(states):
            default = self._default_row(form, tensors)
            given = [default if state is None else state for state in states]
        columns = zip(*[row[1] for row in given], strict=True)
        return form.build(tuple(torch.stack(column, dim=self._row_dim) for column in columns))

    def _default_row(self, form: StateForm, like: tuple[Tensor, ...]) -> StateRow:
        """Return what a sequence has of the state the module starts from where none is given."""
        known = recurrence_of(self._module)
        if known is None:
            return form, tuple(torch.zeros_like(tensor) for tensor in like)
        default = None if known.initial_state is None else known.initial_state(self._module, 1)
        tensors = form.tensors(default)
        if tensors is None:
            raise RuntimeError(
                f"Expected the default state of {type(self._module).__name__} in the form of the "
                "states the model passes, because some sequences start without one, but it is not "
                "known. Give it by `register_recurrence(..., initial_state=lambda module, "
                "batch_size: ...)`."
            )
        return form, tuple(t[0].detach().to(o) for t, o in zip(tensors, like, strict=True))


class CallRecording(Recording):
    """Records a module whose every call takes whole sequences; see `Recording`."""

    def __init__(self, module: nn.Module, num_sequences: int, num_steps: int) -> None:
        super().__init__(module, num_sequences, num_steps)
        self._call: Call | None = None
        self._returned: list[ReturnedRow] = []
        self._rows: list[Tensor] = []
        self._states: list[StateRow | None] = []

    @property
    def is_complete(self) -> bool:
        """Whether enough sequences were seen."""
        return len(self._rows) >= self._num_sequences

    def before(self, inputs: Any, state: Any) -> None:
        """Copy the rows of a call that are still wanted; see `Recording.before`."""
        if isinstance(inputs, PackedSequence):
            padded, lengths = pad_packed_sequence(inputs, batch_first=True)
            unbatched, packed = False, True
        elif not isinstance(inputs, Tensor) or inputs.ndim not in (2, 3):
            got = tuple(inputs.shape) if isinstance(inputs, Tensor) else type(inputs).__name__
            raise TypeError(
                f"Expected the first argument of {type(self._module).__name__} to be sequences, a "
                f"tensor of two or three dimensions or a PackedSequence, but got {got}."
            )
        else:
            unbatched, packed = inputs.ndim == 2, False
            padded = inputs.unsqueeze(0) if unbatched else inputs
            if not unbatched and not getattr(self._module, "batch_first", True):
                padded = padded.transpose(0, 1)
            lengths = torch.full((padded.shape[0],), padded.shape[1])
        steps = lengths.clamp(max=self._num_steps).tolist()
        count = min(self._num_sequences - len(self._rows), len(steps))
        self._states.extend(self._state_row(state, b, unbatched) for b in range(count))
        self._rows.extend(padded[b, : steps[b]].detach().clone() for b in range(count))
        # For a call that fails in the end.
        self._returned.extend([ReturnedRow()] * count)
        self._call = Call(lengths, steps[:count], padded.shape[1], unbatched, packed)

    def after(self, output: Any) -> None:
        """Copy the rows of what the call returned; see `Recording.after`."""
        if self._call is not None:
            rows = rows_of_call(self._module, output, self._call)
            self._returned[len(self._returned) - len(rows) :] = rows
        self._call = None

    def _returned_together(self) -> Returned | None:
        """Put together what the module returned for the sequences."""
        return together(self._returned, self._row_dim, hint_about(self._module))

    def _recorded(self, name: str) -> tuple[list[Tensor], list[StateRow | None]]:
        """Return the sequences; refuse calls with a single step each."""
        if self._num_steps > 1 and self._rows and all(len(row) == 1 for row in self._rows):
            raise RuntimeError(
                f"Expected the module {name!r} to receive sequences, but it is called for one "
                "step at a time. Let the DataModule offer `lyapunov_sequences`, or use the cell "
                "of the module (nn.LSTMCell for nn.LSTM) in the loop."
            )
        return self._rows, self._states
