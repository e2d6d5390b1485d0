"""Watches what recurrent modules receive in a forward pass, by hooks that never disturb it."""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from functools import partial
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import nn

from lightning_lyap.dynamics import recurrence_of
from lightning_lyap.network.cell_loops import LoopRecording
from lightning_lyap.network.compiled import (
    boundaries,
    eagerly,
    twin,
    uncompiled,
    watch_calls,
)
from lightning_lyap.network.sequences import CallRecording, DrivingSequences, Recording
from lightning_lyap.network.undisturbed import preserved_generators


class InputRecorder:
    """Records what recurrent modules receive, by hooks that are there from `start` to `stop`.

    Each row of a call of a module that takes whole sequences is a new sequence; calls of a cell are
    put together to sequences by the states that are passed on. Recording ends by itself once enough
    are seen. A hook never raises into the forward pass it watches: the error is kept, its module is
    left alone from then on, and the error is raised or returned when the sequences are asked for.

    A compiled module is watched from outside. What the modules inside receive is seen in a second
    run of it, uncompiled, of a copy that shares the parameters alone; it ends with the recording.
    Inside a compiled function nothing is seen.

    Args:
        modules: The modules by name.
        num_sequences: How many sequences to record for each.
        num_steps: How many steps of each sequence to record at most.
        root: Where compiled modules around them are looked for; None if there are none.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        num_sequences: int,
        num_steps: int,
        root: nn.Module | None = None,
    ) -> None:
        self._modules = dict(modules)
        self._outside = {} if root is None else boundaries(root)
        self._recordings = {
            name: _recording_of(module, num_sequences, num_steps)
            for name, module in modules.items()
        }
        self._watches: list[Callable[[], None]] = []
        self._errors: dict[str, Exception] = {}

    def __enter__(self) -> "InputRecorder":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Put the hooks in place."""
        inside: dict[nn.Module, dict[str, nn.Module]] = {}
        for name, module in self._modules.items():
            outside = self._outside.get(module, module)
            # What a compiled module is given is seen from outside, what its parts are given is not.
            if uncompiled(outside) is module:
                self._watches += self._watch(name, outside)
            else:
                inside.setdefault(outside, {})[name] = module
        for outside, modules in inside.items():
            again = partial(self._run_again, modules)
            self._watches += watch_calls(outside, again, lambda *_: None)

    def stop(self) -> None:
        """Remove the hooks; what was recorded stays."""
        while self._watches:
            self._watches.pop()()

    def sequences(self) -> dict[str, DrivingSequences]:
        """Return what was recorded, by module.

        Returns:
            For each module its sequences, at most as many as were asked for.

        Raises:
            RuntimeError: If a module was never called, its input could not be read, or a cell was
                never given the state it returned.
        """
        return {name: self._read(name) for name in self._recordings}

    def recorded(self) -> "Recorded":
        """Return what was recorded of those modules of which there is something.

        Returns:
            Sequences, and why there are none of others.
        """
        failures: dict[str, Exception] = {}
        outcomes = {name: _attempt(failures, [name], self._read, name) for name in self._recordings}
        sequences = {name: one for name, one in outcomes.items() if name not in failures}
        return Recorded(sequences, failures)

    def _read(self, name: str) -> DrivingSequences:
        """Return the sequences of a module; see `sequences`."""
        recording = self._recordings[name]
        if name in self._errors and not recording.is_complete:
            raise RuntimeError(
                f"Expected to read the inputs of a recurrent module, {name!r}, but failed: "
                f"{self._errors[name]}"
            ) from self._errors[name]
        return recording.sequences(name)

    def _watch(self, name: str, module: nn.Module) -> list[Callable[[], None]]:
        """Record the calls of a module, or of its copy; return what ends that."""
        return watch_calls(module, partial(self._before, name), partial(self._after, name))

    def _run_again(self, inside: Mapping[str, nn.Module], *call: Any) -> None:
        """Record what modules receive inside a compiled one that is called, in a run of a copy."""
        if not all(map(self._is_blind, inside)):
            _attempt(self._errors, inside, self._run_copy, inside, *call)

    def _run_copy(
        self,
        inside: Mapping[str, nn.Module],
        outside: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        """Run an uncompiled copy of a module on copies of its arguments, with the hooks inside."""
        copied, parts = twin(outside, inside.values())
        given, named = deepcopy((args, kwargs))
        for name, module in inside.items():
            self._watch(name, parts[module])
        with eagerly(), torch.no_grad(), preserved_generators():
            copied(*given, **named)

    def _before(
        self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Record what a call is given."""
        if not self._is_blind(name):
            _attempt(self._errors, [name], _record, self._recordings[name], module, args, kwargs)

    def _after(self, name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Record what a call returned."""
        if torch.compiler.is_compiling() or name in self._errors:
            return
        if self._recordings[name].awaits_result:
            _attempt(self._errors, [name], _record_result, self._recordings[name], module, output)

    def _is_blind(self, name: str) -> bool:
        """Return whether a call is left alone: when compiled, after an error, once all is seen."""
        # First, so that nothing else of a hook is compiled into the user's function.
        return (
            torch.compiler.is_compiling()
            or name in self._errors
            or self._recordings[name].is_complete
        )


class Recorded(NamedTuple):
    """What was recorded of several modules.

    Attributes:
        sequences: What drives each module, by its name.
        failures: Why there is nothing of the others.
    """

    sequences: dict[str, DrivingSequences]
    failures: dict[str, Exception]


def _attempt(
    failures: dict[str, Exception], names: Iterable[str], call: Callable[..., Any], *args: Any
) -> Any:
    """Return what a call returns, or None where it fails; the error is kept under some names."""
    try:
        return call(*args)
    # Users' modules, and types they register, raise anything, and it must not end a forward pass.
    except Exception as error:
        for name in names:
            failures.setdefault(name, error)
    return None


def _record(
    recording: Recording, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Record the first two arguments of a call, given by position or by name."""
    given = list(args[:2])
    if len(given) < 2:
        names = list(signature(module.forward).parameters)[len(given) : 2]
        given.extend(kwargs.get(name) for name in names)
    recording.before(given[0], given[1] if len(given) > 1 else None)
    recording.awaits_result = True


def _record_result(recording: Recording, module: nn.Module, output: Any) -> None:
    """Record what a call returned, and with which weights."""
    recording.awaits_result = False
    recording.after(output)
    recording.keep_weights(uncompiled(module))


def _recording_of(module: nn.Module, num_sequences: int, num_steps: int) -> Recording:
    """Return an empty recording, of a loop over a cell or of calls with whole sequences."""
    known = recurrence_of(module)
    kind = CallRecording if known is None or known.sequences else LoopRecording
    return kind(module, num_sequences, num_steps)
