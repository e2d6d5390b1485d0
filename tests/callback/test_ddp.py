"""The callback on two processes (gloo): equal numbers, each sequence once, no hang."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.multiprocessing.spawn import ProcessRaisedException

from lightning_lyap import SpectrumHistory
from tests.ddp_run import main

ROOT = Path(__file__).resolve().parents[2]
CASES = ("sound", "watched", "broken", "half", "unnamed", "uncertified", "cell", "union")
needs_gloo = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="needs torch.distributed with gloo",
)
# Forked processes need not import anything.
STARTED_BY_TORCH = pytest.mark.parametrize(
    "strategy", ["ddp_fork", pytest.param("ddp_spawn", marks=pytest.mark.slow)]
)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run all cases in the same two processes, since most of the time goes into starting them."""
    folder = tmp_path_factory.mktemp("ddp")
    done = subprocess.run(
        [sys.executable, "-m", "tests.ddp_run", str(folder), *CASES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def alone(folder: Path, case: str) -> dict[str, Any]:
    """Run a case in one process, this one."""
    main(folder, case, 1, "auto")
    result: dict[str, Any] = torch.load(folder / "1-0.pt", weights_only=True)
    return result


def left(folder: Path, case: str) -> tuple[list[dict[str, Any]], str]:
    """Return what two processes have left of a case: their results, and what they said."""
    results = [torch.load(folder / case / f"2-{k}.pt", weights_only=True) for k in range(2)]
    said = "".join(path.read_text() for path in (folder / case).glob("said-*.txt"))
    return results, said


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


def assert_two_are_one(folder: Path, case: str, one: dict[str, Any]) -> None:
    """What two processes have left of a case is what one has measured."""
    two, _ = left(folder, case)
    for result in two:
        torch.testing.assert_close(result["before"], one["before"], rtol=0, atol=1e-12)
        assert result["failures"] == 0
        assert result["num_sequences"] == [5, 5]
    assert two[0]["max"] == two[1]["max"]
    assert torch.equal(two[0]["after"], two[1]["after"])
    assert_same_state(two[0]["state"], two[1]["state"])
    saved = torch.load(folder / case / "2" / "last.ckpt", weights_only=True)["callbacks"]
    key = next(key for key in saved if key.startswith("LyapunovSpectrumCallback"))
    assert_same_state(saved[key], two[1]["state"])
    if case == "sound":
        for result in two:
            torch.testing.assert_close(result["after"], result["by_hand"], rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
@needs_gloo
@pytest.mark.parametrize("case", ["sound", "watched"])
def test_two_processes_measure_what_one_does(tmp_path: Path, started: Path, case: str) -> None:
    assert_two_are_one(started, case, alone(tmp_path, case))


@pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
@needs_gloo
@STARTED_BY_TORCH
def test_processes_started_by_torch_measure_what_one_does(tmp_path: Path, strategy: str) -> None:
    (tmp_path / "sound").mkdir()
    main(tmp_path / "sound", "sound", 2, strategy)
    assert_two_are_one(tmp_path, "sound", alone(tmp_path, "sound"))


@needs_gloo
def test_a_process_that_fails_keeps_no_other_waiting(started: Path) -> None:
    results, said = left(started, "broken")
    for result in results:
        assert result["before"] is None
        assert result["failures"] == 2
    assert said.count("No complete Lyapunov spectrum") == 1
    assert "it failed in another process: ValueError while measuring: Expected finite" in said


@needs_gloo
def test_a_module_that_fails_in_one_process_costs_the_others_nothing(started: Path) -> None:
    results, said = left(started, "half")
    for result in results:
        assert result["num_sequences"] == [5, 5]
        assert result["failures"] == 0
        assert result["other_failures"] == 2
        assert result["keys"] == ["lyapunov/rnn/max"]
    assert torch.equal(results[0]["after"], results[1]["after"])
    assert said.count("No complete Lyapunov spectrum") == 1
    assert "it failed in another process: ValueError while measuring: Expected finite" in said


@needs_gloo
def test_a_logger_that_fails_in_one_process_keeps_no_other_waiting(started: Path) -> None:
    results, said = left(started, "unnamed")
    for result in results:
        assert result["num_sequences"] == [5, 5]
        assert result["failures"] == 1
    assert said.count("No files of the Lyapunov spectra of this run") == 1
    assert "ConnectionError while asking the logger for its folder: server is gone" in said


@needs_gloo
@STARTED_BY_TORCH
def test_a_process_that_fails_ends_all_if_errors_are_raised(tmp_path: Path, strategy: str) -> None:
    with pytest.raises(ProcessRaisedException, match="Expected finite `inputs`"):
        main(tmp_path, "raising", 2, strategy)
    assert not list(tmp_path.glob("2-*.pt"))


@needs_gloo
def test_a_process_without_a_sequence_agrees_on_the_size_of_a_registered_cell(
    started: Path,
) -> None:
    results, _ = left(started, "cell")
    for result in results:
        assert result["failures"] == 0
        expected = torch.full((4,), 0.5, dtype=torch.float64).log()
        torch.testing.assert_close(result["before"], expected)
    assert results[0]["max"] == results[1]["max"]


@pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
@needs_gloo
def test_a_process_without_a_sequence_agrees_on_the_layers(tmp_path: Path, started: Path) -> None:
    """The nine leading exponents of two layers are chosen among six and six."""
    one = alone(tmp_path, "union")
    two, _ = left(started, "union")
    assert one["layer"].bincount().tolist() != [9]
    for result in two:
        assert result["failures"] == 0
        torch.testing.assert_close(result["before"], one["before"], rtol=0, atol=1e-12)
        assert result["layer"].tolist() == one["layer"].tolist()


@needs_gloo
def test_a_certificate_that_fails_in_one_process_fails_in_both(started: Path) -> None:
    results, said = left(started, "uncertified")
    for result in results:
        assert result["certified"] == 0
        assert result["failures"] == 2
        assert result["before"] is not None
    assert said.count("fails its certificate: the certificate fails in another process") == 1
