import multiprocessing
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paper.jobs import plan, train_all
from paper.networks import Network
from paper.records import read_record
from paper.settings import Settings
from paper.training import folder_of, train_network


def tiny(text: Path, name: str = "one", epochs: int = 3, **task: float) -> Network:
    own = {"hidden_size": 6, "batch_size": 10, "sequence_length": 20, "text": str(text)}
    return Network(
        name,
        "charrnn",
        "tiny",
        epochs,
        {"init_p": 0.1},
        {
            "task": own | {"dropout": 0.2} | task,
            "trainer": {"limit_train_batches": 3, "limit_val_batches": 2},
            "lyapunov": {"num_sequences": 2, "num_steps": 10},
        },
    )


def test_a_network_that_is_stopped_in_time_goes_on_as_if_it_had_not_been(
    text: Path, settings: Settings, tmp_path: Path
) -> None:
    network = tiny(text)
    stopped = train_network(network, replace(settings, stop_at=time.time()))
    assert stopped.epochs == 1
    assert stopped.line().endswith("epoch 1 of 3, the time is over")
    assert not (stopped.folder / "finished.json").exists()
    early = read_record(stopped.folder)
    assert early is not None
    assert not early.is_complete

    resumed = train_network(network, settings)
    whole = train_network(network, replace(settings, out=tmp_path / "whole"))
    assert resumed.folder.name == whole.folder.name
    records = [read_record(progress.folder) for progress in (resumed, whole)]
    assert all(record is not None and record.is_complete for record in records)
    first, second = (record for record in records if record is not None)
    # Resumed and not begun again: the times of the first spectra are those of the first call.
    assert first.history.seconds[:2] == early.history.seconds
    assert first.losses == second.losses
    np.testing.assert_array_equal(first.history.exponents(), second.history.exponents())


def test_a_finished_network_is_not_touched_and_can_be_prolonged(
    text: Path, settings: Settings
) -> None:
    network = tiny(text, epochs=1)
    folder = train_network(network, settings).folder
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert train_network(network, settings).was_there
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    longer = train_network(tiny(text, epochs=2), settings)
    assert (longer.folder, longer.epochs, longer.was_there) == (folder, 2, False)
    assert train_network(network, settings).was_there


def test_other_settings_have_another_folder(text: Path, settings: Settings) -> None:
    folders = {folder_of(tiny(text, lr=lr), settings) for lr in (0.01, 0.02)}
    assert len(folders) == 2
    gpu = replace(settings, accelerator="gpu", out=settings.out)
    assert folder_of(tiny(text, lr=0.01), gpu) in folders


def test_a_network_that_fails_keeps_no_other_from_training(
    text: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    networks = [tiny(text, "bad", dropout=2.0), tiny(text, "good", epochs=1)]
    (failure,) = train_all(plan(networks, settings), 1)
    assert failure.startswith("bad: ")
    assert "dropout" in failure
    assert "good: trained" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_side_by_side_is_one_by_one(
    method: str,
    text: Path,
    settings: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Forked processes need not import anything; the command itself spawns.
    context = multiprocessing.get_context(method)
    monkeypatch.setattr("paper.jobs.multiprocessing.get_context", lambda _: context)
    networks = [tiny(text, f"n{i}", epochs=1, lr=0.001 * (i + 1)) for i in range(2)]
    together = plan(networks, replace(settings, jobs=2, out=tmp_path / "together"))
    assert train_all(together, 2) == []
    assert capsys.readouterr().out.count("epoch 1 of 1") == 2
    alone = plan(networks, settings)
    assert train_all(alone, 1) == []
    for pair in zip(together, alone, strict=True):
        first, second = (read_record(folder_of(*item)) for item in pair)
        assert first is not None
        assert second is not None
        assert first.losses == second.losses
