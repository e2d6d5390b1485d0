"""The performance benchmark: each section with toy sizes, and the command."""

import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import run
from lightning_lyap import lyapunov_spectrum
from lightning_lyap.dynamics import LayerChoice, StateChoice
from lightning_lyap.dynamics.gates import prefers_dense
from lightning_lyap.orthonormal import random_orthonormal_basis
from performance import crossover, fit, laws, leading, over_time, overhead, parallel, peaks, union
from performance.clocks import Clocked
from performance.networks import characters, network
from performance.peak import Task
from performance.table import Bar, Result, Row
from performance.timing import Spread, Stopwatch, threads
from performance.twin import Twin, largest_difference
from tests.fake_clock import FakeClock

CPU = torch.device("cpu")


SYSTEMS: list[tuple[str, int, StateChoice, LayerChoice, int | None]] = [
    ("LSTM", 1, "hidden", "joint", None),
    ("LSTM", 1, "hidden", "joint", 2),
    ("LSTM", 1, "full", "joint", None),
    ("LSTM", 2, "full", "joint", 3),
    ("LSTM", 2, "hidden", "union", None),
    ("GRU", 2, "full", "joint", None),
    ("GRU", 2, "full", "union", None),
    ("RNN", 1, "full", "joint", None),
]


@pytest.mark.parametrize(("kind", "stack", "state", "layers", "count"), SYSTEMS)
def test_the_twin_is_the_package_in_float64(
    kind: str, stack: int, state: StateChoice, layers: LayerChoice, count: int | None
) -> None:
    module, inputs = network(kind, 4, stack, features=3).double(), characters(2, 6, 3).double()
    size = 4 * stack * (2 if (kind, state) == ("LSTM", "full") else 1)
    basis = None if count is None else random_orthonormal_basis(size, count, 5, torch.float64, CPU)
    start = None if basis is None else basis.expand(2, -1, -1)
    estimate = lyapunov_spectrum(module, inputs, initial_basis=start, state=state, layers=layers)
    blocks = stack if layers == "union" else 1
    exact = Twin(module, state).exponents(inputs, basis, blocks)
    assert exact.shape == estimate.per_sequence.shape
    assert largest_difference(estimate, exact) < 1e-10


class TestDifference:
    @pytest.fixture
    def exact(self) -> Tensor:
        return Twin(network("GRU", 4)).exponents(characters(2, 5))

    def test_a_planted_one_is_seen(self, exact: Tensor) -> None:
        estimate = lyapunov_spectrum(network("GRU", 4), characters(2, 5))
        exact[1, 2] += 0.5
        assert largest_difference(estimate, exact) == pytest.approx(0.5, abs=1e-4)

    def test_what_is_not_resolved_is_left_out(self, exact: Tensor) -> None:
        estimate = lyapunov_spectrum(network("GRU", 4), characters(2, 5))
        exact[1, 2] += 0.5
        lost = replace(estimate, resolved=estimate.order != 2)
        assert largest_difference(lost, exact) < 1e-4
        with pytest.raises(ValueError, match="Expected exponents that are resolved"):
            largest_difference(replace(estimate, resolved=estimate.order > 9), exact)


TOYS: dict[str, Callable[[torch.device], Result]] = {
    "overhead": partial(overhead.measure, overhead.Sizes(8, 2, 5, 2)),
    "leading": partial(leading.measure, leading.Sizes(8, 2, 6, 2, leading=3)),
    "laws": partial(
        laws.measure, laws.Sizes((4, 5, 6, 8), (2, 3, 4), (2, 3, 4), (3, 4, 5), (1, 2, 3), 2, 1)
    ),
    "crossover": partial(crossover.measure, crossover.Sizes((4,), 2, 1, gates=(4,))),
    "union": partial(union.measure, union.Sizes(((4, 2, 3),), 2, stack=2)),
    "parallel": partial(parallel.measure, parallel.Sizes(((8, 3, 2),), 2, 1, 1.0)),
    "over_time": partial(
        over_time.measure, over_time.Sizes((over_time.Case("GRU", 4, 2, 2, 12, 3),), 9, 2)
    ),
    "callback": partial(
        fit.measure,
        fit.Sizes(3, 4, 5, 2, 2, 2, 1, {"num_sequences": 2, "num_steps": 6, "figures": False}),
    ),
}
NUM_ROWS = {
    "overhead": 3,
    "leading": 8,
    "laws": 12,
    "crossover": 4,
    "union": 2,
    "parallel": 2,
    "over_time": 1,
    "callback": 5,
}


@pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
@pytest.mark.parametrize("name", TOYS)
def test_a_section_measures_to_the_end(name: str) -> None:
    result = TOYS[name](CPU)
    assert len({row.what for row in result.rows}) == len(result.rows) == NUM_ROWS[name]
    differences = [row.difference for row in result.rows if row.difference is not None]
    assert differences
    assert all(0 < difference < 1e-3 for difference in differences)
    for row in result.rows:
        assert all(math.isfinite(value) for value in row.found)
        assert row.found.lowest <= row.found.median <= row.found.highest
        assert f"| {row.what} |" in result.markdown()
    assert "{" not in result.text


def test_a_section_measures_on_its_device_by_its_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, clock = [], FakeClock()

    def watch(device: torch.device) -> Stopwatch:
        asked.append(device)
        return Stopwatch(clock, clock.taking(1.0), shortest=0.0)

    for module in (overhead, leading):
        monkeypatch.setattr(module, "stopwatch_of", watch)
    rows = [TOYS[name](CPU).rows[-2].found for name in ("overhead", "leading")]
    assert rows == [Spread(1.0, 1.0, 1.0, 2)] * 2
    assert asked == [CPU] * 4


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("overhead", overhead),
        ("crossover", crossover),
        ("union", union),
        ("parallel", parallel),
        ("over_time", over_time),
    ],
)
def test_the_first_of_two_is_divided_by_the_second(
    name: str, module: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "in_turn", lambda *given, **named: [[6.0, 3.0], [9.0, 1.0]])
    assert {row.found for row in TOYS[name](CPU).rows} == {Spread(5.5, 2.0, 9.0, 2)}


def test_all_exponents_are_divided_by_some(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [[12.0, 6.0, 4.0, 3.0, 2.0, 1.0, 0.5]]
    monkeypatch.setattr(leading, "in_turn", lambda *given, **named: times)
    rows = TOYS["leading"](CPU).rows
    assert [row.found.median for row in rows[:-1]] == [1, 2, 3, 4, 6, 12, 24]
    assert [None if row.bar is None else row.bar.value for row in rows] == [
        None,
        1.6,
        15,
        15,
        100,
        100,
        None,
        1e-3,
    ]


def test_the_bare_loop_has_the_products_of_the_spectrum() -> None:
    module, inputs = network("GRU", 5), characters(2, overhead.KEPT)
    found = overhead.bare_loop(overhead.jacobians(module, inputs), overhead.KEPT)
    torch.testing.assert_close(found, Twin(module).exponents(inputs), atol=1e-5, rtol=0)


@pytest.mark.parametrize("units", [128, 512])
@pytest.mark.parametrize("gates", [3, 4, 5])
def test_the_switch_lies_between_the_sides(gates: int, units: int) -> None:
    sides = crossover.sides(gates, units)
    assert [prefers_dense(gates, units, k) for k in sides] == [False, False, True, True]


def test_what_is_timed_is_the_problem() -> None:
    estimate = laws.Problem(4, 3, 5, count=6, stack=2, layers="union").call()()
    assert (estimate.tangent_size, estimate.num_exponents, estimate.num_sequences) == (8, 6, 3)
    assert estimate.steps.tolist() == [5, 5, 5]
    assert estimate.layer is not None
    assert laws.Problem(4, 3, 5, stack=2).call()().layer is None


def test_a_law_varies_one_size_alone() -> None:
    (found,) = (each for each in laws.QUICK.laws() if each.what == "L, complete, union")
    assert [p.stack for p in found.problems()] == [1, 2, 3, 4]
    assert {replace(p, stack=1) for p in found.problems()} == {
        laws.Problem(128, 4, 12, layers="union")
    }


class TestShares:
    def test_all_sequences_are_in_one_share_where_that_is_asked_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shared: list[int] = []

        def side_by_side(calls: list[Callable[..., None]], report: object) -> None:
            shared.append(len(calls))
            for call in calls:
                call(None)

        monkeypatch.setattr("lightning_lyap.groups.run_side_by_side", side_by_side)
        monkeypatch.setattr("lightning_lyap.groups.num_shares", lambda count: 2)
        run = partial(lyapunov_spectrum, network("RNN", 128), characters(2, 1))
        parallel.as_one_share(run)
        assert shared == []
        run()
        assert shared == [2]

    def test_neighbors_run_and_end(self) -> None:
        started = []

        def fail() -> None:
            with parallel.neighbors(2) as running:
                started.extend(running)
                assert [each.poll() for each in running] == [None, None]
                raise RuntimeError("within")

        with pytest.raises(RuntimeError, match="within"):
            fail()
        assert len(started) == 2
        assert all(each.poll() is not None for each in started)

    def test_a_neighbor_ends_with_its_parent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "getpid", lambda: 1)  # not the parent
        with parallel.neighbors(1) as (running,):
            assert running.wait(30) == 0


