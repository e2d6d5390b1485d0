"""TensorBoard's logger, of both namespaces: read back from the event file."""

from pathlib import Path
from typing import Any

import lightning.pytorch.loggers
import pytest
import pytorch_lightning.loggers

from lightning_lyap import SpectrumHistory
from tests.loggers.events import events
from tests.loggers.runs import FIGURES, run

pytestmark = pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
LOGGERS = [
    pytorch_lightning.loggers.TensorBoardLogger,
    lightning.pytorch.loggers.TensorBoardLogger,
]


@pytest.mark.parametrize("kind", LOGGERS, ids=["pytorch_lightning", "lightning.pytorch"])
def test_scalars_histograms_and_images_stand_at_the_steps_of_the_loss(
    tmp_path: Path, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = run(tmp_path, kind(tmp_path, "run", version=""), monkeypatch)
    seen = events(tmp_path / "run")
    scalars = seen.Scalars("lyapunov/max")
    assert [event.step for event in scalars] == history.steps
    assert [event.step for event in seen.Scalars("val/loss")] == history.steps[1:]
    assert [event.value for event in scalars] == pytest.approx(
        history.exponents()[:, 0].tolist(), rel=1e-6
    )
    for figure in FIGURES:
        images = seen.Images(f"lyapunov/{figure}")
        assert [event.step for event in images] == history.steps
        assert (images[0].height, images[0].width) == (4, 6)
    histograms = seen.Histograms("lyapunov/exponents")
    assert [event.step for event in histograms] == history.steps
    assert [event.histogram_value.num for event in histograms] == [6] * 3
    file = SpectrumHistory.load(tmp_path / "run" / "lyapunov" / "spectra.npz")
    assert file.steps == history.steps
