"""Training is bitwise the same with the callback and without, in every mode of the Trainer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import (
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    RichProgressBar,
    StochasticWeightAveraging,
    WeightAveraging,
)
from torch import Tensor, nn

from tests.modes.runs import Mode, assert_sacred
from tests.networks import Predictor

pytestmark = pytest.mark.filterwarnings(
    "ignore:The Lyapunov spectrum took", "ignore:No Lyapunov spectra while this network trains"
)
WHOLE = (0.0, 1.0, 2.0)


class Descent(Predictor):
    """Learns by plain gradients, which stay finite in half precision."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-2)


class Manual(Predictor):
    """Optimizes by hand, with two optimizers."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
        loss = nn.functional.mse_loss(self(batch[0]), batch[1])
        optimizers: Any = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()
        return {"loss": loss.detach()}

    def configure_optimizers(self) -> Any:
        parts = (self.rnn, self.read_out)
        return [torch.optim.SGD(part.parameters(), lr=1e-2) for part in parts], []


class Drawing(Predictor):
    """Draws in validation, so that a generator moved there shows in training."""

    def validation_step(self, batch: list[Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        super().validation_step([batch[0] + torch.randn_like(batch[0]), batch[1]], batch_idx)


MODES = {
    "val_check_interval int": Mode((0, 0.5, 1, 1.5, 2), {"val_check_interval": 2}),
    "val_check_interval fraction": Mode(
        (0, 0.25, 0.5, 0.75, 1), {"val_check_interval": 0.25, "max_epochs": 1}
    ),
    "val_check_interval across epochs": Mode(
        (0, 0.75, 1.5), {"val_check_interval": 3, "check_val_every_n_epoch": None}
    ),
    "check_val_every_n_epoch": Mode((0, 2), {"check_val_every_n_epoch": 2}),
    "fast_dev_run": Mode((1,), {"fast_dev_run": True}),
    "fast_dev_run of three": Mode((1,), {"fast_dev_run": 3}),
    "limit_val_batches one": Mode(WHOLE, {"limit_val_batches": 1}),
    "limit_val_batches none": Mode((), {"limit_val_batches": 0}),
    "limit_train_batches": Mode(WHOLE, {"limit_train_batches": 2}),
    "overfit_batches": Mode(WHOLE, {"overfit_batches": 2}),
    "overfit_batches fraction": Mode(WHOLE, {"overfit_batches": 0.5}),
    "sanity check whole": Mode(WHOLE, {"num_sanity_val_steps": -1}),
    "profiler": Mode(WHOLE, {"profiler": "simple"}),
    "detect_anomaly": Mode(WHOLE, {"detect_anomaly": True, "limit_train_batches": 1}),
    "deterministic": Mode(WHOLE, {"deterministic": True}),
    "gradient_clip_val": Mode(WHOLE, {"gradient_clip_val": 0.01}),
    "accumulate_grad_batches": Mode(WHOLE, {"accumulate_grad_batches": 3}),
    "accumulation scheduled": Mode(
        WHOLE, {}, lambda: [GradientAccumulationScheduler({0: 2, 1: 4})]
    ),
    "reload_dataloaders": Mode(WHOLE, {"reload_dataloaders_every_n_epochs": 1}),
    "inference_mode off": Mode(WHOLE, {"inference_mode": False}),
    "max_steps": Mode((0, 1), {"max_epochs": -1, "max_steps": 5}),
    "max_time": Mode(WHOLE, {"max_time": "00:01:00:00"}),
    "no checkpoints, no logger": Mode(WHOLE, {}),
    "rich progress bar": Mode(WHOLE, {"enable_progress_bar": True}, lambda: [RichProgressBar()]),
    "tqdm progress bar": Mode(WHOLE, {"enable_progress_bar": True}),
    "stochastic weight averaging": Mode(
        (0, 1, 2, 3), {"max_epochs": 3}, lambda: [StochasticWeightAveraging(1e-2, 1)]
    ),
    "weight averaging": Mode(WHOLE, {}, lambda: [WeightAveraging()]),
    "exponential weight averaging": Mode(WHOLE, {}, lambda: [EMAWeightAveraging(decay=0.5)]),
    "manual optimization": Mode(WHOLE, {}, network=Manual),
    "a validation that draws": Mode(WHOLE, {}, network=Drawing),
    "64-true": Mode(WHOLE, {"precision": "64-true"}),
    "bf16-true": Mode(WHOLE, {"precision": "bf16-true"}),
    "16-true": Mode(WHOLE, {"precision": "16-true"}, network=Descent),
    "16-mixed": Mode(WHOLE, {"precision": "16-mixed"}),
}


# Each is much like another one.
ALIKE = {
    "val_check_interval fraction",
    "fast_dev_run of three",
    "limit_train_batches",
    "overfit_batches fraction",
    "sanity check whole",
    "profiler",
    "inference_mode off",
    "max_time",
    "rich progress bar",
    "weight averaging",
    "16-true",
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in ALIKE else name for name in MODES],
)
def test_training_is_bitwise_the_same_in_every_mode(name: str, tmp_path: Path) -> None:
    assert_sacred(tmp_path, MODES[name])