class TestChunksOfTime:
    @pytest.mark.parametrize(
        ("case", "outcome"),
        [
            (over_time.Case("GRU", 8, 1, 2, 40, 4), "1 round, certified"),
            (over_time.Case("GRU", 8, None, 2, 200, 5), "3 rounds, 2 of 2 finished plainly"),
            (over_time.Case("GRU", 8, 1, 2, 40, 1), "in one go"),
        ],
    )
    def test_the_outcome_is_said(self, case: over_time.Case, outcome: str) -> None:
        assert over_time._outcome(case.run(CPU, case.chunks)) == outcome

    def test_the_larger_difference_is_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(over_time.Case, "difference", lambda self, device: 0.5)
        (row,) = TOYS["over_time"](CPU).rows
        assert row.difference == 0.5


class TestPeaks:
    def test_a_fresh_process_tells_its_peak(self) -> None:
        found = peaks.peak(Task("LSTM", 256, 4))
        basis = 4 * 256 * 256 * 4
        assert found["estimated"] == 14 * basis
        assert 2 * basis < found["peak"] < 50 * basis
        assert 0 < found["difference"] < 1e-3

    def test_a_section_measures_to_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def peak(task: Task) -> dict[str, Any]:
            square = task.units**2
            numbers = square if task.count is None else task.units * task.count
            return {"peak": 3 * numbers, "estimated": 4 * square, "difference": 1e-5}

        monkeypatch.setattr(peaks, "peak", peak)
        large, small = Task("LSTM", 100_000, 10, count=64), Task("GRU", 16, 2)
        sizes = peaks.Sizes((8, 16, 32), (1, 2, 4), 2, 64, 4, (small,), large, 2)
        rows = peaks.measure(sizes, CPU).rows
        assert [row.found.median for row in rows[:3]] == pytest.approx([2, 1, 1])
        assert [row.found.median for row in rows[3:]] == pytest.approx([0.0192, 4.8e-4, 0.75, 0.75])
        assert [row.bar for row in rows if row.bar] == [Bar("<", 1.5), Bar("<=", 1.0)]

    def test_names_tell_tasks_apart(self) -> None:
        assert len({task.name for task in peaks.SYSTEMS}) == len(peaks.SYSTEMS)
        task = Task("GRU", 4, 2, stack=3, layers="union", state="full", every="auto", count=1)
        assert task.name == "GRU, 4 units, 3 layers union, full, K = 1, interval auto, B = 2"


