"""Whether a run goes on or begins anew, and what a checkpoint holds of it."""

from typing import Any

from pytorch_lightning import Trainer

from lightning_lyap.callback.cost import Pace
from lightning_lyap.callback.run_histories import RunHistories


class RunState:
    """The run so far; it begins, goes on and is saved as one.

    Args:
        histories: Of the run's spectra.

    Attributes:
        histories: As given.
        pace: Counts the validations.
        last: The last value of each logged key.
    """

    def __init__(self, histories: RunHistories) -> None:
        self.histories = histories
        self.pace = Pace()
        self.last: dict[str, float] = {}
        self._was_loaded = False
        self._has_begun = False
        self._is_evaluating = False

    def enter(self, stage: str) -> None:
        """Note what the Trainer is about to do, before it loads a checkpoint for it.

        Args:
            stage: ``"fit"``, or one that only looks at a network: ``"validate"``, ``"test"`` ...
        """
        self._is_evaluating = stage != "fit"

    def begin(self, trainer: Trainer) -> None:
        """Begin a fit: with nothing, unless a state was loaded or steps were taken before.

        Args:
            trainer: The Trainer.
        """
        # A second `fit` of the same Trainer goes on from the steps taken in the first.
        if not self._was_loaded and trainer.global_step == 0:
            self.pace.validations = 0
            self.last = {}
            self.histories.by_module.clear()
        self._was_loaded = False
        self._has_begun = True

    def end(self) -> None:
        """Forget that a state was loaded: a tuner loads one, too, that no run goes on with."""
        self._was_loaded = False
        self._is_evaluating = False

    def state_dict(self) -> dict[str, Any]:
        """Return the run so far: tensors, numbers and text."""
        by_module = self.histories.by_module
        return {
            "validations": self.pace.validations,
            "histories": {name: history.state_dict() for name, history in by_module.items()},
            "last": self.last,
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
        if self._is_evaluating and self._has_begun:
            return
        self.histories.load(state_dict["histories"])
        self.pace.validations = state_dict["validations"]
        self.last = state_dict["last"]
        self._was_loaded = True
