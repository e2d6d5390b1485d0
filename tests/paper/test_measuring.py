import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_lyap.plotting import plot_convergence
from paper import collect, compute, fig2, fig5
from paper.archive import load_records, save_records
from paper.command import Figure, compute as train_and_measure
from paper.jobs import plan
from paper.measured import Measured, plain_sizes, read_all
from paper.measuring import PLAIN, load_best, measure_missing, require, running
from paper.networks import trained
from paper.records import Record, read_record
from paper.settings import Settings
from paper.training import folder_of, train_network
from tests.paper.conftest import Commands
from tests.paper.test_archive import record
from tests.paper.test_jobs import tiny
from tests.paper.test_networks import settings as settings_of_command


def test_the_best_epoch_is_measured_as_it_was_in_training(text: Path, settings: Settings) -> None:
    # A rate so large that the lowest loss is not the last one.
    ((network, own),) = plan([tiny(text, lr=0.3, epochs=4)], settings)
    train_network(network, own)
    found = read_record(folder_of(network, own))
    assert found is not None
    assert found.best_epoch < 4
    best = load_best(network, own)
    assert best.epoch == found.best_epoch
    during = found.best_spectrum()
    assert during is not None
    after = best.spectrum(best.sequences(during.num_sequences, 10))
    assert torch.equal(after.exponents, during.exponents)


def test_a_lost_checkpoint_is_named_and_the_other_networks_are_measured(
    text: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    work = plan([tiny(text, "lost", epochs=1), tiny(text, "good", epochs=1, lr=0.02)], settings)
    for item in work:
        train_network(*item)
    for file in (folder_of(*work[0]) / "checkpoints").glob("best*"):
        file.unlink()
    sizes = {"charrnn": {"steps": 3}}
    (failure,) = measure_missing(work, "name", lambda network, _: {"x": np.ones(2)}, sizes)
    assert failure.startswith("lost: name: FileNotFoundError: Expected a checkpoint of epoch 1")
    assert "to train the network again" in failure
    assert "good: name measured after epoch 1" in capsys.readouterr().out
    assert read_all(folder_of(*work[1]))["name"].arrays["x"].tolist() == [1.0, 1.0]


def test_what_is_measured_is_not_measured_again_but_with_other_sizes(
    text: Path, settings: Settings
) -> None:
    work = plan([tiny(text, epochs=1)], settings)
    train_network(*work[0])
    calls: list[int] = []

    def count(network: Any, sizes: Any) -> dict[str, Any]:
        calls.append(sizes["steps"])
        return {"steps": np.array(sizes["steps"])}

    for steps in (3, 3, 4):
        assert measure_missing(work, "name", count, {"charrnn": {"steps": steps}}) == []
    assert calls == [3, 4]
    assert int(read_all(folder_of(*work[0]))["name"].arrays["steps"]) == 4


def test_a_measurement_that_fails_leaves_no_file(text: Path, settings: Settings) -> None:
    work = plan([tiny(text, epochs=1)], settings)
    train_network(*work[0])

    def fail(network: Any, sizes: Any) -> dict[str, Any]:
        raise RuntimeError("odd")

    (failure,) = measure_missing(work, "name", fail, {"charrnn": {}})
    assert failure == "charrnn-x: name: RuntimeError: odd" or failure.endswith("RuntimeError: odd")
    assert not (folder_of(*work[0]) / "measured").exists()


def test_networks_that_are_not_finished_or_late_are_not_measured(
    text: Path, settings: Settings
) -> None:
    ((network, own),) = plan([tiny(text, epochs=1)], settings)
    nothing: Any = None
    assert measure_missing([(network, own)], "name", nothing, {"charrnn": {}}) == []
    train_network(network, own)
    late = replace(own, stop_at=0.0)
    assert measure_missing([(network, late)], "name", nothing, {"charrnn": {}}) == []
    assert read_all(folder_of(network, own)) == {}
