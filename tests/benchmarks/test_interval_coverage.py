"""What intervals cover: replicates side by side are calls of their own, and shares are counted."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import interval_coverage
from covering.counting import coverage
from covering.networks import Source
from covering.page import HEADER, TITLES, page
from covering.replicates import CASES, STATISTICS, Case, described, measure, replicates, taken_apart
from lightning_lyap import lyapunov_spectrum

TRUTH = {"exponents": [0.1, -0.2, -9.0], "margins": [0.0, 0.03, 0.0], "statistics": {"mean": -0.05}}


def replicate(first: float, second: float, settled: list[bool], high: float) -> dict[str, Any]:
    return {
        "exponents": [first, second],
        "margins": [0.04, 0.04],
        "standard_errors": [0.02, 0.02],
        "settled": settled,
        "resolved": [1.0, 0.5],
        "intervals": {"mean": [-0.1, high]},
    }


def source() -> Source:
    torch.manual_seed(0)
    network = torch.nn.RNN(2, 4, batch_first=True).double()

    def draw(count: int, steps: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(count, steps, 2, generator=generator, dtype=torch.float64)

    return Source(network, draw, draw(3, 60, torch.Generator()))


def test_shares_are_of_settled_exponents_and_allow_for_both_margins() -> None:
    counted = coverage(
        [
            replicate(0.13, -0.151, [True, True], 0.0),  # 0.049 is within 0.03 and 0.04 together
            replicate(0.15, -0.14, [True, True], -0.05),
            replicate(0.25, -0.2, [False, True], -0.06),
        ],
        TRUTH,
        few=2,
    )
    assert counted.resolved == pytest.approx((1 + 0.5**10) / 2)
    assert counted.settled == pytest.approx(5 / 6)
    assert counted.covered == pytest.approx(3 / 5)
    assert (counted.worst, counted.worst_index) == (0.5, 0)
    assert counted.largest == 0.5
    assert counted.bias == pytest.approx((0.03 + 0.05 + 0.15) / 3 / 0.04)
    assert counted.spread == pytest.approx(torch.tensor([0.03, 0.05, 0.15]).std().item() / 0.02)
    assert counted.statistics == {"mean": pytest.approx(2 / 3)}


def test_shares_of_nothing_are_nan() -> None:
    counted = coverage([replicate(0.1, -0.2, [False, False], 0.0)], TRUTH)
    assert counted.settled == 0
    assert counted.worst_index is None
    assert all(math.isnan(x) for x in (counted.covered, counted.worst, counted.largest))


@pytest.mark.parametrize("warmup_steps", ["auto", 0])
def test_an_estimate_taken_apart_is_that_of_each_part(warmup_steps: Any) -> None:
    drawn = source()
    inputs = drawn.draw(12, 300, torch.Generator().manual_seed(1))
    settings: dict[str, Any] = {"warmup_steps": warmup_steps, "num_exponents": 3}
    whole = lyapunov_spectrum(drawn.network, inputs, keep_log_stretches=True, **settings)
    parts = list(taken_apart(whole, 4))
    assert len(parts) == 3
    for part, rows in zip(parts, inputs.split(4), strict=True):
        alone = lyapunov_spectrum(drawn.network, rows, **settings)
        for name in ("exponents", "margins", "settled", "std"):
            torch.testing.assert_close(getattr(part, name), getattr(alone, name))
        assert (part.num_steps, part.warmup_steps) == (alone.num_steps, alone.warmup_steps)
        assert set(described(part)["intervals"]) == set(STATISTICS)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_replicates_are_as_many_as_asked_for_and_the_page_has_a_row_for_each_case(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn = source()
    found = replicates(drawn, Case("GRU", "full", 2, 40, "auto"), 3)
    assert [len(one["exponents"]) for one in found] == [2, 2, 2]
    calls = []

    def made(kind: str, data_dir: str | None = None) -> Source:
        calls.append(kind)
        return drawn

    monkeypatch.setattr("covering.replicates.chaotic_network", lambda: made("tanh"))
    monkeypatch.setattr("covering.replicates.trained_network", made)
    monkeypatch.setattr("covering.replicates.LONG_WARMUP", 20)
    monkeypatch.setattr("covering.replicates.CASES", [replace(c, count=None) for c in CASES[:4]])
    kept = measure(tmp_path, 2, None)
    assert calls == ["tanh", "LSTM", "GRU"]
    assert measure(tmp_path, 2, None) == kept
    assert calls == ["tanh", "LSTM", "GRU"]
    every = {case.name: found for case in CASES} | {f"{name}-long": found[0] for name in TITLES}
    lines = page(every).splitlines()
    assert lines.count(HEADER.splitlines()[0]) == 2
    assert sum(line.startswith("| ") for line in lines) == len(CASES) + 8 + 2 * 3 + 2 - 2


def test_the_page_in_docs_has_every_row() -> None:
    text = interval_coverage.PAGE.read_text(encoding="utf-8")
    assert "`python -m benchmarks.interval_coverage --out FOLDER --write`" in text
    rows = re.findall(r"^\| (.+?) \| (\d+) \| 10 x (\d+) \| \d+ \|", text, flags=re.MULTILINE)
    assert [(name, int(steps)) for name, _, steps in rows] == [
        (TITLES[f"{case.network}-{case.state}"], case.steps) for case in CASES
    ]
