"""Whether a run goes on or begins anew, and what a checkpoint holds of it."""

from typing import Any

from pytorch_lightning import Trainer

from lightning_lyap.ledger import Ledger
from lightning_lyap.logged_values import LoggedValues
from lightning_lyap.pacing import Pace


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
