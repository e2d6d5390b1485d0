from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paper import collect, compute, fig2, fig5
from paper.archive import load_records, save_records
from paper.jobs import plan
from paper.measured import Measured, plain_sizes, read_all
from paper.measuring import load_best, measure_missing, require, running
from paper.networks import trained
from paper.records import read_record
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
    folder = folder_of(network, own)
    found = read_record(folder)
    assert found is not None
    assert found.best_epoch < 4
    # An interrupted run may leave another one beside it.
    other = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    other["epoch"] = 8
    other["state_dict"] = {name: 0 * value for name, value in other["state_dict"].items()}
    torch.save(other, folder / "checkpoints" / "best-a.ckpt")
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
    assert failure == "one: name: RuntimeError: odd"
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


def test_running_exponents_end_with_those_of_each_sequence(text: Path, settings: Settings) -> None:
    work = plan([tiny(text, epochs=1)], settings)
    train_network(*work[0])
    network = load_best(*work[0])
    batch = network.sequences(3, 12)
    estimate = network.spectrum(batch, keep_log_stretches=True)
    courses = running(estimate)
    assert courses.shape == (12, 3, 6)
    torch.testing.assert_close(courses[-1], estimate.per_sequence)
    torch.testing.assert_close(courses.mean(1), estimate.running_exponents())
    broken = replace(estimate, valid=torch.tensor([True, False, True]))
    with pytest.raises(ValueError, match="but 1 of 3 do not"):
        running(broken)


def test_one_network_of_each_task_is_measured_and_belongs_to_another_figure() -> None:
    names = [network.name for network in trained(settings_of_command("scale=paper"))]
    assert names == ["charrnn-p0.08", "mocap-draw00"]
    (one,) = trained(settings_of_command("tasks=[mocap]", "scale.measured.mocap=mocap-draw07"))
    assert one.name == "mocap-draw07"
    with pytest.raises(ValueError, match="but got 'mocap-draw99'"):
        trained(settings_of_command("scale.measured.mocap=mocap-draw99"))


def measured(epoch: float, sizes: dict[str, Any]) -> Measured:
    return Measured(epoch, sizes, "cpu", {"x": np.ones(2)})


def test_nothing_but_what_was_asked_for_is_drawn() -> None:
    cfg = settings_of_command("scale=tiny")
    sizes = plain_sizes(cfg, "fig2")["charrnn"]
    one = record([0.1], [0.2], losses={1.0: 1.0, 2.0: 2.0})
    with pytest.raises(ValueError, match=r"it is not\. Run `python -m paper\.fig2 out=FOLDER`"):
        require(one, "fig2", cfg)
    one.measured["fig2"] = measured(2.0, sizes)
    with pytest.raises(ValueError, match="it was measured after epoch 2"):
        require(one, "fig2", cfg)
    one.measured["fig2"] = measured(1.0, sizes | {"num_steps": 7})
    with pytest.raises(ValueError, match=r"it was measured with .*'num_steps': 7"):
        require(one, "fig2", cfg)
    one.measured["fig2"] = measured(1.0, sizes)
    assert require(one, "fig2", cfg) is one.measured["fig2"]


def test_measurements_travel_with_the_records(tmp_path: Path) -> None:
    before = record([0.1], [0.2])
    arrays = {
        "exponents": np.array([[0.123456, -7.0], [np.nan, -np.inf]]),
        "half": np.array([0.25, -1.5], dtype=np.float32),
        "resolved": np.array([True, False]),
        "steps": np.array([3, 70]),
    }
    before.measured["fig2"] = Measured(2.0, {"steps": [1, 2]}, "cuda", arrays)
    save_records([record([0.1]), before], tmp_path / "r.npz")
    without, after = load_records([tmp_path / "r.npz"])
    assert without.measured == {}
    found = after.measured["fig2"]
    assert (found.epoch, found.sizes, found.device) == (2.0, {"steps": [1, 2]}, "cuda")
    assert found.arrays.keys() == arrays.keys()
    expected = [[0.12346, -7.0], [np.nan, np.nan]]
    np.testing.assert_allclose(found.arrays["exponents"], expected, atol=1e-9)
    np.testing.assert_allclose(found.arrays["half"], arrays["half"], atol=1e-9)
    for name in ("resolved", "steps"):
        np.testing.assert_array_equal(found.arrays[name], arrays[name])
    assert found.arrays["resolved"].dtype == bool


@pytest.mark.slow
def test_a_measured_figure_can_be_drawn_from_collected_results_elsewhere(
    commands: Commands, tmp_path: Path
) -> None:
    here = commands.once(fig5.FIGURE).folder
    commands.call("collect", collect.collect)
    file = commands.out / "results.npz"
    there = commands.run(fig5.FIGURE, f"results={file}", out=tmp_path).folder
    assert not (tmp_path / "networks").exists()
    assert (here / "claims.json").read_text() == (there / "claims.json").read_text()


@pytest.mark.slow
def test_results_without_the_measurements_are_refused(
    commands: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.once(fig5.FIGURE)
    found = [read_record(path) for path in sorted((commands.out / "networks").glob("*p0.04*"))]
    save_records([replace(one, measured={}) for one in found if one], tmp_path / "bare.npz")
    with pytest.raises(SystemExit):
        commands.run(fig5.FIGURE, f"results={tmp_path / 'bare.npz'}", out=tmp_path)
    said = capsys.readouterr().err
    assert "Expected charrnn-p0.04 to be measured for fig5" in said
    assert "`python -m paper.collect out=FOLDER`" in said


@pytest.mark.slow
def test_a_queue_trains_and_measures(commands: Commands, tmp_path: Path) -> None:
    words = ["figures=[fig2,fig5]", "tasks=[charrnn]"]
    said = commands.call("compute", compute.train_networks, *words, out=tmp_path).said
    lines = [line.split(",")[0] for line in said.splitlines()]
    assert lines == [
        lines[0],
        "charrnn-p0.04: fig2 measured after epoch 3",
        "charrnn-p0.04: fig5 measured after epoch 3",
    ]
    assert lines[0].startswith("charrnn-p0.04: trained for")
    again = commands.run(fig2.FIGURE, "tasks=[charrnn]", out=tmp_path).said
    assert "charrnn-p0.04: fig2 was measured after epoch 3" in again


def test_no_network_in_time_is_said(commands: Commands, tmp_path: Path) -> None:
    done = commands.run(fig2.FIGURE, "deadline=0", out=tmp_path)
    assert "Not drawn yet: Expected networks that were trained and measured for fig2" in done.said
    assert not (done.folder / "fig2.png").exists()
