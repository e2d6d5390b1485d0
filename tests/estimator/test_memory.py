"""Sequences that don't fit into the memory together are run in groups, with the same result."""

from pathlib import Path

import pytest
import torch
from torch import nn

from lightning_lyap import _device as memory
from lightning_lyap import lyapunov_spectrum
from lightning_lyap._device import free_bytes
from lightning_lyap.dynamics import as_dynamics
from lightning_lyap.dynamics.base import DynamicalSystem
from lightning_lyap.estimator import batching
from lightning_lyap.estimator.batching import (
    bytes_per_sequence,
    sequences_that_fit,
    split_into_groups,
)
from tests.compare import assert_near

CPU = torch.device("cpu")


def _system(size: int = 4, dtype: torch.dtype = torch.float32) -> DynamicalSystem:
    return as_dynamics(nn.GRU(1, size, dtype=dtype), None, "full", None)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    return tmp_path


def test_the_smaller_of_what_is_free_and_what_is_allowed(files: Path) -> None:
    assert free_bytes(CPU) is None
    (files / "meminfo").write_text("MemTotal: 900 kB\nMemFree: 1 kB\nMemAvailable:   300 kB\n")
    assert free_bytes(CPU) == 300 * 1024
    (files / "memory.max").write_text("max\n")
    (files / "memory.current").write_text("5000\n")
    (files / "memory.stat").write_text("anon 5000\n")
    assert free_bytes(CPU) == 300 * 1024
    (files / "memory.max").write_text("105000\n")
    assert free_bytes(CPU) == 100_000
    (files / "meminfo").write_text("MemTotal: 900 kB\n")
    assert free_bytes(CPU) == 100_000


def test_what_a_group_keeps_of_files_is_free(files: Path) -> None:
    (files / "memory.max").write_text("100000\n")
    (files / "memory.current").write_text("99000\n")
    (files / "memory.stat").write_text("anon 9000\nactive_file 30000\ninactive_file 60000\n")
    assert free_bytes(CPU) == 91_000


def test_groups_of_the_first_version(files: Path) -> None:
    (files / "memory").mkdir()
    (files / "memory" / "memory.limit_in_bytes").write_text("100000\n")
    (files / "memory" / "memory.usage_in_bytes").write_text("99000\n")
    (files / "memory" / "memory.stat").write_text(
        "cache 50\ninactive_file 7\ntotal_inactive_file 60000\ntotal_active_file 30000\n"
    )
    assert free_bytes(CPU) == 91_000


def test_on_cuda_the_cache_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    assert free_bytes(torch.device("cuda", 0)) == 1300


def test_elsewhere_nothing_is_known() -> None:
    assert free_bytes(torch.device("meta")) is None


def test_the_peak_grows_with_vectors_directions_and_precision() -> None:
    single, double = (
        bytes_per_sequence(_system(dtype=d), 4) for d in (torch.float32, torch.float64)
    )
    assert single == 4 * 4 * (12 * 4 + 2 * 4)
    assert double == 2 * single
    assert bytes_per_sequence(_system(8), 8) == 4 * single


@pytest.mark.parametrize(("free", "fitting"), [(None, None), (0, 1), (20, 10), (21, 10)])
def test_half_of_it_may_be_taken(
    free: int | None, fitting: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = bytes_per_sequence(_system(), 2)
    monkeypatch.setattr(batching, "free_bytes", lambda device: free if free is None else free * one)
    assert sequences_that_fit(_system(), 2) == fitting


@pytest.mark.parametrize(
    ("target", "most", "expected"),
    [
        (None, None, [(0, 40)]),
        (None, 40, [(0, 40)]),
        (None, 15, [(0, 13), (13, 26), (26, 40)]),
        (0.1, 12, [(0, 8), (8, 16), (16, 24), (24, 32), (32, 40)]),
    ],
)
def test_groups_are_no_larger_than_what_fits(
    target: float | None, most: int | None, expected: list[tuple[int, int]]
) -> None:
    assert [(rows.start, rows.stop) for rows in split_into_groups(40, target, most)] == expected


@pytest.mark.parametrize("every", [1, 4])
def test_groups_give_the_same_estimate(every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.GRU(2, 3, batch_first=True, dtype=torch.float64)
    inputs, seen = torch.randn(5, 12, 2, dtype=torch.float64), []
    found = []
    for most in (None, 2):
        monkeypatch.setattr(
            "lightning_lyap.estimator.spectrum.sequences_that_fit", lambda *_, m=most: m
        )
        estimate = lyapunov_spectrum(
            network,
            inputs,
            lengths=[12, 12, 7, 12, 9],
            orthonormalize_every=every,
            keep_log_stretches=True,
            progress=lambda done, total: seen.append((done, total)),
        )
        found.append(estimate)
    whole, parts = found
    for name in ("exponents", "per_sequence", "standard_errors", "log_stretches", "final_basis"):
        assert_near(getattr(parts, name), getattr(whole, name), 1e-11)
    assert_near(parts.final_state, whole.final_state, 1e-12)
    assert seen[:12] == [(step, 12) for step in range(1, 13)]
    assert seen[12:] == [(step, 36) for step in range(1, 37)]
