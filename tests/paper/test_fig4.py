import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lightning_lyap.sweeps.comparison import compare_runs
from lightning_lyap.sweeps.csv_tables import read_table
from lightning_lyap.sweeps.runs import find_spectra, load_runs
from paper.fig4 import FIGURE, findings
from paper.records import read_record
from tests.paper.conftest import Commands
from tests.sweep_runs import leave_run

ROOT = Path(__file__).resolve().parents[2]


def test_the_command_runs_to_its_end_for_both_tasks(commands: Commands) -> None:
    folder = commands.once(FIGURE).folder
    rows = read_table(folder / "fig4.csv")
    assert [row["task"] for row in rows] == ["charrnn"] * 4 + ["mocap"] * 4
    assert all(row["dropout"] for row in rows[:4])
    assert all(0.05 <= float(row["init_p"]) <= 0.5 for row in rows[4:])
    assert (folder / "fig4.png").stat().st_size < 100_000


@pytest.mark.parametrize(("sign", "verdict"), [(1, "yes"), (-1, "no")])
def test_the_maximum_is_judged_by_its_distance_from_zero(
    tmp_path: Path, sign: int, verdict: str
) -> None:
    for i in range(12):
        # On both sides of zero: what counts is the distance.
        top = (-1) ** i * (0.1 + 0.1 * i)
        leave_run(tmp_path / str(i) / "x", {1.0: [top, -3.0 - i * 5 % 7]}, [2 + sign * 0.1 * i])
    runs, _ = load_runs(find_spectra([str(tmp_path)]), "val/loss")
    first, _ = findings("charrnn", compare_runs(runs))
    assert first.agree == verdict
    assert "n = 12" in first.result


@pytest.mark.slow
def test_a_killed_command_goes_on_where_it_stopped(tmp_path: Path, commands: Commands) -> None:
    more = ["tasks=[charrnn]", "scale.charrnn_random.epochs=6", "scale.charrnn_random.count=3"]
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "paper.fig4", *commands.words(out), *more],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    second = "charrnn-draw01-*/checkpoints/last.ckpt"
    end = time.monotonic() + 240
    while not list((out / "networks").glob(second)) and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (marker,) = (out / "networks").glob("*/finished.json")
    assert "draw00" in str(marker)
    (begun,) = (out / "networks").glob(second)
    done = torch.load(begun, weights_only=True)["epoch"] + 1
    assert done < 6
    files = [path for path in marker.parent.rglob("*") if path.is_file()]
    before = [path.stat().st_mtime_ns for path in files]

    again = commands.run(FIGURE, *more, out=out)
    assert "charrnn-draw00: was there, epoch 6 of 6" in again.said
    assert [path.stat().st_mtime_ns for path in files] == before
    rows = read_table(again.folder / "fig4.csv")
    assert [row["network"] for row in rows] == [f"charrnn-draw0{i}" for i in range(3)]

    commands.run(FIGURE, *more[:2], "scale.charrnn_random.count=2", "deadline=1e6", out=tmp_path)
    (whole,) = (tmp_path / "networks").glob("charrnn-draw01-*")
    resumed, uninterrupted = read_record(begun.parents[1]), read_record(whole)
    assert resumed is not None
    assert uninterrupted is not None
    assert resumed.losses == uninterrupted.losses
    assert torch.equal(resumed.history.exponents(), uninterrupted.history.exponents())
