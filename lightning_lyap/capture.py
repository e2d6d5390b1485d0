"""Which recurrent modules a LightningModule has, and what they receive in a forward pass."""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence, pad_sequence
from torch.utils.hooks import RemovableHandle

from lightning_lyap.dynamics import RECURRENT_MODULES, check_supported

COMPILED = "_orig_mod"


@dataclass(frozen=True, eq=False)
class DrivingSequences:
    """What drives a recurrent module.

    Attributes:
        inputs: ``[B, T, I]``, padded at the end.
        lengths: ``[B]``, int64, on the CPU.
        initial_state: ``[L, B, H]``, a pair of such, or None for zeros.
    """

    inputs: Tensor
    lengths: Tensor
    initial_state: Tensor | tuple[Tensor, ...] | None


def find_recurrent_modules(
    root: nn.Module, names: Iterable[str] | None = None
) -> dict[str, nn.RNNBase]:
    """Find the recurrent modules inside a module.

    Args:
        root: Any module, a LightningModule as a rule.
        names: Names to choose, as in ``named_modules()``. Default: all that have a spectrum.

    Returns:
        The modules by name.

    Raises:
        ValueError: If there is none, a name is not among them, or a chosen one has no spectrum.

    Warns:
        UserWarning: If a module that was not asked for by name has no spectrum and is left out.

    Example:
        >>> list(find_recurrent_modules(nn.Sequential(nn.Linear(2, 3), nn.GRU(3, 4))))
        ['1']
    """
    found: dict[str, nn.RNNBase] = {}
    for path, module in root.named_modules():
        if isinstance(module, RECURRENT_MODULES):
            name = ".".join(part for part in path.split(".") if part != COMPILED)
            found[name or type(module).__name__.lower()] = module
    if names is not None:
        return _choose(found, names)
    supported = {name: module for name, module in found.items() if not module.bidirectional}
    for name in found.keys() - supported.keys():
        warnings.warn(
            f"No Lyapunov spectrum for {name!r}: a bidirectional module is no causal dynamical "
            "system.",
            stacklevel=2,
        )
    if not supported:
        raise ValueError(
            "Expected at least one torch.nn.RNN, GRU or LSTM that runs forward in time inside "
            f"{type(root).__name__}, but got "
            + (f"only {sorted(found)} (bidirectional). " if found else "none. ")
            + "Make the recurrence a submodule (self.rnn = nn.LSTM(...)), or leave this out."
        )
    return supported


def _choose(found: dict[str, nn.RNNBase], names: Iterable[str]) -> dict[str, nn.RNNBase]:
    """Choose modules by name.

    Args:
        found: All recurrent modules.
        names: The names chosen.

    Returns:
        The chosen modules, in the order of the names.

    Raises:
        ValueError: If a name is not among them or its module has no spectrum.
    """
    chosen: dict[str, nn.RNNBase] = {}
    for name in names:
        if name not in found:
            raise ValueError(
                f"Expected `modules` to name recurrent modules among {sorted(found)}, "
                f"but got {name!r}."
            )
        check_supported(found[name])
        chosen[name] = found[name]
    if not chosen:
        raise ValueError("Expected `modules` to name at least one module, but got none.")
    return chosen


