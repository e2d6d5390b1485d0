"""A callback that ends training in time, after the epoch in progress."""

import time

from pytorch_lightning import Callback, LightningModule, Trainer


class StopInTime(Callback):
    """Stops a Trainer at the end of the first epoch that ends after a given time.

    Args:
        stop_at: The time, in seconds of `time.time`.
    """

    def __init__(self, stop_at: float) -> None:
        self.stop_at = stop_at

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop; the checkpoint of the epoch is still written."""
        if time.time() >= self.stop_at:
            trainer.should_stop = True
