"""Pictures of TensorBoard in a real browser: small, of what they say, or an error with a remedy."""

import importlib.util
import io
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger

from lightning_lyap import LyapunovSpectrumCallback
from tests.networks import fit

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "screenshot.py"


@pytest.fixture(scope="module")
def screenshot() -> ModuleType:
    spec = importlib.util.spec_from_file_location("screenshot", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["screenshot"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def png(pixels: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "png")
    return file.getvalue()


def test_a_picture_becomes_small_and_stays_what_it_is(
    screenshot: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screenshot, "LARGEST", 20_000)
    # Smooth colors and a little noise, as in a photograph: too large as it is.
    generator = np.random.default_rng(0)
    ramp = np.linspace(0, 250, 300)[:, None, None] * np.ones((1, 400, 3))
    original = np.floor(ramp + generator.uniform(0, 4, ramp.shape))
    assert len(png(original)) > screenshot.LARGEST
    small = screenshot.compress(png(original))
    assert len(small) < screenshot.LARGEST
    shown = np.asarray(Image.open(io.BytesIO(small)).convert("RGB"), float)
    assert shown.shape == original.shape
    assert np.abs(shown - original).mean() < 10


def test_a_picture_that_can_not_be_made_small_is_an_error(
    screenshot: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screenshot, "LARGEST", 20_000)
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3))
    with pytest.raises(RuntimeError, match=r"Expected at most 20000 bytes, but got .* shrink"):
        screenshot.compress(png(noise))


def test_a_missing_browser_or_driver_is_said_with_its_remedy(
    screenshot: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screenshot, "find_spec", lambda name: object())
    monkeypatch.setattr(screenshot.shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match=r"Expected one of chromium, .*`apt install chromium`"):
        screenshot.find_browser()
    monkeypatch.setattr(screenshot.shutil, "which", lambda name: f"/bin/{name}")
    assert screenshot.find_browser() == "/bin/chromium"
    monkeypatch.setattr(screenshot, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"Expected playwright .*lightning-lyap\[docs\]"):
        screenshot.find_browser()


def test_a_server_that_ends_is_not_waited_for(screenshot: ModuleType) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="event files below --logdir"):
        screenshot.wait_for_runs("http://127.0.0.1:9/", ended)
    assert time.monotonic() - start < screenshot.PATIENCE / 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
def test_every_dashboard_is_photographed(screenshot: ModuleType, tmp_path: Path) -> None:
    try:
        screenshot.find_browser()
    except RuntimeError as error:
        pytest.skip(str(error))
    logger = TensorBoardLogger(tmp_path / "runs", name="", version="run", default_hp_metric=False)
    fitted, _ = fit(tmp_path, LyapunovSpectrumCallback(2, 6), logger=logger)
    logger.log_hyperparams({"init_p": 0.3}, {"lyapunov/max": -1.0}, step=fitted.global_step)
    logger.finalize("success")
    names = list(screenshot.VIEWS)
    paths = screenshot.photograph_all(tmp_path / "runs", tmp_path / "pictures", names)
    assert [path.stem for path in paths] == names
    pictures = [np.asarray(Image.open(path).convert("RGB"), float) for path in paths]
    for name, path, picture in zip(names, paths, pictures, strict=True):
        width, height = screenshot.VIEWS[name].size
        assert picture.shape == (1.5 * height, 1.5 * width, 3)
        assert path.stat().st_size < screenshot.LARGEST
        assert np.abs(picture[30, 800] - [245, 124, 0]).max() < 12, "TensorBoard's orange"
        below = picture[200:, 600:]
        assert 0.001 < (below.mean(2) < 180).mean() < 0.6, f"{name} shows nothing"
    assert len({path.read_bytes() for path in paths}) == len(paths)
