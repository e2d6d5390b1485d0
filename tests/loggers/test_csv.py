"""Lightning's CSV logger: read back from metrics.csv."""

import csv
import logging
from pathlib import Path

import pytest
from pytorch_lightning.loggers import CSVLogger

from tests.loggers.runs import FIGURES, run


def column(path: Path, name: str) -> dict[int, float]:
    """Return what a file tells of one key, by step."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {int(row["step"]): float(row[name]) for row in rows if row[name]}


@pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
def test_scalars_stand_at_the_steps_of_the_loss_and_the_rest_is_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        history = run(tmp_path, CSVLogger(tmp_path, "run", version=""), monkeypatch)
    metrics = tmp_path / "run" / "metrics.csv"
    logged = column(metrics, "lyapunov/max")
    assert list(logged) == history.steps
    assert list(column(metrics, "val/loss")) == history.steps[1:]
    assert list(logged.values()) == pytest.approx(history.exponents()[:, 0].tolist(), rel=1e-6)
    folder = tmp_path / "run" / "lyapunov"
    assert {path.stem for path in folder.glob("*.png")} == set(FIGURES)
    said = [record.message for record in caplog.records if "Lyapunov" in record.message]
    assert said == [
        "CSVLogger: Lyapunov exponents as scalars alone; spectra and figures are files in "
        f"{folder}.",
        "The sequences of 'rnn' are shorter than the 100 steps asked for: its Lyapunov spectra are "
        "over 10 sequences x 12 steps.",
    ]
