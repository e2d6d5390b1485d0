"""Shares of the sequences side by side give what one group gives."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import lyapunov_spectrum
from lightning_lyap.certificate.along_the_run import Inspector
from lightning_lyap.dynamics import as_dynamics
from lightning_lyap.dynamics.stacked import StackedRecurrence
from lightning_lyap.estimator import batching, spectrum
from lightning_lyap.estimator.batching import THREADED_ENTRIES, num_shares, split_evenly
from tests.compare import assert_near

SETTINGS: dict[str, dict[str, Any]] = {
    "complete": {},
    "few exponents": {"num_exponents": 2, "orthonormalize_every": 3},
    "warm-up": {"warmup_steps": 5, "orthonormalize_every": 4},
    "lengths": {"lengths": [9, 30, 17, 30, 12], "warmup_steps": 2},
    "union": {"layers": "union"},
    "a target": {"target_stderr": 1e-9},
}


@pytest.fixture
def split(monkeypatch: pytest.MonkeyPatch) -> Any:
    def by(count: int) -> None:
        monkeypatch.setattr(batching, "THREADED_ENTRIES", 1)
        monkeypatch.setattr(batching, "usable_threads", lambda: count)

    return by


@pytest.mark.parametrize("settings", SETTINGS)
def test_shares_give_the_same_estimate(settings: str, split: Any) -> None:
    network = nn.GRU(2, 4, num_layers=2, batch_first=True, dtype=torch.float64)
    inputs = torch.randn(5, 30, 2, dtype=torch.float64)
    more = {"keep_log_stretches": True} | SETTINGS[settings]
    split(1)
    whole = lyapunov_spectrum(network, inputs, **more)
    split(3)
    parts = lyapunov_spectrum(network, inputs, **more)
    for name in ("exponents", "per_sequence", "standard_errors", "log_stretches", "final_state"):
        assert_near(getattr(parts, name), getattr(whole, name), 1e-11)
    assert_near(parts.final_basis, whole.final_basis, 1e-9)
    assert torch.equal(parts.block_ends, whole.block_ends)
    assert parts.certificate.num_factorizations == whole.certificate.num_factorizations
    assert parts.certificate.checks.keys() == whole.certificate.checks.keys()
    assert parts.certificate.passed


def test_shares_choose_intervals_of_their_own_within_the_tolerance(split: Any) -> None:
    network = nn.GRU(2, 6, batch_first=True, dtype=torch.float64)
    inputs = torch.randn(6, 60, 2, dtype=torch.float64)
    exact = lyapunov_spectrum(network, inputs)
    split(3)
    auto = lyapunov_spectrum(network, inputs, orthonormalize_every="auto", keep_log_stretches=True)
    assert_near(auto.exponents, exact.exponents, 1e-6)
    assert auto.certificate.num_factorizations < 30
    assert auto.log_stretches is not None
    assert auto.log_stretches.shape == (len(auto.block_ends), 6, 6)
    total = auto.log_stretches.sum(0) / 60
    assert_near(total, auto.per_sequence, 1e-12)


def test_progress_counts_the_steps_of_the_longest_share(split: Any) -> None:
    split(3)
    seen: list[tuple[int, int]] = []
    lengths = [4, 4, 20, 6]
    lyapunov_spectrum(
        nn.RNN(1, 3),
        torch.randn(4, 20, 1),
        lengths=lengths,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(step, 20) for step in range(1, 21)]


@pytest.mark.parametrize(("total", "count"), [(10, 1), (10, 3), (10, 10), (7, 2)])
def test_shares_cover_all_rows_evenly(total: int, count: int) -> None:
    parts = split_evenly(slice(5, 5 + total), count)
    assert [row for part in parts for row in range(part.start, part.stop)] == [*range(5, 5 + total)]
    sizes = {part.stop - part.start for part in parts}
    assert max(sizes) - min(sizes) <= 1


def test_who_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "usable_threads", lambda: 4)
    torchs = as_dynamics(nn.GRU(1, 3), None, "full", None)
    own = as_dynamics(lambda x, h: torch.tanh(h + x), torch.zeros(2, 3), "full", None)
    side = int(THREADED_ENTRIES**0.5)
    large, small = torch.empty(8, side, side), torch.empty(8, side, side - 1)
    assert num_shares(torchs, large) == 4
    assert num_shares(torchs, large[:2]) == 2
    assert num_shares(torchs, small) == 1
    assert num_shares(own, large) == 1
    assert num_shares(torchs, large.to("meta")) == 1


@pytest.mark.parametrize(("size", "count", "alone"), [(3, 3, True), (4, 2, False), (2, 2, True)])
def test_small_systems_run_on_one_thread(
    size: int, count: int, alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "THREADED_SIZE", 4)
    entered: list[int] = []

    @contextmanager
    def single_threaded() -> Iterator[None]:
        entered.append(1)
        yield

    monkeypatch.setattr(batching, "single_threaded", single_threaded)
    lyapunov_spectrum(nn.RNN(1, size), torch.randn(2, 5, 1), num_exponents=count)
    assert len(entered) == 1 + alone  # once for what is done once


@pytest.mark.parametrize("name", ["checks_beside_the_run", "assemble"])
def test_what_is_done_once_is_done_on_one_thread(
    name: str, split: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that wait for each other beside other work take a hundred times as long."""
    numbers: list[int] = []
    deferred, own = Inspector.check_deferred, getattr(spectrum, name)

    def counted(call: Any, *given: Any) -> Any:
        numbers.append(torch.get_num_threads())
        return call(*given)

    monkeypatch.setattr(Inspector, "check_deferred", lambda inspector: counted(deferred, inspector))
    monkeypatch.setattr(spectrum, name, partial(counted, own))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        split(2)
        lyapunov_spectrum(nn.GRU(1, 3), torch.randn(4, 5, 1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert numbers == [1, 1, 1]


def test_a_users_step_keeps_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "single_threaded", lambda: pytest.fail("on one thread"))
    start = torch.zeros(2, 3)
    lyapunov_spectrum(
        lambda x, h: torch.tanh(h + x), torch.randn(2, 5, 1), initial_state=start, num_exponents=1
    )


def test_determinants_are_computed_for_one_share(
    split: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    own = StackedRecurrence.log_abs_det

    def count(system: StackedRecurrence, drive: Tensor, state: Any) -> Tensor:
        calls.append(len(drive))
        return own(system, drive, state)

    monkeypatch.setattr(StackedRecurrence, "log_abs_det", count)
    found = []
    for shares_wanted in (1, 4):
        split(shares_wanted)
        calls.clear()
        lyapunov_spectrum(nn.GRU(1, 3), torch.randn(4, 5, 1))
        found.append(list(calls))
    assert found[0] == found[1] != []


def test_a_failing_share_fails_the_estimate(split: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(basis: Tensor) -> None:
        raise RuntimeError(f"mine: {basis.shape[0]}")

    split(2)
    monkeypatch.setattr("lightning_lyap.estimator.trajectories.orthonormalize", fail)
    with pytest.raises(RuntimeError, match="mine"):
        lyapunov_spectrum(nn.RNN(1, 3), torch.randn(4, 5, 1))


@pytest.mark.parametrize("mode", [torch.inference_mode, lambda: torch.autocast("cpu")])
def test_shares_leave_the_modes_of_the_caller_behind(mode: Any, split: Any) -> None:
    network, inputs = nn.GRU(2, 20, batch_first=True), torch.randn(4, 6, 2)
    split(1)
    plain = lyapunov_spectrum(network, inputs)
    split(2)
    with mode():
        shared = lyapunov_spectrum(network, inputs)
    assert_near(shared.exponents, plain.exponents, 1e-5)
    assert shared.certificate.passed
