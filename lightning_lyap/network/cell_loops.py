"""Records a cell that a model calls step by step in a loop of its own."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lightning_lyap.certificate.returned import Returned, working_eps
from lightning_lyap.dynamics.state_trees import StateForm
from lightning_lyap.network.returned_rows import StateRow, hint_about, steps_together
from lightning_lyap.network.sequences import Recording


@dataclass(eq=False)
class _Track:
    """One sequence that a loop runs through.

    Its steps ``[I]``, the state it started from, and what the cell returned at each step.
    """

    steps: list[Tensor]
    start: StateRow | None
    returned: list[StateRow] = field(default_factory=list)


class LoopRecording(Recording):
    """Records a cell that the model calls step by step in a loop of its own.

    A row of a call goes on with the sequence of the same row of the call before if the state it is
    given equals the one returned there. If it equals the state *given* there, the loop has not
    taken that step over (it masks rows that have ended), and the step is replaced: of the padding
    at most one step remains. Every other row starts a new sequence. See `Recording`.
    """

    def __init__(self, module: nn.Module, num_sequences: int, num_steps: int) -> None:
        super().__init__(module, num_sequences, num_steps)
        self._tracks: list[_Track] = []
        self._open: list[_Track | None] = []
        self._given: list[Tensor] | None = None
        self._returned: list[list[Tensor] | None] = []
        self._unbatched = False
        self._eps = 0.0
        # Those that take the step of the call that goes on, by their rows.
        self._stepping: dict[int, _Track] = {}
        self._was_given_states = False
        self._went_on = False

    @property
    def is_complete(self) -> bool:
        """Whether enough sequences of enough steps were seen."""
        lengths = [len(track.steps) for track in self._tracks]
        # All of none: a process without a share of the sequences records nothing.
        enough = len(lengths) >= self._num_sequences
        return enough and all(length >= self._num_steps for length in lengths)

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
        # By value, and of copies: loops mask, stack and index states, and change them in place.
        given = _batched_copy(state, self._unbatched)
        goes_on = _equal_rows(given, self._returned, rows)
        repeats = _equal_rows(given, [self._given], rows)
        if len(self._open) != rows:
            self._open = [None] * rows
        self._stepping = {}
        for b in range(rows):
            track = self._open[b]
            if not goes_on[b] and not repeats[b]:
                self._open[b] = track = self._begin(x[b], state, b)
            elif track is not None and len(track.steps) < self._num_steps:
                if not goes_on[b]:
                    del track.steps[-1:], track.returned[-1:]
                track.steps.append(x[b].clone())
            else:
                continue
            if track is not None:
                self._stepping[b] = track
        self._went_on |= any(goes_on)
        self._given = given
        self._was_given_states |= state is not None

    def after(self, output: Any) -> None:
        """Keep what the call returned, to see whether the next call goes on from there."""
        parts = list(output) if isinstance(output, tuple | list) else []
        self._returned = [_batched_copy(part, self._unbatched) for part in (output, *parts)]
        whole = _batched_copy(output, self._unbatched)
        if whole and not any(part.training for part in self._module.modules()):
            self._eps = max(self._eps, working_eps(whole[0]))
            form = StateForm.of(output)
            for b, track in self._stepping.items():
                track.returned.append((form, tuple(tensor[b] for tensor in whole)))
        self._stepping = {}

    def _returned_together(self) -> Returned | None:
        """Put together what the cell returned at the steps of the sequences."""
        tracks = [track.returned for track in self._chosen()]
        if any(len(t.returned) != len(t.steps) for t in self._chosen()):
            return None
        return steps_together(tracks, self._eps, hint_about(self._module))

    def _recorded(self, name: str) -> tuple[list[Tensor], list[StateRow | None]]:
        """Return the sequences, those of a single step only where there are no others."""
        if self._tracks and self._num_steps > 1 and not self._went_on:
            raise RuntimeError(self._no_recurrence(name))
        longer = self._chosen()
        return [torch.stack(track.steps) for track in longer], [track.start for track in longer]

    def _chosen(self) -> list[_Track]:
        """Return the sequences of several steps; those of one where there are no others."""
        return [track for track in self._tracks if len(track.steps) > 1] or self._tracks

    def _begin(self, step: Tensor, state: Any, b: int) -> _Track | None:
        """Begin a sequence from row b of a state, if it is still wanted."""
        if len(self._tracks) >= self._num_sequences:
            return None
        start = self._state_row(state, b, self._unbatched)
        self._tracks.append(_Track([step.clone()], start))
        return self._tracks[-1]

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


def _batched_copy(state: Any, unbatched: bool) -> list[Tensor] | None:
    """Copy the tensors of a state, ``[B, ...]``, or return None if it is no state."""
    try:
        tensors = StateForm.of(state).tensors(state) or ()
    except TypeError:
        return None
    return [(t.unsqueeze(0) if unbatched else t).detach().clone() for t in tensors]


def _equal_rows(
    state: list[Tensor] | None, others: list[list[Tensor] | None], num_rows: int
) -> list[bool]:
    """Return for each of B rows whether a state, ``[B, ...]``, equals one of some others there."""
    equal = [False] * num_rows
    for other in others:
        if state and other and [one.shape for one in state] == [one.shape for one in other]:
            # NaN equals NaN, or a sequence that overflowed would start anew at every step.
            same = [
                ((a == b) | (a.isnan() & b.isnan())).flatten(1).all(-1)
                for a, b in zip(state, other, strict=True)
            ]
            verdict: list[bool] = torch.stack(same).all(0).tolist()
            equal = [one or two for one, two in zip(equal, verdict, strict=True)]
    return equal
