"""The logger of Weights & Biases, offline: read back from the run's file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread
from pytorch_lightning.loggers import WandbLogger

from tests.loggers.runs import FIGURES, run
from tests.loggers.wandb_file import rows

wandb = pytest.importorskip("wandb")
pytestmark = pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
STEP = "trainer/global_step"


@pytest.fixture
def logger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbLogger]:
    """Give an offline logger; its service ends with the test."""
    for name, value in {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_DIR": str(tmp_path),
        "WANDB_CACHE_DIR": str(tmp_path / "cache"),
        "WANDB_CONFIG_DIR": str(tmp_path / "config"),
        "WANDB_DATA_DIR": str(tmp_path / "data"),
        "WANDB_BASE_URL": "http://127.0.0.1:9",  # nobody answers there
    }.items():
        monkeypatch.setenv(name, value)
    yield WandbLogger(save_dir=tmp_path, project="spectra", offline=True)
    wandb.teardown()


def at(found: list[dict[str, Any]], key: str) -> dict[int, Any]:
    """Return the values of one key by step."""
    return {row[STEP]: row[key] for row in found if key in row}


def test_scalars_histograms_and_images_stand_at_the_steps_of_the_loss(
    tmp_path: Path, logger: WandbLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = run(tmp_path, logger, monkeypatch)
    folder = tmp_path / "spectra" / str(logger.version) / "lyapunov"
    logger.experiment.finish()
    wandb.teardown()  # its service writes until it ends
    (file,) = tmp_path.rglob("*.wandb")
    found = rows(file)
    scalars = at(found, "lyapunov/max")
    assert list(scalars) == history.steps
    assert list(at(found, "val/loss")) == history.steps[1:]
    assert list(scalars.values()) == pytest.approx(history.exponents()[:, 0].tolist(), rel=1e-6)
    histograms = at(found, "lyapunov/exponents")
    assert list(histograms) == history.steps
    assert {value["_type"] for value in histograms.values()} == {"histogram"}
    assert [sum(value["values"]) for value in histograms.values()] == [6, 6, 6]
    for figure in FIGURES:
        images = at(found, f"lyapunov/{figure}")
        assert list(images) == history.steps
        for value in images.values():
            (name,) = value["filenames"]
            assert imread(file.parent / "files" / name).shape == (4, 6, 4)
    assert (folder / "spectra.npz").exists()
