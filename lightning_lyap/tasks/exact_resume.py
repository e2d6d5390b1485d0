"""Lets a resumed run be the uninterrupted one: checkpoints carry the random generators."""

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class ExactResume(Callback):
    """Saves the states of torch's generators in checkpoints and restores them on resumption.

    Lightning's checkpoints leave them out, so dropout and the order of the batches would differ
    after a resumption. With this callback, and checkpoints written at the end of an epoch
    (``ModelCheckpoint(save_on_train_epoch_end=True)``), they do not. With several processes it does
    nothing: a checkpoint holds the generators of the first one alone.

    Other data than the run began with is refused, if the DataModule has a ``resolved_source``: a
    stand-in may have taken the place of real data meanwhile, or the other way round.
    """

    def __init__(self) -> None:
        self._restored: dict[str, Any] | None = None
        self._source: str | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the generators of the CPU and of every CUDA device."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return {"cpu": torch.get_rng_state(), "cuda": cuda, "source": self._source}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states until the run starts."""
        self._restored = state_dict

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the generators to where the checkpoint left them.

        It must be here: the first iterator over the training data, which draws from them, is made
        before ``on_train_start``, and the sanity check in between leaves them as they are.

        Raises:
            ValueError: If the data is not the run's.
        """
        self._source = getattr(getattr(trainer, "datamodule", None), "resolved_source", None)
        began = (self._restored or {}).get("source")
        if began is not None and began != self._source:
            raise ValueError(
                f"Expected the {began} data the run began with, but got {self._source}. Make that "
                "available (data_dir, data=real or data=synthetic), or start a new run."
            )
        if self._restored is None or trainer.world_size > 1:
            return
        torch.set_rng_state(self._restored["cpu"].cpu())
        # With another number of devices the saved states belong to none of them.
        if len(self._restored["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([state.cpu() for state in self._restored["cuda"]])
        self._restored = None
