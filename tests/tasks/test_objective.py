"""What a sweep optimizes is read by name; names that no run will have are refused early."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from lightning_lyap import LyapunovSpectrumCallback
from lightning_lyap.tasks.objective import COSTS, STATISTICS, Objective, objective_value
from tests.networks import EncoderDecoder, Predictor, fit


class Telling(Predictor):
    """A network that tells what it logs."""

    metric_names = ("train/loss", "val/loss")


class Diverging(Predictor):
    """A network whose validation loss is lost in its second epoch."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val/loss", math.nan if self.current_epoch else 3.0)


def spectra() -> LyapunovSpectrumCallback:
    return LyapunovSpectrumCallback(3, 5, figures=False, save=False)


def test_one_name_gives_a_number_and_several_a_tuple_in_their_order() -> None:
    metrics = {"a": 1.0, "b": 2.0}
    assert objective_value("b", metrics) == 2.0
    assert objective_value(["b"], metrics) == 2.0
    assert objective_value(["b", "a"], metrics) == (2.0, 1.0)


@pytest.mark.parametrize("objective", [None, [], "", ["a", "a"], [1], 3])
def test_what_is_no_list_of_names_is_refused(objective: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"objective|int"):
        Objective(objective)


@pytest.mark.parametrize("bad", [math.nan, math.inf, None])
def test_a_number_that_is_missing_or_not_finite_is_refused(bad: float | None) -> None:
    metrics = {"a": 1.0} | ({} if bad is None else {"b": bad})
    said = "no b" if bad is None else f"b={bad}"
    with pytest.raises(ValueError, match=f"finite objective, but got {said}"):
        objective_value(["a", "b"], metrics)


def test_the_statistics_are_those_the_callback_logs() -> None:
    documented = re.findall(
        r"^ +``lyapunov/(\w+)``  ", LyapunovSpectrumCallback.__doc__ or "", re.M
    )
    assert set(documented) == STATISTICS | COSTS


@pytest.mark.parametrize(
    ("network", "key"),
    [(Telling, "val/los"), (Telling, "lyapunov/rnn/maxi"), (Predictor, "lyapunov/maximum")],
)
def test_what_is_known_to_be_no_metric_is_refused_before_training(
    network: type[LightningModule], key: str, tmp_path: Path
) -> None:
    started: list[int] = []

    class Watch(ModelCheckpoint):
        def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            started.append(1)

    with pytest.raises(ValueError, match=rf"but got {key}\. There are .*lyapunov/max, "):
        fit(
            tmp_path,
            Watch(tmp_path),
            Objective(["val/loss_best", key]),
            network=network,
            enable_checkpointing=True,
        )
    assert not started


def test_a_sweep_ends_a_run_without_its_objective_after_one_epoch(tmp_path: Path) -> None:
    objective = Objective("val/accuracy", swept=True)
    with pytest.raises(ValueError, match=r"got val/accuracy\. There are .*train/loss, val/loss"):
        fit(tmp_path, objective, max_epochs=5)
    assert "train/loss" in objective.metrics
    fit(tmp_path, Objective("val/accuracy"), max_epochs=1)


def test_a_sweep_waits_for_the_first_validation_and_the_sanity_check_is_none(
    tmp_path: Path,
) -> None:
    objective = Objective("val/loss", swept=True)
    fit(tmp_path, objective, max_epochs=2, check_val_every_n_epoch=2)
    assert math.isfinite(objective.metrics["val/loss"])


@pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
def test_a_sweep_ends_a_run_with_spectra_of_other_modules(tmp_path: Path) -> None:
    sound = Objective("lyapunov/decoder/max", swept=True)
    fit(tmp_path, spectra(), sound, network=EncoderDecoder)
    assert math.isfinite(sound.metrics["lyapunov/decoder/max"])
    with pytest.raises(ValueError, match=r"There are .*lyapunov/decoder/max"):
        fit(
            tmp_path,
            spectra(),
            Objective("lyapunov/max", swept=True),
            network=EncoderDecoder,
        )


def test_the_best_loss_is_that_of_the_checkpoint_and_survives_a_loss_that_is_lost(
    tmp_path: Path,
) -> None:
    objective = Objective("val/loss_best", swept=True)
    fit(tmp_path, objective, network=Diverging)
    assert objective.metrics["val/loss_best"] == 3.0
    assert math.isnan(objective.metrics["val/loss"])

    monitors = [ModelCheckpoint(tmp_path, monitor=key, filename=key[:3]) for key in ("val/loss",)]
    objective = Objective("val/loss_best", swept=True)
    fitted, _ = fit(tmp_path, objective, *monitors, enable_checkpointing=True)
    assert objective.metrics["val/loss_best"] == float(monitors[0].best_model_score or 0)
    assert objective.final_metrics(fitted)["val/loss_best"] == objective.metrics["val/loss_best"]


@pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
def test_the_best_of_what_checkpoints_go_by_is_a_metric(tmp_path: Path) -> None:
    kept = ModelCheckpoint(tmp_path, monitor="lyapunov/max", mode="max")
    objective = Objective("lyapunov/max_best", swept=True)
    fitted, _ = fit(
        tmp_path, spectra(), objective, kept, enable_checkpointing=True, network=Telling
    )
    assert objective.final_metrics(fitted)["lyapunov/max_best"] == float(kept.best_model_score or 0)


def test_metrics_come_back_with_a_checkpoint_of_the_end(tmp_path: Path) -> None:
    kept = ModelCheckpoint(tmp_path, save_last=True, save_on_train_epoch_end=True)
    first = Objective("val/loss_best")
    fit(tmp_path, first, kept, enable_checkpointing=True)
    again = Objective("val/loss_best")
    fit(tmp_path, again, ckpt_path=str(tmp_path / "last.ckpt"))
    assert again.metrics == first.metrics != {}
