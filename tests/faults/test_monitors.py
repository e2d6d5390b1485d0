"""What monitors find when measurements fail."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from lightning_lyap import LyapunovSpectrumCallback
from lightning_lyap.callback.measurement import estimate_spectra
from tests.faults.runs import EPOCHS, outcome, train
from tests.faults.test_showing import FailsAt


def monitors(folder: Path) -> list[pl.Callback]:
    return [
        ModelCheckpoint(folder, monitor="lyapunov/max", mode="max"),
        EarlyStopping("lyapunov/max", patience=9, check_on_train_epoch_end=False),
    ]


class Heard(pl.Callback):
    """Keeps what monitors see after each validation."""

    def __init__(self) -> None:
        self.values: list[float | None] = []

    def on_validation_end(self, trainer: pl.Trainer, module: Any) -> None:
        if not trainer.sanity_checking:
            value = trainer.callback_metrics.get("lyapunov/max")
            self.values.append(None if value is None else float(value))


@pytest.mark.parametrize("failing", [{2}, {2, 3}, {3}])
def test_monitors_find_the_last_value_that_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: set[int]
) -> None:
    """Also that of the untrained network, if the first validation's measurement fails."""
    estimate = FailsAt(failing, estimate_spectra)
    monkeypatch.setattr("lightning_lyap.callback.network_probe.estimate_spectra", estimate)
    heard = Heard()
    run = outcome(tmp_path, *monitors(tmp_path / "best"), heard, enable_checkpointing=True)
    (said,) = run.said
    assert "broken on purpose" in said
    assert len(run.history.failures) == len(failing)
    measured = dict(zip(run.history.epochs, run.history.exponents()[:, 0].tolist(), strict=True))
    expected = [
        measured[max(done for done in measured if done <= epoch)] for epoch in range(1, EPOCHS + 1)
    ]
    assert heard.values == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", [0, 1], ids=["checkpoint", "stopping"])
def test_nothing_is_invented_for_a_monitor_where_nothing_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    """Lightning then ends the training; there is no value that could be given to it."""
    estimate = FailsAt({1, 2}, estimate_spectra)
    monkeypatch.setattr("lightning_lyap.callback.network_probe.estimate_spectra", estimate)
    callback = LyapunovSpectrumCallback(figures=False, save=False)
    with (
        pytest.warns(UserWarning, match="broken on purpose"),
        pytest.raises((MisconfigurationException, RuntimeError), match="lyapunov/max"),
    ):
        train(tmp_path, monitors(tmp_path)[kind], callback, enable_checkpointing=True)


def test_early_stopping_that_is_not_strict_waits_for_the_first_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimate = FailsAt({1, 2}, estimate_spectra)
    monkeypatch.setattr("lightning_lyap.callback.network_probe.estimate_spectra", estimate)
    stopping = EarlyStopping("lyapunov/max", strict=False, check_on_train_epoch_end=False)
    heard = Heard()
    run = outcome(tmp_path, stopping, heard)
    assert heard.values[0] is None
    assert heard.values[1] == pytest.approx(run.history.exponents()[0, 0].item(), rel=1e-6)