class TestTheCallback:
    @staticmethod
    def rows(with_callback: fit.Fit, without: fit.Fit) -> dict[str, Row]:
        return {row.what: row for row in fit.compare([(with_callback, without)], 1e-6)}

    def test_fits_are_compared(self) -> None:
        one = fit.Fit(10.0, [1.0, 1.2], [0.5, 0.4], [0.5, 0.5], measuring=3.0)
        rows = self.rows(one, fit.Fit(6.0, [1.0, 1.0]))
        found = [row.found.median for row in rows.values()]
        assert found == pytest.approx([0.45, 0.9, 0.2, 0.75, 1.1])
        verdicts = [row.line().split(" | ")[5] for row in rows.values()]
        assert verdicts == ["-", "-", "not met", "-", "not met"]

    def test_every_logged_fraction_has_its_partner(self) -> None:
        with pytest.raises(ValueError, match="shorter"):
            self.rows(fit.Fit(1.0, [1.0], [0.5], []), fit.Fit(1.0, [1.0]))

    def test_the_clock_outside_sees_all_of_the_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = FakeClock()
        monkeypatch.setattr("time.perf_counter", clock)
        ours = Clocked()
        ours._since = 0.0
        trainer: Any = type("T", (), {"sanity_checking": False})()
        hook, last = (
            ours._clocked(lambda trainer: clock.taking(1.0)(), end) for end in (False, True)
        )
        for idle in (2.0, 6.0):
            clock.now += idle
            hook(trainer)
            last(trainer)
        assert ours.fractions == [0.5, 0.25]
        trainer.sanity_checking = True
        last(trainer)
        assert len(ours.fractions) == 2


class TestCommand:
    @pytest.fixture(autouse=True)
    def _toys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        names = ("overhead", "union")
        devices = {"overhead": ("cpu", "cuda"), "union": ("cpu",)}
        toys = {name: run.Section(TOYS[name], TOYS[name], devices[name]) for name in names}
        monkeypatch.setattr(run, "SECTIONS", toys)

    def test_sections_measured_one_by_one_make_a_page(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        store, target = tmp_path / "store", tmp_path / "page.md"
        run.main(["--sections", "union", "--store", str(store)])
        assert "## Layers by themselves" in capsys.readouterr().out
        run.main(["--sections", "overhead", "--store", str(store), "--write", str(target)])
        text = target.read_text(encoding="utf-8")
        assert text.index("## Overhead") < text.index("## Layers by themselves")
        assert "GRU, 8 units" in text
        before = text
        run.main(["--sections", "--store", str(store), "--write", str(target)])
        assert target.read_text(encoding="utf-8") == before

    def test_all_sections_are_measured_unless_some_are_named(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run.main(["--quick"])
        assert capsys.readouterr().out.count("\n## ") >= 2

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--device", "cuda", "--sections", "union"], r"run on cuda, but got \['union'\]"),
            (["--quick", "--write", "x"], "Expected --write alone"),
            (["--sections", "union", "--write", "x"], r"but not \['overhead'\]"),
            (["--sections", "nonsense"], "invalid choice"),
        ],
    )
    def test_what_cannot_be_is_said_before_anything_is_measured(
        self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            run.main(arguments)
        error = " ".join(capsys.readouterr().err.split())
        assert re.search(message, error)

    def test_a_section_has_one_thread_and_says_what_torch_had(self) -> None:
        seen = []

        def measure(device: torch.device) -> Result:
            seen.append(torch.get_num_threads())
            return Result("x", "y")

        with threads(2):
            found = run.measured(run.Section(measure, measure), CPU, quick=True)
        assert seen == [1]
        assert (found.machine.threads, found.quick) == (2, True)


def test_quick_sections_are_smaller_than_full_ones() -> None:
    for name, each in run.SECTIONS.items():
        assert each.full.args != each.quick.args, name  # type: ignore[attr-defined]
    assert {name for name, each in run.SECTIONS.items() if "cuda" in each.devices} == {
        "overhead",
        "leading",
        "cuda",
        "replayed",
        "waits",
        "over_time",
    }
