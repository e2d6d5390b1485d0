"""What the callback logs and writes, under which names and at which steps."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor, nn

from lightning_lyap import LyapunovSpectrumCallback, SpectrumHistory
from lightning_lyap.callback import outputs
from tests.networks import (
    EncoderDecoder,
    Predictor,
    fit,
)
from tests.observers import events, quiet

pytestmark = pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")


STATISTICS = {
    "max",
    "max_standard_error",
    "max_margin",
    "mean",
    "mean_all",
    "variance",
    "variance_all",
    "min",
    "std_over_sequences",
    "num_positive",
    "num_positive_estimates",
    "kaplan_yorke_dimension",
    "kolmogorov_sinai_entropy",
    "num_unresolved",
    "num_unsettled",
    "rounding_error",
    "certified",
}


def test_logged_keys_are_exactly_those_documented(tmp_path: Path) -> None:
    fitted, _ = fit(tmp_path, quiet())
    logged = {key for key in fitted.callback_metrics if key.startswith("lyapunov/")}
    expected = {f"lyapunov/{name}" for name in STATISTICS | {"seconds", "epoch_fraction"}}
    assert logged == expected
    documented = LyapunovSpectrumCallback.__doc__ or ""
    assert all(f"``{key}``" in documented for key in expected)


def test_several_modules_are_each_reported_under_their_name(tmp_path: Path) -> None:
    callback = quiet()
    fitted, _ = fit(tmp_path, callback, network=EncoderDecoder)
    assert set(callback.histories) == {"encoder", "decoder"}
    assert callback.histories["decoder"].exponents().shape == (3, 12)
    for name in ("encoder", "decoder"):
        logged = fitted.callback_metrics[f"lyapunov/{name}/max"]
        torch.testing.assert_close(
            logged.double(), callback.histories[name].exponents()[-1, 0], rtol=1e-6, atol=0
        )
    assert "lyapunov/seconds" in fitted.callback_metrics


@pytest.fixture
def _figures_are_blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing them takes most of the time of a run, and has tests of its own."""
    monkeypatch.setattr(outputs, "render", lambda figure: np.zeros((4, 6, 4), np.uint8))


@pytest.mark.usefixtures("_figures_are_blank")
def test_event_file_holds_everything_at_the_steps_of_the_scalars(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="run", version="")
    callback = LyapunovSpectrumCallback(on_error="raise")
    fit(tmp_path, callback, logger=logger, accumulate_grad_batches=2, val_check_interval=2)
    seen = events(tmp_path / "run")
    tags = seen.Tags()
    figures = {"lyapunov/spectrum", "lyapunov/convergence", "lyapunov/history"}
    assert set(tags["images"]) == figures
    assert tags["histograms"] == ["lyapunov/exponents"]
    assert {f"lyapunov/{name}" for name in STATISTICS} <= set(tags["scalars"])
    steps = [event.step for event in seen.Scalars("lyapunov/max")]
    assert steps == callback.histories["rnn"].steps
    assert steps[1:] == [event.step for event in seen.Scalars("val/loss")]
    assert steps == [event.step for event in seen.Histograms("lyapunov/exponents")]
    for figure in figures:
        assert steps == [event.step for event in seen.Images(figure)]
    assert callback.histories["rnn"].epochs == [0.0, 0.5, 1.0, 1.5, 2.0]


def test_the_sanity_check_writes_nothing(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="run", version="")
    fit(tmp_path, quiet(before_training=False), logger=logger, max_epochs=1)
    assert [event.step for event in events(tmp_path / "run").Scalars("lyapunov/max")] == [3]


@pytest.mark.usefixtures("_figures_are_blank")
def test_files_can_be_loaded_and_plotted_with_two_lines(tmp_path: Path) -> None:
    callback = LyapunovSpectrumCallback(on_error="raise")
    fit(tmp_path, callback, network=EncoderDecoder, logger=CSVLogger(tmp_path, "run", version=""))
    folder = tmp_path / "run" / "lyapunov" / "decoder"
    names = {"spectra.npz", "spectrum.png", "convergence.png", "history.png"}
    assert {path.name for path in folder.iterdir()} == names
    history = SpectrumHistory.load(folder / "spectra.npz")
    figure, _ = history.plot()
    assert len(figure.axes) == 2
    assert torch.equal(history.exponents(), callback.histories["decoder"].exponents())
    assert history.settings["state"] == "full"
    assert history.settings["module"] == "decoder"


@pytest.mark.usefixtures("_figures_are_blank")
def test_nothing_is_written_when_saving_is_off_or_the_run_is_a_trial(tmp_path: Path) -> None:
    fit(tmp_path, LyapunovSpectrumCallback(save=False, on_error="raise"))
    fit(tmp_path, LyapunovSpectrumCallback(on_error="raise"), fast_dev_run=True)
    assert not list(tmp_path.iterdir())


def test_one_warning_names_the_cheaper_setting(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"`every_n_validations=\d+` brings it under 10%") as seen:
        fit(tmp_path, quiet(), max_epochs=4)
    assert sum("every_n_validations" in str(warning.message) for warning in seen) == 1


def test_overflow_is_counted_and_never_logged_as_nan(tmp_path: Path) -> None:
    class Exploding(Predictor):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.RNN(3, 6, nonlinearity="relu", batch_first=True)
            self.rnn.get_parameter("weight_hh_l0").data.fill_(1e8)

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return self.read_out.weight.sum() * 0

    callback = LyapunovSpectrumCallback(figures=False)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        fitted, _ = fit(tmp_path, callback, network=Exploding, max_epochs=1)
    assert all(
        torch.isfinite(value)
        for key, value in fitted.callback_metrics.items()
        if key.startswith("lyapunov/")
    )
    history = callback.histories["rnn"]
    assert [spectrum.num_sequences for spectrum in history.spectra] == [0, 0]
