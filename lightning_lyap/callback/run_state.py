"""Whether a run goes on or begins anew, and what a checkpoint holds of it."""

from collections.abc import Iterable
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer

from lightning_lyap.callback.cost import Pace
from lightning_lyap.callback.run_histories import Ledger
from lightning_lyap.callback.trainer import is_fitting, logging_step


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


class RunSoFar:
    """The run so far: its parts are kept elsewhere, here they begin and go on together.

    Args:
        ledger: Keeps the histories.
        pace: Counts the validations.
        logged: Keeps the last values.
    """

    def __init__(self, ledger: Ledger, pace: Pace, logged: LoggedValues) -> None:
        self._ledger = ledger
        self._pace = pace
        self._logged = logged
        self._goes_on = False
        self._has_begun = False
        self._looks_on = False

    def enter(self, stage: str) -> None:
        """Note what the Trainer is about to do, before it loads a checkpoint for it.

        Args:
            stage: ``"fit"``, or one that only looks at a network: ``"validate"``, ``"test"`` ...
        """
        self._looks_on = stage != "fit"

    def begin(self, trainer: Trainer) -> None:
        """Begin a fit: with nothing, unless a state was loaded or steps were taken before.

        Args:
            trainer: The Trainer.
        """
        if not self._goes_on and trainer.global_step == 0:
            self._pace.validations = 0
            self._logged.last = {}
            self._ledger.histories.clear()
        self._goes_on = False
        self._has_begun = True

    def end(self) -> None:
        """Forget that a state was loaded: a tuner loads one, too, that no run goes on with."""
        self._goes_on = False
        self._looks_on = False

    def state_dict(self) -> dict[str, Any]:
        """Return the run so far: tensors, numbers and text."""
        histories = {name: history.state_dict() for name, history in self._ledger.histories.items()}
        return {
            "validations": self._pace.validations,
            "histories": histories,
            "last": self._logged.last,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next fit go on with the run that `state_dict` returned.

        A run in memory stays where the Trainer only looks at a checkpoint of it, the best, say.

        Args:
            state_dict: What it returned.

        Raises:
            ValueError: If that is not what `state_dict` holds; nothing has changed then.
        """
        missing = sorted({"validations", "histories", "last"} - state_dict.keys())
        if missing:
            raise ValueError(
                f"Expected a state of a LyapunovSpectrumCallback, but got one without {missing}. "
                "Go on from a checkpoint that this callback has written."
            )
        if self._looks_on and self._has_begun:
            return
        self._ledger.load(state_dict["histories"])
        self._pace.validations = state_dict["validations"]
        self._logged.last = state_dict["last"]
        self._goes_on = True
