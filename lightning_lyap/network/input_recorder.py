"""Watches what recurrent modules receive in a forward pass, by hooks that never disturb it."""

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from inspect import signature
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import nn

from lightning_lyap.dynamics import recurrence_of
from lightning_lyap.network.cell_loops import LoopRecording
from lightning_lyap.network.compiled import (
    Handle,
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
        self._handles: list[Handle] = []
        self._errors: dict[str, Exception] = {}

    def __enter__(self) -> "InputRecorder":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Put the hooks in place."""
        inside: dict[nn.Module, dict[str, nn.Module]] = {}
        for name, module in self._modules.items():
            outside = self._outside.get(module, module)
            if uncompiled(outside) is module:
                self._handles += self._watch(name, outside)
            else:
                inside.setdefault(outside, {})[name] = module
        for outside, modules in inside.items():
            again = partial(self._run_again, modules)
            self._handles += watch_calls(outside, again, lambda *_: None)

    def stop(self) -> None:
        """Remove the hooks; what was recorded stays."""
        while self._handles:
            self._handles.pop().remove()

    def sequences(self) -> dict[str, DrivingSequences]:
        """Return what was recorded, by module.

        Returns:
            For each module its sequences, at most as many as were asked for.

        Raises:
            RuntimeError: If a module was never called, its input could not be read, or a cell was
                never given the state it returned.
        """
        return {name: self._read(name) for name in self._recordings}

    def readable(self) -> "Recorded":
        """Return what was recorded of those modules of which there is something.

        Returns:
            Sequences, and why there are none of others.
        """
        outcomes = {name: self._outcome(name) for name in self._recordings}
        failures = {name: one for name, one in outcomes.items() if isinstance(one, Exception)}
        sequences = {
            name: one for name, one in outcomes.items() if isinstance(one, DrivingSequences)
        }
        return Recorded(sequences, failures)

    def _outcome(self, name: str) -> DrivingSequences | Exception:
        """Return the sequences of a module, or why there are none; see `_read`."""
        try:
            return self._read(name)
        except Exception as error:
            return error

    def _read(self, name: str) -> DrivingSequences:
        """Return the sequences of a module.

        Args:
            name: The module's name.

        Returns:
            Its sequences.

        Raises:
            RuntimeError: See `sequences`.
        """
        if name in self._errors:
            raise RuntimeError(
                f"Expected to read the inputs of a recurrent module, {name!r}, but failed: "
                f"{self._errors[name]}"
            ) from self._errors[name]
        return self._recordings[name].sequences(name)

    def _watch(self, name: str, module: nn.Module) -> list[Handle]:
        """Record the calls of a module.

        Args:
            name: Whose recording it is.
            module: The module, or a copy.

        Returns:
            Handles to end it.
        """
        return watch_calls(module, partial(self._before, name), partial(self._after, name))

    def _run_again(
        self,
        inside: Mapping[str, nn.Module],
        outside: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        """Record what modules receive inside a compiled one, in a run of a copy.

        Args:
            inside: The modules by name.
            outside: The compiled one.
            args: Positional arguments of its call.
            kwargs: Keyword arguments of its call.
        """
        if all(map(self._is_blind, inside)):
            return
        try:
            copied, parts = twin(outside, inside.values())
            given, named = deepcopy((args, kwargs))
            for name, module in inside.items():
                self._watch(name, parts[module])
            with eagerly(), torch.no_grad(), preserved_generators():
                copied(*given, **named)
        except Exception as error:
            for name in inside:
                if not self._recordings[name].is_complete:
                    self._errors.setdefault(name, error)

    def _before(
        self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Record what a call is given.

        Args:
            name: The module's name.
            module: The module.
            args: Positional arguments of the call.
            kwargs: Keyword arguments of the call.
        """
        if self._is_blind(name):
            return
        try:
            self._recordings[name].before(*_input_and_state(module, args, kwargs))
        except Exception as error:
            self._errors[name] = error

    def _after(self, name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Record what a call returned.

        Args:
            name: The module's name.
            module: The module.
            args: Positional arguments of the call.
            output: What it returned.
        """
        if self._is_blind(name):
            return
        try:
            self._recordings[name].after(output)
        except Exception as error:
            self._errors[name] = error

    def _is_blind(self, name: str) -> bool:
        """Tell whether a module's calls are left alone: in compiled functions, after the last."""
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


def _input_and_state(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, Any]:
    """Take the first two arguments of a call, whether by position or by name.

    Args:
        module: The module.
        args: Positional arguments of the call.
        kwargs: Keyword arguments of the call.

    Returns:
        The input and the state, None where it is not given.
    """
    given = list(args[:2])
    if len(given) < 2:
        names = list(signature(module.forward).parameters)[len(given) : 2]
        given.extend(kwargs.get(name) for name in names)
    return given[0], given[1] if len(given) > 1 else None


def _recording_of(module: nn.Module, num_sequences: int, num_steps: int) -> Recording:
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
