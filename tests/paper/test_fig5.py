import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_lyap.sweeps.csv_tables import read_table
from paper.fig5 import FIGURE, Warmups, findings, measure
from paper.jobs import plan
from paper.measuring import load_best
from paper.settings import Settings
from paper.training import train_network
from tests.paper.conftest import Commands
from tests.paper.test_jobs import tiny


@pytest.mark.slow
def test_the_command_runs_to_its_end(commands: Commands) -> None:
    done = commands.once(FIGURE)
    rows = read_table(done.folder / "fig5.csv")
    assert len(rows) == 2 * 3 * 25
    assert {row["warmup_steps"] for row in rows} == {"0", "5", "10"}
    last = [float(r["rms_difference_to_last"]) for r in rows if r["iteration"] == "25"]
    assert last == [0.0] * 6
    assert (done.folder / "fig5.png").stat().st_size < 100_000
    claims = json.loads((done.folder / "claims.json").read_text())
    assert [claim["item"] for claim in claims] == ["Fig. 5b", "Fig. 5c"] * 2


def test_every_warm_up_leads_into_the_same_steps(text: Path, settings: Settings) -> None:
    work = plan([tiny(text, epochs=1)], settings)
    train_network(*work[0])
    network = load_best(*work[0])
    arrays = measure(network, {"num_sequences": 2, "warmups": [0, 6], "num_steps": 8})
    batch = network.sequences(2, 14)
    for place, warmup in enumerate((0, 6)):
        # Without its warm-up the last steps, with it all of them.
        expected = network.spectrum(batch[:, 6 - warmup :], warmup_steps=warmup)
        mean = torch.from_numpy(arrays["course"][place, -1]).double()
        torch.testing.assert_close(mean, expected.exponents, atol=1e-6, rtol=1e-6)
    assert arrays["distances"].shape == (2, 2, 8)
    assert arrays["drawn_distances"].shape == (2, 8)


def made_up(*factors: float, spread: float = 0.1, drawn: float = 1.0) -> Warmups:
    """Five sequences whose early changes are smaller by these factors after two warm-ups."""
    scatter = 1 + spread * np.linspace(-1, 1, 5)
    falling = np.linspace(1.0, 0.0, 30)
    each = np.array([1.0, *(1 / factor for factor in factors)])
    distances = each[:, None, None] * np.stack([np.ones(5), scatter, scatter[::-1]])[..., None]
    mean = np.array([1.0, 1 / drawn, 1 / drawn])[:, None] * falling
    course = np.zeros((3, 30, 4))
    return Warmups("mocap", [0, 100, 250], course, distances * falling, mean, np.ones(4, bool))


@pytest.mark.parametrize(
    ("factor", "drawn", "verdict"),
    [(5.0, 5.0, "yes"), (1.2, 1.2, "no"), (1.2, 3.0, "undecided"), (2.0, 2.0, "undecided")],
)
def test_much_smaller_is_less_than_half(factor: float, drawn: float, verdict: str) -> None:
    made = findings(made_up(factor, factor, drawn=drawn))
    assert [finding.agree for finding in made] == [verdict, verdict]


def test_each_warm_up_is_judged_by_itself() -> None:
    made = findings(made_up(1.2, 5.0))
    assert [finding.agree for finding in made] == ["no", "yes"]
    assert "of 250 steps" in made[1].claim


def test_sequences_that_disagree_decide_nothing() -> None:
    assert findings(made_up(4.0, 4.0, spread=0.9, drawn=4.0))[0].agree == "undecided"


def test_only_the_first_iterations_count() -> None:
    late = made_up(5.0, 5.0)
    late.distances[0, :, 20:] = 1000.0
    assert findings(late)[0].agree == "yes"
    assert late.early[0] == pytest.approx(made_up(5.0, 5.0).early[0])
