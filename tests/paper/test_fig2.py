import json

import numpy as np
import pytest

from lightning_lyap.sweeps.csv_tables import read_table
from paper.fig2 import FIGURE, findings, nearly_all
from paper.settling import Settling
from tests.paper.conftest import Commands

K = 20
LINE = np.linspace(-1.0, -5.0, K)


def test_the_command_runs_to_its_end(commands: Commands) -> None:
    done = commands.once(FIGURE)
    rows = read_table(done.folder / "fig2.csv")
    assert [row["task"] for row in rows] == ["charrnn"] * 8 + ["mocap"] * 8
    exponents = [float(row["exponent"]) for row in rows[:8]]
    assert exponents == sorted(exponents, reverse=True)
    assert (done.folder / "fig2.png").stat().st_size < 100_000
    claims = json.loads((done.folder / "claims.json").read_text())
    assert [claim["item"] for claim in claims] == ["Fig. 2a", "Fig. 2a", "Fig. 2b"] * 2
    again = commands.run(FIGURE)
    assert "fig2 was measured after epoch" in again.said
    assert "fig2 measured" not in again.said


def made_up(moved: float, left: float, spread: float, noisy: int = 0) -> Settling:
    """Exponents that move over the last steps, are away from their last values, and differ."""
    values = np.stack([LINE * (1 + left) * (1 + moved), LINE * (1 + left), LINE])
    moments = np.repeat(values[:, None], 4, axis=1)
    moments[:2, :, K - noisy :] = 100.0
    resolved = np.arange(K) < K - noisy
    signs = np.array([1.0, -1.0] * 5)[:, None]
    per_sequence = LINE + spread * signs * np.where(resolved, 1, 1000)
    steps = np.array([90, 100, 1000])
    return Settling("mocap", 100, steps, values, moments, resolved, per_sequence, resolved)


@pytest.mark.parametrize(
    ("moved", "left", "verdicts"),
    [
        (0.005, 0.04, ["yes", "yes"]),
        (0.02, 0.04, ["no", "yes"]),
        (0.005, -0.06, ["yes", "no"]),
    ],
)
def test_steady_and_settled_are_told_apart(moved: float, left: float, verdicts: list[str]) -> None:
    assert [finding.agree for finding in findings(made_up(moved, left, 0.01))][:2] == verdicts


@pytest.mark.parametrize(("spread", "verdict"), [(0.1, "yes"), (0.4, "no")])
def test_a_spread_is_small_beside_the_range(spread: float, verdict: str) -> None:
    assert findings(made_up(0.0, 0.0, spread))[2].agree == verdict


def test_what_is_not_resolved_takes_no_part() -> None:
    clean, noisy = (findings(made_up(0.001, 0.01, 0.01, noisy)) for noisy in (0, 2))
    assert [finding.agree for finding in clean] == [finding.agree for finding in noisy]
    assert "18 exponents" in noisy[1].result


def test_near_zero_a_floor_decides() -> None:
    settling = made_up(0.0, 0.0, 0.01)
    settling.moments[1, :, 0] = settling.moments[2, :, 0] = 0.001
    settling.moments[1, :, 0] += 0.009
    assert settling.shares(1, 2, 0.05).tolist() == [1.0] * 4
    settling.moments[1, :, 0] += 0.002
    assert settling.shares(1, 2, 0.05).tolist() == [1 - 1 / K] * 4


def test_few_sequences_that_disagree_decide_nothing() -> None:
    assert nearly_all(np.array([0.5, 1.0])) == "undecided"
    assert nearly_all(np.array([1.0])) == "undecided"
