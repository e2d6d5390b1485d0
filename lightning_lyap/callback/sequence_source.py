"""Where the sequences come from that drive the modules in a measurement.

Either the DataModule offers held-out windows by a method
``lyapunov_sequences(num_sequences, num_steps)``, or the modules are watched in validation batches.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn

from lightning_lyap.callback.errors import OnError, describe
from lightning_lyap.network.input_recorder import InputRecorder, Recorded
from lightning_lyap.network.undisturbed import evaluating, preserved_generators


class SequenceSource:
    """The sequences of one run of the Trainer, this process's share of them.

    Args:
        trainer: The Trainer, at the start of its run.
        network: The LightningModule.
        modules: Its recurrent modules by name.
        num_sequences: How many sequences, over all processes.
        num_steps: Steps of a sequence.
        on_error: ``"warn"``: an error of the DataModule, but for a ValueError, is raised when
            sequences are taken; ``"raise"``: at once.

    Raises:
        ValueError: If the settings ask for more than the DataModule has.
        Exception: Whatever else the DataModule raises, if errors are to be raised.
    """

    def __init__(
        self,
        trainer: Trainer,
        network: LightningModule,
        modules: Mapping[str, nn.Module],
        num_sequences: int,
        num_steps: int,
        on_error: OnError = "raise",
    ) -> None:
        self._trainer = trainer
        self._network = network
        self._modules = modules
        self._num_own = len(range(trainer.global_rank, num_sequences, trainer.world_size))
        self._num_steps = num_steps
        self._watcher: InputRecorder | None = None
        self._offered: tuple[Tensor, ...] | None = None
        self._failure: str | None = None
        try:
            self._offered = self._ask(num_sequences)
        except ValueError:
            raise  # the settings and the data don't fit together: said before training
        except Exception as error:  # whatever the user's DataModule raises
            if on_error == "raise":
                raise
            self._failure = describe(error, "asking the DataModule")

    @property
    def is_ready(self) -> bool:
        """Whether it is known what to measure on, or that there is nothing."""
        given = self._offered is not None or self._failure is not None
        return given or self._watcher is not None

    @property
    def is_watching(self) -> bool:
        """Whether the modules are watched in the batches that come."""
        return self._watcher is not None

    def watch(self) -> None:
        """Begin to watch the modules, where the DataModule has no windows to offer."""
        self.stop()
        if not self.is_ready:
            self._watcher = InputRecorder(
                self._modules, self._num_own, self._num_steps, self._network
            )
            self._watcher.start()

    def pause(self) -> None:
        """Stop watching, but keep what was seen."""
        if self._watcher is not None:
            self._watcher.stop()

    def stop(self) -> None:
        """Stop watching and drop what was seen."""
        self.pause()
        self._watcher = None

    def take(self) -> Recorded:
        """Return what drives each module, and drop it here.

        Windows are run through the network once, forward, in evaluation mode.

        Returns:
            Sequences by module, and why there are none of others; nothing if this process has no
            share.

        Raises:
            RuntimeError: If nothing was watched, or the DataModule failed when the run began.
            Exception: Whatever the network raises on offered windows.
        """
        self.pause()
        recorder, self._watcher = self._watcher, None
        if self._failure is not None:
            raise RuntimeError(
                "Expected `lyapunov_sequences` of the DataModule to return windows, but it failed "
                f"when the run began: {self._failure}"
            )
        if self._num_own == 0:
            return Recorded({}, {})
        if self._offered is not None:
            recorder = InputRecorder(self._modules, self._num_own, self._num_steps)
            precision = self._trainer.precision_plugin
            batch = precision.convert_input(self._trainer.strategy.batch_to_device(self._offered))
            with recorder, _without_logging(self._network), precision.forward_context():
                self._network(*batch)
        if recorder is None:
            raise RuntimeError("Expected to have watched the recurrent modules, but did not.")
        return recorder.recorded()

    def _ask(self, num_sequences: int) -> tuple[Tensor, ...] | None:
        """Return this process's share of the windows that the DataModule offers, if it does."""
        datamodule: Any = getattr(self._trainer, "datamodule", None)
        if not hasattr(datamodule, "lyapunov_sequences"):
            return None
        with preserved_generators():
            batch = datamodule.lyapunov_sequences(num_sequences, self._num_steps)
        rows = slice(self._trainer.global_rank, None, self._trainer.world_size)
        return tuple(part[rows] for part in _tensors(batch, num_sequences))


@contextmanager
def _without_logging(module: LightningModule) -> Iterator[None]:
    """Evaluate a module, and let nothing that it or a part of it logs reach the Trainer."""
    with evaluating(module):
        for part in module.modules():
            if hasattr(part, "log_dict"):
                vars(part).update(log=_ignore, log_dict=_ignore)
        yield


def _ignore(*args: Any, **kwargs: Any) -> None:
    """Ignore what a module logs."""


def _tensors(batch: Tensor | Sequence[Tensor], num_sequences: int) -> tuple[Tensor, ...]:
    """Return what a DataModule offers as arguments of ``forward``, one row a sequence each."""
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
