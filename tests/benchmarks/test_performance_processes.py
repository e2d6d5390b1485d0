"""Sections of the performance benchmark that start processes: beside neighbors, and for peaks."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from lightning_lyap import lyapunov_spectrum
from performance import parallel, peaks
from performance.networks import characters, network
from performance.peak import Task
from performance.table import Bar
from tests.toy_sections import CPU


class TestShares:
    def test_all_sequences_are_in_one_share_where_that_is_asked_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shared: list[int] = []

        def side_by_side(calls: list[Callable[..., None]], report: object) -> None:
            shared.append(len(calls))
            for call in calls:
                call(None)

        monkeypatch.setattr("lightning_lyap.estimator.batching.run_side_by_side", side_by_side)
        monkeypatch.setattr("lightning_lyap.estimator.batching.usable_threads", lambda: 2)
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


class TestPeaks:
    @pytest.mark.slow
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
