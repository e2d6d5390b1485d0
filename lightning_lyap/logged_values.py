"""The scalars of measurements on their way to the Trainer, and the last of each for monitors."""

from collections.abc import Iterable

import torch
from pytorch_lightning import LightningModule, Trainer

from lightning_lyap.ledger import Ledger
from lightning_lyap.trainer_facts import is_fitting, logging_step


class LoggedValues:
    """Hands scalars to the Trainer, and keeps the last of each.

    Args:
        ledger: Counts what loggers refuse.

    Attributes:
        last: The last value of each key in the run so far.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.last: dict[str, float] = {}
        self._ledger = ledger

    def log_before_training(
        self, trainer: Trainer, modules: Iterable[str], values: dict[str, float]
    ) -> None:
        """Send the values of the untrained network, which Lightning has no hook to log in.

        Args:
            trainer: The Trainer.
            modules: The modules concerned.
            values: Finite scalars by key; none if the measurement failed.
        """
        self.last = values
        for logger in trainer.loggers if values else ():
            with self._ledger.guard(trainer, modules, "logging"):
                logger.log_metrics(dict(values), step=logging_step(trainer))

    def log(
        self,
        trainer: Trainer,
        network: LightningModule,
        modules: Iterable[str],
        values: dict[str, float],
    ) -> None:
        """Log values in the validation or test that ends.

        Args:
            trainer: The Trainer.
            network: Whose logging it is.
            modules: The modules concerned.
            values: Finite scalars by key; none if the measurement failed.
        """
        with self._ledger.guard(trainer, modules, "logging"):
            if values and not trainer.barebones:
                network.log_dict(values, batch_size=1, sync_dist=True)
        if is_fitting(trainer):
            self.last = self.last | values
            if self.last.keys() - values.keys():
                self.recall(trainer)

    def recall(self, trainer: Trainer) -> None:
        """Let monitors find the last value of a key that was not logged in this run of the Trainer.

        After a resumption they then act as in the uninterrupted run, before the first validation
        they find the untrained network's, and a measurement that fails leaves what was measured
        before. Logging these values would write them again.

        Args:
            trainer: The Trainer.
        """
        if trainer.barebones:
            return
        for key in self.last.keys() - trainer.callback_metrics.keys():
            trainer.callback_metrics[key] = torch.tensor(self.last[key])
