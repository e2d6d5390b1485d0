"""Watches what recurrent modules receive in a forward pass, by hooks that never disturb it."""

from collections.abc import Mapping
from functools import partial
from inspect import signature
from types import TracebackType
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from lightning_lyap.dynamics import recurrence_of
from lightning_lyap.loops import LoopRecording
from lightning_lyap.recordings import CallRecording, DrivingSequences, Recording


class InputRecorder:
    """Records what recurrent modules receive, by hooks that are there from `start` to `stop`.

    Each row of a call of a module that takes whole sequences is a new sequence; calls of a cell are
    put together to sequences by the states that are passed on. Recording ends by itself once enough
    are seen. A hook never raises into the forward pass it watches: the error is kept and raised
    when the sequences are asked for.

    Args:
        modules: The modules by name.
        num_sequences: How many sequences to record for each.
        num_steps: How many steps of each sequence to record at most.
    """

    def __init__(
        self, modules: Mapping[str, nn.Module], num_sequences: int, num_steps: int
    ) -> None:
        self._modules = dict(modules)
        self._recordings = {
            name: _recording_of(module, num_sequences, num_steps)
            for name, module in modules.items()
        }
        self._handles: list[RemovableHandle] = []
        self._error: Exception | None = None

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
        for name, module in self._modules.items():
            recording = self._recordings[name]
            before, after = partial(self._before, recording), partial(self._after, recording)
            self._handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            self._handles.append(module.register_forward_hook(after))

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
        if self._error is not None:
            raise RuntimeError(
                f"Expected to read the inputs of a recurrent module, but failed: {self._error}"
            ) from self._error
        return {name: recording.sequences(name) for name, recording in self._recordings.items()}

    def _before(
        self,
        recording: Recording,
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        """Record what a call is given.

        Args:
            recording: The module's recording.
            module: The module.
            args: Positional arguments of the call.
            kwargs: Keyword arguments of the call.
        """
        if recording.is_complete or self._error is not None:
            return
        try:
            recording.before(*_input_and_state(module, args, kwargs))
        except Exception as error:
            self._error = error

    def _after(
        self, recording: Recording, module: nn.Module, args: tuple[Any, ...], output: Any
    ) -> None:
        """Record what a call returned.

        Args:
            recording: The module's recording.
            module: The module.
            args: Positional arguments of the call.
            output: What it returned.
        """
        if recording.is_complete or self._error is not None:
            return
        try:
            recording.after(output)
        except Exception as error:
            self._error = error


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