class InputRecorder:
    """Records what recurrent modules receive, by hooks that are there from `start` to `stop`.

    Each call of a module counts as so many new sequences; recording ends by itself once enough are
    seen. Inputs are copied, so nothing of the forward pass is kept alive. A hook never raises into
    the forward pass it watches: the error is kept and raised when the sequences are asked for.

    Args:
        modules: The modules by name.
        num_sequences: How many sequences to record for each.
        num_steps: How many steps of each sequence to record at most.
    """

    def __init__(
        self, modules: Mapping[str, nn.RNNBase], num_sequences: int, num_steps: int
    ) -> None:
        self._modules = dict(modules)
        self._num_sequences = num_sequences
        self._num_steps = num_steps
        self._rows: dict[str, list[Tensor]] = {name: [] for name in modules}
        self._states: dict[str, list[tuple[Tensor, ...] | None]] = {name: [] for name in modules}
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
            hook = partial(self._observe, name)
            self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def stop(self) -> None:
        """Remove the hooks; what was recorded stays."""
        while self._handles:
            self._handles.pop().remove()

    def sequences(self) -> dict[str, DrivingSequences]:
        """Return what was recorded, by module.

        Returns:
            For each module its sequences, at most as many as were asked for.

        Raises:
            RuntimeError: If a module was never called, or its input could not be read.
        """
        if self._error is not None:
            raise RuntimeError(
                f"Expected to read the inputs of a recurrent module, but failed: {self._error}"
            ) from self._error
        for name, rows in self._rows.items():
            if not rows:
                raise RuntimeError(
                    f"Expected the module {name!r} to be called in the batches watched, but it "
                    "never was. Choose the modules that are used by `modules=[...]`, or let the "
                    "DataModule offer `lyapunov_sequences(num_sequences, num_steps)`."
                )
            if self._num_steps > 1 and all(len(row) == 1 for row in rows):
                raise RuntimeError(
                    f"Expected the module {name!r} to receive sequences, but it is called for one "
                    "step at a time. Let the DataModule offer `lyapunov_sequences`, or pass a "
                    "function step(x_t, state) to `lyapunov_spectrum`."
                )
        return {name: self._collect(name) for name in self._rows}

    def _collect(self, name: str) -> DrivingSequences:
        """Put the rows recorded for one module together.

        Args:
            name: The module's name.

        Returns:
            Its sequences, padded to the longest.
        """
        rows, states = self._rows[name], self._states[name]
        given = [state for state in states if state is not None]
        initial_state: tuple[Tensor, ...] | None = None
        if given:
            zeros = tuple(torch.zeros_like(tensor) for tensor in given[0])
            columns = zip(*[zeros if s is None else s for s in states], strict=True)
            initial_state = tuple(torch.stack(column, dim=1) for column in columns)
        is_lstm = isinstance(self._modules[name], nn.LSTM)
        return DrivingSequences(
            inputs=pad_sequence(rows, batch_first=True),
            lengths=torch.tensor([len(row) for row in rows]),
            initial_state=initial_state[0] if initial_state and not is_lstm else initial_state,
        )

    def _observe(
        self, name: str, module: nn.RNNBase, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Copy the rows of one call that are still wanted.

        Args:
            name: The module's name.
            module: The module.
            args: Positional arguments of the call.
            kwargs: Keyword arguments of the call.
        """
        wanted = self._num_sequences - len(self._rows[name])
        if wanted <= 0 or self._error is not None:
            return
        try:
            inputs = args[0] if args else kwargs["input"]
            given = args[1] if len(args) > 1 else kwargs.get("hx")
            rows = _rows(module, inputs, wanted, self._num_steps)
            self._rows[name].extend(rows)
            self._states[name].extend(_state_rows(given, len(rows)))
        except Exception as error:
            self._error = error


def _rows(
    module: nn.RNNBase, inputs: Tensor | PackedSequence, wanted: int, num_steps: int
) -> list[Tensor]:
    """Split a module's input into its sequences.

    Args:
        module: The module.
        inputs: ``[B, T, I]``, ``[T, B, I]``, ``[T, I]`` or a packed sequence.
        wanted: How many sequences to take at most.
        num_steps: How many steps to take at most.

    Returns:
        Copies ``[T_b, I]`` of the first sequences.
    """
    if isinstance(inputs, PackedSequence):
        padded, lengths = pad_packed_sequence(inputs, batch_first=True)
    else:
        padded = inputs.unsqueeze(0) if inputs.ndim == 2 else inputs
        if inputs.ndim == 3 and not module.batch_first:
            padded = padded.transpose(0, 1)
        lengths = torch.full((padded.shape[0],), padded.shape[1])
    steps = lengths.clamp(max=num_steps).tolist()
    return [padded[b, : steps[b]].detach().clone() for b in range(min(wanted, len(steps)))]


def _state_rows(given: Any, count: int) -> list[tuple[Tensor, ...] | None]:
    """Split the initial state that a module was given.

    Args:
        given: None, ``[L, B, H]`` (``[L, H]`` unbatched), or a pair of such.
        count: How many sequences to take.

    Returns:
        For each sequence a tuple of copies ``[L, H]``, or None.
    """
    if given is None:
        return [None] * count
    tensors = (given,) if isinstance(given, Tensor) else tuple(given)
    tensors = tuple(t.unsqueeze(1) if t.ndim == 2 else t for t in tensors)
    return [tuple(t[:, b].detach().clone() for t in tensors) for b in range(count)]
