"""Photograph a run in TensorBoard: `python docs/screenshot.py --logdir outputs`.

Needs the extra `docs` and a Chromium or Chrome that is installed; nothing is downloaded.
"""

import argparse
import io
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import urlopen

from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
LARGEST = 100_000  # bytes of a picture
PATIENCE = 120  # seconds, on a busy machine
SCALE = 1.5  # pixels per point


def make_room(page: "Page") -> None:
    """Show all values, cards of one height, and no settings: they are open at first."""
    page.get_by_text("Ignore outliers in chart scaling").click()
    page.get_by_text("Enable step selection and data table").click()
    page.locator("button.settings-button").click()


def show_all_values(page: "Page") -> None:
    """Let the axes of charts reach over all values, outliers included."""
    page.get_by_text("Ignore outliers in chart scaling").click()


def enlarge(page: "Page") -> None:
    """Give the first histogram the whole width."""
    page.locator("tf-histogram-loader paper-icon-button").first.click()


def leave(page: "Page") -> None:
    """Leave a dashboard as it opens."""


@dataclass(frozen=True)
class View:
    """What to photograph.

    Attributes:
        address: What follows the server's address.
        shown: Selector of what must be there.
        size: Width and height in points.
        arrange: What to do to the page first.
    """

    address: str
    shown: str
    size: tuple[int, int]
    arrange: Callable[["Page"], None] = leave


def time_series(tags: str) -> str:
    """Return the address of TIME SERIES with the tags that a regular expression finds."""
    return f"?smoothing=0&tagFilter={quote(tags)}#timeseries"


VIEWS = {
    "tensorboard": View(
        time_series("val/loss$|lyapunov/(max|mean|exponents|history|spectrum)$"),
        "image-card img",
        (1380, 880),
        make_room,
    ),
    "time_series": View(time_series("lyapunov"), "scalar-card", (1380, 880), make_room),
    "custom_scalars": View(
        "#custom_scalars&_smoothingWeight=0",
        "tf-custom-scalar-multi-line-chart-card svg",
        (1500, 500),
        show_all_values,
    ),
    "images": View("#images", "tf-image-loader img", (1500, 560)),
    "histograms": View("#histograms", "tf-histogram-loader svg path", (1380, 800), enlarge),
    "hparams": View("#hparams", "tf-hparams-table-view", (1800, 420)),
}


@contextmanager
def serving(logdir: Path) -> Iterator[str]:
    """Start TensorBoard and stop it.

    Args:
        logdir: Folder of the runs.

    Yields:
        Its address.

    Raises:
        RuntimeError: If it ends, or does not answer in time.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    # Pictures show the folder as it is given: by its name alone.
    where = ["--logdir", logdir.resolve().name, "--host", "127.0.0.1", "--port", port]
    command = [sys.executable, "-m", "tensorboard.main", *where]
    command += ["--samples_per_plugin", "images=1000"]
    silent = subprocess.DEVNULL
    parent = logdir.resolve().parent
    with subprocess.Popen(command, cwd=parent, stdout=silent, stderr=silent) as server:
        try:
            address = f"http://127.0.0.1:{port}/"
            wait_for_runs(address, server)
            yield address
        finally:
            server.terminate()


def wait_for_runs(address: str, server: "subprocess.Popen[bytes]") -> None:
    """Wait until TensorBoard answers and has found a run.

    Args:
        address: Where.
        server: Its process.

    Raises:
        RuntimeError: If it ends, or there is no run in time.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urlopen(f"{address}data/runs", timeout=5) as answer:
                if answer.read().strip() != b"[]":
                    return
        except (URLError, TimeoutError):
            pass
        time.sleep(0.2)
    raise RuntimeError(
        f"Expected TensorBoard to serve a run within {PATIENCE} s, but got none. Is it installed "
        '(`pip install "lightning-lyap[tasks]"`), and are event files below --logdir?'
    )


def find_browser() -> str:
    """Return the path of an installed browser.

    Raises:
        RuntimeError: If there is none, or nothing to drive it.
    """
    if find_spec("playwright") is None:
        raise RuntimeError(
            "Expected playwright to drive a browser, but it is not installed. Install it with "
            '`pip install "lightning-lyap[docs]"`.'
        )
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    raise RuntimeError(
        f"Expected one of {', '.join(BROWSERS)} on the PATH, but got none. Install one, for "
        "example with `apt install chromium`."
    )


def photograph(page: "Page", address: str, view: View) -> bytes:
    """Open a dashboard, wait until it stands still and take its picture.

    Args:
        page: A page of the browser.
        address: TensorBoard's.
        view: What to photograph.

    Returns:
        A PNG file.
    """
    page.set_viewport_size({"width": view.size[0], "height": view.size[1]})
    page.goto(address + view.address)
    page.locator(view.shown).first.wait_for(timeout=1000 * PATIENCE)
    view.arrange(page)
    page.mouse.move(0, view.size[1] - 1)
    deadline, last, same = time.monotonic() + PATIENCE, b"", 0
    while same < 3 and time.monotonic() < deadline:
        page.wait_for_timeout(700)
        picture = page.screenshot(animations="disabled")
        last, same = picture, same + 1 if picture == last else 0
    return last


def compress(picture: bytes) -> bytes:
    """Store a picture with a palette, as large as keeps it small.

    Args:
        picture: A PNG file.

    Returns:
        A PNG file of at most `LARGEST` bytes.

    Raises:
        RuntimeError: If not even 16 colors are small enough.
    """
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    for colors in (256, 128, 64, 32, 16):
        file = io.BytesIO()
        image.quantize(colors, dither=Image.Dither.NONE).save(file, "png", optimize=True)
        if file.tell() < LARGEST:
            return file.getvalue()
    raise RuntimeError(f"Expected at most {LARGEST} bytes, but got {file.tell()}: shrink the view.")


def photograph_all(logdir: Path, output: Path, names: list[str]) -> list[Path]:
    """Photograph the dashboards.

    Args:
        logdir: Folder of the runs.
        output: Folder of the pictures.
        names: Which, of `VIEWS`.

    Returns:
        The files written.
    """
    browser = find_browser()
    from playwright.sync_api import sync_playwright

    output.mkdir(parents=True, exist_ok=True)
    with serving(logdir) as address, sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for name in names:
            # A page of its own forgets what was set in the one before.
            page = chromium.new_page(device_scale_factor=SCALE)
            picture = compress(photograph(page, address, VIEWS[name]))
            (output / f"{name}.png").write_bytes(picture)
            page.close()
        chromium.close()
    return [output / f"{name}.png" for name in names]


def main() -> None:
    """Photograph the dashboards of a run or a sweep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logdir", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("docs/figures"))
    parser.add_argument("--only", nargs="+", choices=VIEWS, default=list(VIEWS))
    arguments = parser.parse_args()
    for path in photograph_all(arguments.logdir, arguments.output, arguments.only):
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
