"""TensorBoard's CUSTOM SCALARS: which charts are there, what they match, and whose layout stays."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch.loggers
import pytest
import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from lightning_lyap import LyapunovSpectrumCallback
from lightning_lyap.callback.tensorboard_layout import (
    LAYOUT_TAG,
    VALIDATION_LOSS,
    lay_out_scalars,
    scalar_layout,
)
from tests.networks import EncoderDecoder, Predictor, fit, train_loader, trainer, val_loader

# Spectra of networks this small take longer than their training.
pytestmark = pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
ONE = scalar_layout({"lyapunov": ["rnn"]})
EXPONENTS = "exponents: largest, mean, smallest (nats per step)"
MINE = {"mine": {"my chart": ["Multiline", ["train/loss"]]}}


def spectra(name: str = "lyapunov", on_error: Any = "raise") -> LyapunovSpectrumCallback:
    return LyapunovSpectrumCallback(
        2, 6, before_training=False, figures=False, save=False, on_error=on_error, name=name
    )


def tensorboard(folder: Path) -> TensorBoardLogger:
    return TensorBoardLogger(folder, name="", version="run")


def layouts(folder: Path) -> list[dict[str, dict[str, list[str]]]]:
    """Every layout in a run, in the order of writing: tags by chart by category."""
    found: list[Layout] = []
    for file in sorted(
        folder.rglob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime
    ):
        seen = EventAccumulator(str(file), size_guidance={"tensors": 0})
        seen.Reload()
        if LAYOUT_TAG.decode() in seen.Tags()["tensors"]:
            events = seen.Tensors(LAYOUT_TAG.decode())
            found += [Layout.FromString(event.tensor_proto.string_val[0]) for event in events]
    return [
        {
            category.title: {chart.title: list(chart.multiline.tag) for chart in category.chart}
            for category in layout.category
        }
        for layout in found
    ]


def charts(layout: Any) -> dict[str, dict[str, list[str]]]:
    return {
        category: {title: tags for title, (_, tags) in content.items()}
        for category, content in layout.items()
    }


def scalar_tags(folder: Path) -> set[str]:
    (file,) = folder.rglob("events.out.tfevents.*")
    seen = EventAccumulator(str(file))
    seen.Reload()
    return set(seen.Tags()["scalars"])


def matched(patterns: list[str], tags: set[str]) -> set[str]:
    """The tags that TensorBoard draws: it joins the patterns of a chart and matches the start."""
    joined = re.compile("|".join(f"({pattern})" for pattern in patterns))
    return {tag for tag in tags if joined.match(tag)}


@pytest.mark.parametrize(
    "tag",
    [
        "val_loss",
        "val/loss",
        "loss/val",
        "valid_loss",
        "validation_loss",
        "Validation Loss",
        "VAL_LOSS",
        "valLoss",
        "metrics.eval.lm_loss",
        "dev/ce-loss",
        "val/loss_epoch",
        "val_loss/dataloader_idx_1",
    ],
)
def test_a_validation_loss_is_found_by_any_of_its_usual_names(tag: str) -> None:
    assert matched([VALIDATION_LOSS], {tag})
    assert matched(["first$", VALIDATION_LOSS], {tag})


@pytest.mark.parametrize(
    "tag",
    [
        "train/loss",
        "loss",
        "test/loss",
        "interval_loss",
        "value_loss",
        "train/evaluated_loss",
        "device_loss",
        "val/accuracy",
        "val_loss_step",
        "val_loss_step/dataloader_idx_1",
        "val/loss_best",
        "lyapunov/max",
    ],
)
def test_what_is_no_validation_loss_of_an_epoch_is_not_drawn(tag: str) -> None:
    assert not matched([VALIDATION_LOSS], {tag})


def test_one_module_has_its_exponents_beside_the_loss_then_counts_and_cost() -> None:
    assert list(ONE) == ["lyapunov", "lyapunov: counts and cost"]
    assert list(ONE["lyapunov"])[:2] == [EXPONENTS, "validation loss"]
    assert len(ONE["lyapunov: counts and cost"]) == 4


def test_several_modules_have_a_category_each_and_share_counts_and_cost() -> None:
    layout = charts(scalar_layout({"lyapunov": ["encoder.rnn", "decoder"]}))
    assert list(layout) == [
        "lyapunov/encoder.rnn",
        "lyapunov/decoder",
        "lyapunov: counts and cost",
    ]
    tags = {f"lyapunov/{m}/max" for m in ("encoder.rnn", "encoder_rnn", "decoder")}
    patterns = layout["lyapunov/encoder.rnn"][EXPONENTS]
    assert matched(patterns, tags) == {"lyapunov/encoder.rnn/max"}
    both = {"lyapunov/encoder.rnn/num_positive", "lyapunov/decoder/num_positive"}
    positive = layout["lyapunov: counts and cost"]["number of positive exponents"]
    assert matched(positive, both | tags) == both


@pytest.mark.parametrize("network", [Predictor, EncoderDecoder])
@pytest.mark.parametrize("logger", [TensorBoardLogger, lightning.pytorch.loggers.TensorBoardLogger])
def test_every_chart_of_a_run_draws_what_it_says(
    tmp_path: Path, network: type[pl.LightningModule], logger: Any
) -> None:
    fit(tmp_path, spectra(), network=network, logger=logger(tmp_path, name="", version="run"))
    (layout,) = layouts(tmp_path)
    tags = scalar_tags(tmp_path)
    modules = ["encoder", "decoder"] if network is EncoderDecoder else [""]
    assert len(layout) == len(modules) + 1
    for module in modules:
        category = f"lyapunov/{module}".rstrip("/")
        expected = {f"{category}/{name}" for name in ("max", "mean", "min")}
        assert matched(layout[category][EXPONENTS], tags) == expected
        assert matched(layout[category]["validation loss"], tags) == {"val/loss"}
    for content in layout.values():
        for title, patterns in content.items():
            assert matched(patterns, tags), title


def test_what_was_written_is_the_plain_data(tmp_path: Path) -> None:
    logger = tensorboard(tmp_path)
    lay_out_scalars([logger], ONE)
    logger.finalize("success")
    assert layouts(tmp_path) == [charts(ONE)]


def test_a_resumed_run_and_a_second_fit_write_no_second_layout(tmp_path: Path) -> None:
    fitted, model = fit(tmp_path, spectra(), logger=tensorboard(tmp_path), max_epochs=1)
    checkpoint = tmp_path / "one.ckpt"
    fitted.save_checkpoint(checkpoint)
    fitted.fit(model, train_loader(), val_loader())
    fit(tmp_path, spectra(), logger=tensorboard(tmp_path), ckpt_path=str(checkpoint))
    assert len(list(tmp_path.rglob("events.out.tfevents.*"))) > 1
    assert layouts(tmp_path) == [charts(ONE)]


def test_a_layout_of_the_users_stays(tmp_path: Path) -> None:
    logger = tensorboard(tmp_path)
    logger.experiment.add_custom_scalars(MINE)
    fit(tmp_path, spectra(), logger=logger)
    assert layouts(tmp_path) == [charts(MINE)]


class LaysOut(Predictor):
    """Writes a layout of its own when training starts."""

    def on_train_start(self) -> None:
        assert isinstance(self.logger, TensorBoardLogger)
        self.logger.experiment.add_custom_scalars(MINE | ONE)


def test_a_layout_the_user_writes_later_is_the_last_and_so_the_one_shown(tmp_path: Path) -> None:
    fit(tmp_path, spectra(), network=LaysOut, logger=tensorboard(tmp_path))
    assert layouts(tmp_path) == [charts(ONE), charts(MINE | ONE)]


def test_two_callbacks_share_one_layout(tmp_path: Path) -> None:
    fit(tmp_path, spectra("full"), spectra("leading"), logger=tensorboard(tmp_path))
    (layout,) = layouts(tmp_path)
    assert list(layout) == [
        "full",
        "full: counts and cost",
        "leading",
        "leading: counts and cost",
    ]


def test_other_loggers_and_trial_runs_get_none(tmp_path: Path) -> None:
    fit(tmp_path, spectra(), logger=CSVLogger(tmp_path, name=""))
    fit(tmp_path, spectra(), logger=tensorboard(tmp_path), fast_dev_run=1)
    assert not list(tmp_path.rglob("events.out.tfevents.*"))


def test_validation_alone_writes_no_layout(tmp_path: Path) -> None:
    alone = trainer(tmp_path, spectra(), logger=tensorboard(tmp_path))
    alone.validate(Predictor(), val_loader(), verbose=False)
    assert "lyapunov/max" in scalar_tags(tmp_path)
    assert layouts(tmp_path) == []


def test_rank_zero_alone_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl.Trainer, "is_global_zero", property(lambda self: False))
    fit(tmp_path, spectra(), logger=tensorboard(tmp_path))
    assert layouts(tmp_path) == []


class Writer:
    """Takes layouts as TensorBoard's writer does, and nothing else."""

    def __init__(self) -> None:
        self.layouts: list[Any] = []

    def add_custom_scalars(self, layout: Any) -> None:
        self.layouts.append(layout)


