"""The callback on two processes (gloo): equal numbers, each sequence once, no hang."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_lyap import SpectrumHistory
from tests.ddp_run import main

ROOT = Path(__file__).resolve().parents[2]
needs_gloo = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="needs torch.distributed with gloo",
)


def start(
    folder: Path, case: str, devices: int, strategy: str, on_error: str
) -> "subprocess.CompletedProcess[str]":
    words = [str(folder), case, str(devices), strategy, on_error]
    return subprocess.run(
        [sys.executable, "-m", "tests.ddp_run", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def run(
    folder: Path, case: str, devices: int, strategy: str = "ddp"
) -> tuple[list[dict[str, Any]], str]:
    if devices == 1:
        main(folder, case, 1, "auto", "warn")
        return [torch.load(folder / "1-0.pt", weights_only=True)], ""
    done = start(folder, case, devices, strategy, "warn")
    assert done.returncode == 0, done.stdout + done.stderr
    files = [folder / f"{devices}-{rank}.pt" for rank in range(devices)]
    return [torch.load(file, weights_only=True) for file in files], done.stdout + done.stderr


def assert_same_state(one: Any, other: Any) -> None:
    """Two states hold the same tensors, numbers and texts but for the seconds measured."""
    for ours, theirs in ((one, other), (one["histories"]["rnn"], other["histories"]["rnn"])):
        assert ours.keys() == theirs.keys()
    assert one["validations"] == other["validations"]
    here, there = (SpectrumHistory() for _ in range(2))
    here.load_state_dict(one["histories"]["rnn"])
    there.load_state_dict(other["histories"]["rnn"])
    assert torch.equal(here.exponents(), there.exponents())
    assert (here.epochs, here.steps) == (there.epochs, there.steps)


@pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
@needs_gloo
@pytest.mark.parametrize(
    ("case", "strategy"), [("sound", "ddp"), ("watched", "ddp"), ("sound", "ddp_spawn")]
)
def test_two_processes_measure_what_one_does(tmp_path: Path, case: str, strategy: str) -> None:
    (one,), _ = run(tmp_path, case, 1)
    two, _ = run(tmp_path, case, 2, strategy)
    for result in two:
        torch.testing.assert_close(result["before"], one["before"], rtol=0, atol=1e-12)
        assert result["failures"] == 0
        assert result["num_sequences"] == [5, 5]
    assert two[0]["max"] == two[1]["max"]
    assert torch.equal(two[0]["after"], two[1]["after"])
    assert_same_state(two[0]["state"], two[1]["state"])
    saved = torch.load(tmp_path / "2" / "last.ckpt", weights_only=True)["callbacks"]
    key = next(key for key in saved if key.startswith("LyapunovSpectrumCallback"))
    assert_same_state(saved[key], two[1]["state"])
    if case == "sound":
        for result in two:
            torch.testing.assert_close(result["after"], result["by_hand"], rtol=0, atol=1e-12)


@needs_gloo
@pytest.mark.parametrize("strategy", ["ddp", pytest.param("ddp_spawn", marks=pytest.mark.slow)])
def test_a_process_that_fails_keeps_no_other_waiting(tmp_path: Path, strategy: str) -> None:
    results, said = run(tmp_path, "broken", 2, strategy)
    for result in results:
        assert result["before"] is None
        assert result["failures"] == 2
    assert said.count("No complete Lyapunov spectrum") == 1
    assert "it failed in another process: ValueError while measuring: Expected finite" in said


@needs_gloo
def test_a_module_that_fails_in_one_process_costs_the_others_nothing(tmp_path: Path) -> None:
    results, said = run(tmp_path, "half", 2)
    for result in results:
        assert result["num_sequences"] == [5, 5]
        assert result["failures"] == 0
        assert result["other_failures"] == 2
        assert result["keys"] == ["lyapunov/rnn/max"]
    assert torch.equal(results[0]["after"], results[1]["after"])
    assert said.count("No complete Lyapunov spectrum") == 1
    assert "it failed in another process: ValueError while measuring: Expected finite" in said


@needs_gloo
def test_a_logger_that_fails_in_one_process_keeps_no_other_waiting(tmp_path: Path) -> None:
    results, said = run(tmp_path, "unnamed", 2)
    for result in results:
        assert result["num_sequences"] == [5, 5]
        assert result["failures"] == 1
    assert said.count("No files of the Lyapunov spectra of this run") == 1
    assert "ConnectionError while asking the logger for its folder: server is gone" in said


@needs_gloo
def test_a_process_that_fails_ends_all_if_errors_are_raised(tmp_path: Path) -> None:
    done = start(tmp_path, "broken", 2, "ddp_spawn", "raise")
    assert done.returncode != 0
    assert "Expected finite `inputs`" in done.stderr
    assert not list(tmp_path.glob("2-*.pt"))


@pytest.mark.slow
@needs_gloo
def test_a_process_without_a_sequence_agrees_on_the_size_of_a_registered_cell(
    tmp_path: Path,
) -> None:
    results, _ = run(tmp_path, "cell", 2)
    for result in results:
        assert result["failures"] == 0
        expected = torch.full((4,), 0.5, dtype=torch.float64).log()
        torch.testing.assert_close(result["before"], expected)
    assert results[0]["max"] == results[1]["max"]


@pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
@pytest.mark.slow
@needs_gloo
def test_a_process_without_a_sequence_agrees_on_the_layers(tmp_path: Path) -> None:
    """The nine leading exponents of two layers are chosen among six and six."""
    (one,), _ = run(tmp_path, "union", 1)
    two, _ = run(tmp_path, "union", 2)
    assert one["layer"].bincount().tolist() != [9]
    for result in two:
        assert result["failures"] == 0
        torch.testing.assert_close(result["before"], one["before"], rtol=0, atol=1e-12)
        assert result["layer"].tolist() == one["layer"].tolist()


@needs_gloo
def test_a_certificate_that_fails_in_one_process_fails_in_both(tmp_path: Path) -> None:
    results, said = run(tmp_path, "uncertified", 2)
    for result in results:
        assert result["certified"] == 0
        assert result["failures"] == 2
        assert result["before"] is not None
    assert said.count("fails its certificate: the certificate fails in another process") == 1
