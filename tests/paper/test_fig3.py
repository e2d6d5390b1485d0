import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_lyap.sweeps.csv_tables import read_table
from paper.courses import Course
from paper.fig3 import FIGURE, findings
from tests.paper.conftest import Commands


def test_the_command_runs_to_its_end(commands: Commands) -> None:
    folder = commands.once(FIGURE).folder
    rows = read_table(folder / "fig3.csv")
    assert [(row["init_p"], row["epoch"]) for row in rows[:4]] == [
        ("0.04", f"{epoch}.0") for epoch in range(4)
    ]
    assert len(rows) == 8
    assert Image.open(folder / "fig3.png").width > 800
    assert (folder / "fig3.png").stat().st_size < 100_000
    assert "init_p" not in (folder / "settings.yaml").read_text().splitlines()[0]
    claims = json.loads((folder / "claims.json").read_text())
    assert [claim["item"] for claim in claims] == ["Fig. 3", "Fig. 3d", "Fig. 3e", "Fig. 3e"]
    assert claims[0]["command"].startswith("python -m paper.fig3 scale=tiny data=synthetic +scale")


def made_up(p: float, power: float, start: float = -1.0) -> Course:
    """A spectrum whose squared steps fall like a power of time."""
    steps = np.sqrt(np.arange(1.0, 16.0) ** power)
    path = np.concatenate([[0.0], steps.cumsum()]) * -start
    exponents = path[:, None] + np.linspace(0, -3, 5)
    return Course(p, np.arange(16, dtype=np.float64), exponents, np.ones(5, dtype=bool))


def test_a_power_law_is_found() -> None:
    assert made_up(0.1, -1.3).slope == pytest.approx(-1.3)


def test_steps_and_distances_leave_out_what_is_not_resolved() -> None:
    whole = made_up(0.1, -1.0)
    spoiled = np.column_stack([whole.exponents, np.random.default_rng(0).normal(size=16)])
    kept = np.array([True] * 5 + [False])
    partial = Course(0.1, whole.epochs, spoiled, kept)
    np.testing.assert_array_equal(partial.steps, whole.steps)
    np.testing.assert_array_equal(partial.distances, whole.distances)
    np.testing.assert_array_equal(partial.mean, whole.mean)


@pytest.mark.parametrize(
    ("powers", "verdict"),
    [((-0.9, -1.0, -1.2), "yes"), ((-2.0, -2.1, -2.2), "no"), ((1.0, -3.0, 0.0), "undecided")],
)
def test_one_over_t_is_judged_by_the_interval(powers: tuple[float, ...], verdict: str) -> None:
    courses = [made_up(0.1 * i, power) for i, power in enumerate(powers)]
    assert findings(courses)[1].agree == verdict


def test_from_below_and_from_above() -> None:
    below, above = made_up(0.1, -3.0), made_up(0.1, -3.0, start=1.0)
    assert (below.below, above.below) == (1.0, 0.0)
    assert findings([below, below])[2].agree == "yes"
    assert findings([below, above])[2].agree == "no"
    assert findings([below, below, above])[2].agree == "undecided"
    assert findings([below, below])[3].agree == "no"
    assert findings([above, above])[3].agree == "yes"


def test_settled_is_the_epoch_from_which_the_rest_is_small() -> None:
    path = np.array([0.0, 0.5, 0.9, 0.6, 0.95, 1.0])
    c = Course(
        0.1, np.arange(6, dtype=np.float64), path[:, None] + np.zeros(3), np.ones(3, dtype=bool)
    )
    assert c.settled == 4
    assert findings([c])[0].agree == "yes"


def test_no_epochs_is_said(tmp_path: Path, commands: Commands) -> None:
    done = commands.run(FIGURE, "deadline=0", out=tmp_path)
    assert "The time is over: 2 of 2 networks not begun." in done.said
    assert "Not drawn yet: Expected networks of at least 3 epochs" in done.said
    assert not (done.folder / "fig3.png").exists()
