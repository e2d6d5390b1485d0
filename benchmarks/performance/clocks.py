"""Clocks outside of the callback: around its hooks, and between validations."""

import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_lyap import LyapunovSpectrumCallback

HOOKS = ("on_validation_epoch_start", "on_validation_batch_end", "on_validation_epoch_end")


class Clocked(LyapunovSpectrumCallback):
    """The callback, with a clock outside of its hooks.

    Attributes:
        fractions: Of the time since the measurement before, for each but the first.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.fractions: list[float] = []
        self._inside = 0.0
        self._since: float | None = None
        for name in HOOKS:
            setattr(self, name, self._clocked(getattr(super(), name), name == HOOKS[-1]))

    def _clocked(self, hook: Any, last: bool) -> Any:
        """Wrap a hook.

        Args:
            hook: The hook.
            last: Whether a measurement ends with it.

        Returns:
            A function like it.
        """

        def run(trainer: Trainer, *arguments: Any, **named: Any) -> None:
            start = time.perf_counter()
            hook(trainer, *arguments, **named)
            now = time.perf_counter()
            if trainer.sanity_checking:
                return
            self._inside += now - start
            if last:
                if self._since is not None:
                    self.fractions.append(self._inside / (now - self._since))
                self._since, self._inside = now, 0.0

        return run

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure before training; the clock starts afterwards."""
        super().on_train_start(trainer, pl_module)
        self._since, self._inside = time.perf_counter(), 0.0


class Gaps(Callback):
    """Takes the time from the end of each validation to the start of the next.

    Attributes:
        seconds: Of each gap.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._end: float | None = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a gap."""
        self._end = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End it."""
        if self._end is not None:
            self.seconds.append(time.perf_counter() - self._end)
