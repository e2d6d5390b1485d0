"""Where the sequences come from that drive the modules in a measurement.

Either the DataModule offers held-out windows by a method
``lyapunov_sequences(num_sequences, num_steps)``, or the modules are watched in validation batches.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn

from lightning_lyap.callback.errors import OnError, describe, release
from lightning_lyap.network.input_recorder import InputRecorder, Recorded
from lightning_lyap.network.undisturbed import evaluating, preserved_generators


class SequenceSource:
    """The sequences of one run of the Trainer, this process's share of them.

    Args:
        trainer: The Trainer.
        modules: The recurrent modules by name.
        num_sequences: How many sequences, over all processes.
        num_steps: Steps of a sequence.

    Raises:
        TypeError: If the DataModule offers something else than a batch.
        ValueError: If the DataModule has too few sequences.
    """

    def __init__(
        self,
        trainer: Trainer,
        modules: Mapping[str, nn.Module],
        num_sequences: int,
        num_steps: int,
    ) -> None:
        self._modules = modules
        self._root = trainer.lightning_module
        self._share = len(range(trainer.global_rank, num_sequences, trainer.world_size))
        self._num_steps = num_steps
        self._watcher: InputRecorder | None = None
        self._offered: tuple[Tensor, ...] | None = None
        datamodule: Any = getattr(trainer, "datamodule", None)
        if hasattr(datamodule, "lyapunov_sequences"):
            with preserved_generators():
                batch = datamodule.lyapunov_sequences(num_sequences, num_steps)
            rows = slice(trainer.global_rank, None, trainer.world_size)
            self._offered = tuple(part[rows] for part in _tensors(batch, num_sequences))

    @property
    def is_ready(self) -> bool:
        """Whether there is something to measure on: windows offered, or batches watched."""
        return self._offered is not None or self._watcher is not None

    def watch(self) -> None:
        """Begin to watch the modules, where no windows are offered."""
        self.stop()
        if self._offered is None:
            self._watcher = InputRecorder(self._modules, self._share, self._num_steps, self._root)
            self._watcher.start()

    def pause(self) -> None:
        """Stop watching, but keep what was seen."""
        if self._watcher is not None:
            self._watcher.stop()

    def stop(self) -> None:
        """Stop watching and drop what was seen."""
        self.pause()
        self._watcher = None

    def take(self, trainer: Trainer, module: LightningModule) -> Recorded:
        """Return what drives each module, and drop it here.

        Args:
            trainer: The Trainer.
            module: The LightningModule, run forward once in evaluation mode on offered windows.

        Returns:
            Sequences by module, and why there are none of others; nothing if this process has no
            share.

        Raises:
            RuntimeError: If nothing was watched.
            Exception: Whatever the module raises on offered windows.
        """
        self.pause()
        recorder, self._watcher = self._watcher, None
        if self._share == 0:
            return Recorded({}, {})
        if self._offered is not None:
            recorder = InputRecorder(self._modules, self._share, self._num_steps)
            batch = trainer.strategy.batch_to_device(self._offered)
            batch = trainer.precision_plugin.convert_input(batch)
            with recorder, _unheard(module), trainer.precision_plugin.forward_context():
                module(*batch)
        if recorder is None:
            raise RuntimeError("Expected to have watched the recurrent modules, but did not.")
        return recorder.readable()


class BrokenSource(SequenceSource):
    """Stands for windows that a DataModule failed to offer: there is nothing to measure on.

    Args:
        message: What went wrong.
    """

    def __init__(self, message: str) -> None:
        self._message = message
        self._watcher = None

    @property
    def is_ready(self) -> bool:
        """True: that nothing can be measured is known already."""
        return True

    def watch(self) -> None:
        """Watch nothing: other sequences than the DataModule's were not asked for."""

    def take(self, trainer: Trainer, module: LightningModule) -> Recorded:
        """Say what went wrong.

        Args:
            trainer: The Trainer.
            module: The LightningModule.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError(
            "Expected `lyapunov_sequences` of the DataModule to return windows, but it failed when "
            f"the run began: {self._message}"
        )


def open_source(
    trainer: Trainer,
    modules: Mapping[str, nn.Module],
    num_sequences: int,
    num_steps: int,
    on_error: OnError,
) -> SequenceSource:
    """Ask where the sequences come from, at the start of a run of the Trainer.

    Args:
        trainer: The Trainer.
        modules: The recurrent modules by name.
        num_sequences: How many sequences, over all processes.
        num_steps: Steps of a sequence.
        on_error: ``"warn"`` for a source that says so later where the DataModule fails, ``"raise"``
            to let its error pass.

    Returns:
        The source.

    Raises:
        ValueError: If the settings ask for more than there is, in both cases.
        Exception: Whatever else the DataModule raises, if errors are to be raised.
    """
    of_the_user = sys.exc_info()[1]
    try:
        return SequenceSource(trainer, modules, num_sequences, num_steps)
    except Exception as error:
        if on_error == "raise" or isinstance(error, ValueError):
            raise
        message = describe(error, "asking the DataModule")
        release(error, of_the_user)
    return BrokenSource(message)


@contextmanager
def _unheard(module: LightningModule) -> Iterator[None]:
    """Evaluate a module, and let nothing that it logs meanwhile reach the Trainer.

    Args:
        module: The module, whose parts may be LightningModules, too.

    Yields:
        None.
    """
    with evaluating(module):
        for part in module.modules():
            if hasattr(part, "log_dict"):
                vars(part).update(log=_ignore, log_dict=_ignore)
        yield


def _ignore(*args: Any, **kwargs: Any) -> None:
    """Take what a module logs, and leave it at that."""


def _tensors(batch: Tensor | Sequence[Tensor], num_sequences: int) -> tuple[Tensor, ...]:
    """Turn what a DataModule offers into the arguments of ``forward``.

    Args:
        batch: A tensor or a tuple of tensors, one row a sequence.
        num_sequences: How many rows were asked for.

    Returns:
        A tuple of tensors.

    Raises:
        TypeError: If it is something else.
        ValueError: If it has too few rows, or its tensors differ in their number.
    """
    parts = (batch,) if isinstance(batch, Tensor) else batch
    if not isinstance(parts, (tuple, list)) or not all(isinstance(part, Tensor) for part in parts):
        raise TypeError(
            "Expected `lyapunov_sequences` of the DataModule to return a tensor or a tuple of "
            f"tensors, one row a sequence, but got {type(batch).__name__}."
        )
    rows = [part.shape[0] if part.ndim else 0 for part in parts]
    if min(rows) < num_sequences or len(set(rows)) > 1:
        raise ValueError(
            f"Expected `lyapunov_sequences` of the DataModule to return {num_sequences} sequences, "
            f"but got {rows} rows. Lower `num_sequences` of the callback, or offer more."
        )
    return tuple(part[:num_sequences] for part in parts)
