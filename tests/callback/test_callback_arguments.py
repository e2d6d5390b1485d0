"""The settings of the callback: checked at once, and each does what it says."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.loggers import CSVLogger
from torch import nn

from lightning_lyap import LyapunovSpectrumCallback, SpectrumHistory, lyapunov_spectrum
from tests.networks import (
    Predictor,
    fit,
    sequences,
)
from tests.observers import quiet

pytestmark = pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"num_sequences": 0}, ValueError, "`num_sequences` to be at least 1"),
        ({"num_steps": 2.5}, TypeError, "`num_steps` to be an int"),
        ({"warmup_steps": -1}, ValueError, "`warmup_steps` to be at least 0"),
        ({"orthonormalize_every": 0}, ValueError, "`orthonormalize_every` to be at least 1"),
        ({"orthonormalize_every": "often"}, ValueError, "to be an int or 'auto'"),
        ({"layers": "each"}, ValueError, r"`layers` to be one of \('joint', 'union'\)"),
        ({"num_exponents": 0}, ValueError, "`num_exponents` to be at least 1"),
        ({"every_n_validations": 0}, ValueError, "`every_n_validations` to be at least 1"),
        ({"state": "both"}, ValueError, "`state` to be one of"),
        ({"dtype": "float16"}, ValueError, "`dtype` to be one of"),
        ({"on_error": "ignore"}, ValueError, "`on_error` to be"),
    ],
)
def test_settings_are_checked_at_once(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        LyapunovSpectrumCallback(**settings)


class Stacked(Predictor):
    """A stack of three layers."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 6, num_layers=3, batch_first=True)


def test_layers_apart_with_automatic_intervals_through_a_checkpoint(tmp_path: Path) -> None:
    callback = LyapunovSpectrumCallback(
        layers="union", orthonormalize_every="auto", num_exponents=9, on_error="raise"
    )
    logger = CSVLogger(tmp_path, "run", version="")
    fitted, model = fit(tmp_path, callback, network=Stacked, logger=logger)
    expected = lyapunov_spectrum(
        model.rnn,  # type: ignore[arg-type]
        sequences(1).tensors[0][:10],
        layers="union",
        orthonormalize_every="auto",
        num_exponents=9,
    )
    assert expected.layer is not None
    fitted.save_checkpoint(tmp_path / "last.ckpt")
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]
    other = quiet(layers="union", orthonormalize_every="auto", num_exponents=9)
    other.load_state_dict(state[callback.state_key])
    file = SpectrumHistory.load(tmp_path / "run" / "lyapunov" / "spectra.npz")
    for history in (callback.histories["rnn"], other.histories["rnn"], file):
        layer = history.spectra[-1].layer
        assert torch.equal(history.exponents()[-1], expected.exponents)
        assert layer is not None
        assert torch.equal(layer, expected.layer)
        assert history.settings["orthonormalize_every"] == "auto"
        assert history.settings["layers"] == "union"


class Skipping(nn.GRU):
    """Ends in another state than its weights say, so its spectrum fails the certificate."""

    def forward(self, *args: Any) -> Any:
        output, state = super().forward(*args)
        return output, state + 1


class SkippingPredictor(Predictor):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = Skipping(3, 6, batch_first=True)


def test_a_failed_certificate_is_one_warning_a_run_and_counted(tmp_path: Path) -> None:
    callback = LyapunovSpectrumCallback(figures=False)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        fitted, _ = fit(tmp_path, callback, network=SkippingPredictor, max_epochs=3)
    said = [str(warning.message) for warning in seen]
    assert sum("fails its certificate: states is off by" in message for message in said) == 1
    assert fitted.current_epoch == 3
    assert fitted.callback_metrics["lyapunov/certified"] == 0
    history = callback.histories["rnn"]
    assert len(history) == len(history.failures) == 4
    assert history.failures[-1]["message"].startswith("fails its certificate: states is off by")


def test_a_failed_certificate_stops_training_if_errors_are_raised(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="'rnn' fails its certificate: states is off by"):
        fit(tmp_path, quiet(), network=SkippingPredictor)


def test_double_precision_is_one_word(tmp_path: Path) -> None:
    single, double = quiet(), quiet(dtype="float64", name="double")
    fit(tmp_path, single, double)
    one, other = single.histories["rnn"].exponents(), double.histories["rnn"].exponents()
    assert not torch.equal(one, other)
    # Single precision: 12 steps of rounding errors of 6e-8, exponents of order one.
    torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_half_precision_weights_are_measured_in_single_precision(tmp_path: Path) -> None:
    callback = quiet()
    fit(tmp_path, callback, precision="bf16-true")
    assert callback.histories["rnn"].exponents().isfinite().all()
