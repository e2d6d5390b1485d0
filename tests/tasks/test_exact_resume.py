"""A run goes on with the data it began with."""

from pathlib import Path

import pytest
from pytorch_lightning.callbacks import ModelCheckpoint

from lightning_lyap.tasks.exact_resume import ExactResume
from tests.networks import Predictor, Windows, trainer


class Sourced(Windows):
    """Windows that tell their source."""

    def __init__(self, resolved_source: str) -> None:
        super().__init__()
        self.resolved_source = resolved_source


def test_a_stand_in_does_not_take_the_place_of_real_data(tmp_path: Path) -> None:
    kept = ModelCheckpoint(tmp_path, save_last=True, save_on_train_epoch_end=True)
    begun = trainer(tmp_path, ExactResume(), kept, max_epochs=1, enable_checkpointing=True)
    begun.fit(Predictor(), datamodule=Sourced("real"))
    last = str(tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=r"Expected the real data .* but got synthetic"):
        trainer(tmp_path, ExactResume()).fit(
            Predictor(), datamodule=Sourced("synthetic"), ckpt_path=last
        )
    gone_on = trainer(tmp_path, ExactResume())
    gone_on.fit(Predictor(), datamodule=Sourced("real"), ckpt_path=last)
    assert gone_on.current_epoch == 2