def test_a_writer_without_a_folder_gets_the_layout() -> None:
    writer = Writer()
    lay_out_scalars([SimpleNamespace(experiment=writer)], ONE)
    assert writer.layouts == [ONE]


class SlowWriter(Writer):
    """Writes its file when it is flushed."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.file = folder / "events.out.tfevents.1"

    def flush(self) -> None:
        self.file.write_bytes(LAYOUT_TAG * len(self.layouts))


def test_a_layout_of_the_users_stays_that_is_not_on_disk_yet(tmp_path: Path) -> None:
    writer = SlowWriter(tmp_path)
    writer.add_custom_scalars(MINE)
    lay_out_scalars([SimpleNamespace(experiment=writer, log_dir=str(tmp_path))], ONE)
    assert writer.layouts == [MINE]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[TensorBoardLogger]:
    """A logger that fails to write layouts, as on a full disk."""
    logger = tensorboard(tmp_path)

    def fail(layout: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(logger.experiment, "add_custom_scalars", fail)
    yield logger
    logger.finalize("success")


def test_a_layout_that_can_not_be_written_ends_no_training(
    broken: TensorBoardLogger, tmp_path: Path
) -> None:
    callback = spectra(on_error="warn")
    with pytest.warns(
        UserWarning, match=r"CUSTOM SCALARS .*OSError while arranging them: No space left on device"
    ):
        fitted, _ = fit(tmp_path, callback, logger=broken)
    assert fitted.current_epoch == 2
    assert not callback.histories["rnn"].failures
    assert "lyapunov/max" in fitted.callback_metrics


def test_a_layout_that_can_not_be_written_raises_if_asked(
    broken: TensorBoardLogger, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match="No space left"):
        fit(tmp_path, spectra(), logger=broken)
