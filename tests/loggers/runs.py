"""A small run with given loggers, and what it must have sent."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_lyap import LyapunovSpectrumCallback, SpectrumHistory
from lightning_lyap.callback import outputs
from tests.networks import fit

FIGURES = ("spectrum", "convergence", "history")
EPOCHS = 2


def run(
    folder: Path, logger: Any, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> SpectrumHistory:
    """Train with a logger; errors raise. Figures are small.

    Returns:
        The history: its steps are those that everything must stand at.
    """
    shown = np.full((4, 6, 4), 255, np.uint8)
    monkeypatch.setattr(outputs, "render", lambda figure: shown)
    callback = LyapunovSpectrumCallback(on_error="raise")
    fit(folder, callback, logger=logger, max_epochs=EPOCHS, **settings)
    history = callback.histories["rnn"]
    assert history.steps == [0, 3, 7]
    return history
