"""What a measurement leaves behind: at the right step, on the right process, warned about once."""

import math
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytorch_lightning.trainer.states import TrainerFn

from lightning_lyap import SpectrumHistory
from lightning_lyap.callback.measurement import Measurement, NetworkMeasurement
from tests.reporters import (
    SETTINGS,
    Experiment,
    fake_trainer,
    files,
    measurement,
    reporter,
    sent,
)


def test_everything_is_sent_at_the_step_of_the_scalars(tmp_path: Path) -> None:
    trainer, report = fake_trainer(tmp_path), reporter()
    report.open(trainer, [])
    report.show(trainer, 2.0, "rnn", "rnn/", measurement())
    assert sent(trainer).histograms == [("lyapunov/rnn/exponents", 7)]
    assert sent(trainer).images == [("lyapunov/rnn/spectrum", 7), ("lyapunov/rnn/history", 7)]
    assert files(tmp_path) == {
        f"logs/lyapunov/rnn/{name}" for name in ("spectra.npz", "spectrum.png", "history.png")
    }


def test_histories_are_kept_by_module_with_the_settings(tmp_path: Path) -> None:
    trainer, report = fake_trainer(tmp_path), reporter(figures=False)
    report.open(trainer, [])
    for epoch in (0.0, 1.0):
        report.show(trainer, epoch, "a", "a/", measurement(1.0, -1.0))
        report.show(trainer, epoch, "b", "b/", measurement(2.0))
    assert list(report.histories) == ["a", "b"]
    history = report.histories["a"]
    assert history is report.history("a")
    assert (history.epochs, history.steps, history.seconds) == ([0, 1], [7, 7], [0.5, 0.5])
    assert history.settings == SETTINGS | {"module": "a"}
    loaded = SpectrumHistory.load(tmp_path / "logs/lyapunov/b/spectra.npz")
    assert loaded.settings == SETTINGS | {"module": "b"}
    assert loaded.exponents().tolist() == [[2.0], [2.0]]


def test_without_figures_there_are_numbers_and_files(tmp_path: Path) -> None:
    trainer, report = fake_trainer(tmp_path), reporter(figures=False)
    report.open(trainer, [])
    report.show(trainer, 0.0, "rnn", "", measurement())
    assert sent(trainer).histograms == [("lyapunov/exponents", 7)]
    assert sent(trainer).images == []
    assert files(tmp_path) == {"logs/lyapunov/spectra.npz"}


@pytest.mark.parametrize(
    ("save", "changes", "expected"),
    [
        (False, {}, None),
        (True, {"fast_dev_run": True}, None),
        (True, {}, "logs"),
        (True, {"loggers": [SimpleNamespace(experiment=Experiment())]}, "root"),
    ],
)
def test_files_go_to_the_folder_of_the_logs(
    save: bool, changes: dict[str, Any], expected: str | None, tmp_path: Path
) -> None:
    trainer, report = fake_trainer(tmp_path, **changes), reporter(save=save, figures=False)
    report.open(trainer, [])
    report.show(trainer, 0.0, "rnn", "", measurement())
    assert files(tmp_path) == ({f"{expected}/lyapunov/spectra.npz"} if expected else set())
    assert len(report.history("rnn")) == 1


def test_other_processes_keep_the_history_and_send_nothing(tmp_path: Path) -> None:
    trainer, report = fake_trainer(tmp_path, is_global_zero=False), reporter()
    report.open(trainer, [])
    report.show(trainer, 0.0, "rnn", "", measurement())
    assert len(report.history("rnn")) == 1
    assert sent(trainer).histograms == sent(trainer).images == []
    assert files(tmp_path) == set()


@pytest.mark.parametrize("stage", [TrainerFn.VALIDATING, TrainerFn.TESTING])
def test_outside_of_fit_the_history_stays_as_it_is(stage: TrainerFn, tmp_path: Path) -> None:
    trainer = fake_trainer(tmp_path, state=SimpleNamespace(fn=stage))
    report = reporter()
    report.open(trainer, [])
    report.show(trainer, 0.0, "rnn", "", measurement())
    assert len(report.history("rnn")) == 0
    assert sent(trainer).images == [("lyapunov/spectrum", 7)]
    assert files(tmp_path) == set()


def test_scalars_of_all_modules_by_key() -> None:
    measured = {"a": measurement(0.5, -1.0), "b": measurement(-0.25)}
    values = reporter().scalars(measured, {"a": "a/", "b": "b/"})
    assert values["lyapunov/a/max"] == 0.5
    assert values["lyapunov/b/max"] == -0.25
    assert values["lyapunov/a/max_standard_error"] == pytest.approx(0.1)
    assert values["lyapunov/a/max_margin"] == pytest.approx(0.25)
    assert len(values) == 30


def test_what_is_not_finite_is_left_out_and_warned_about_once() -> None:
    report = reporter()
    with pytest.warns(UserWarning, match=r"lyapunov/max, .*not finite, left out of the logs"):
        values = report.scalars({"rnn": measurement(-math.inf)}, {"rnn": ""})
    assert values["lyapunov/num_unresolved"] == 1
    assert "lyapunov/max" not in values
    assert all(math.isfinite(value) for value in values.values())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report.scalars({"rnn": measurement(math.nan)}, {"rnn": ""})


def test_one_dead_direction_costs_no_scalar() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = reporter().scalars({"rnn": measurement(0.5, -1.0, -math.inf)}, {"rnn": ""})
    assert values["lyapunov/min"] == -1.0
    assert values["lyapunov/mean"] == -0.25


def test_cost_names_the_cheaper_setting_once() -> None:
    report = reporter()
    with pytest.warns(UserWarning, match="every_n_validations="):
        values = report.cost(10.0, every=1)
    assert values == {"lyapunov/seconds": 10.0, "lyapunov/epoch_fraction": 1.0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(report.cost(10.0, every=1)) == {"lyapunov/seconds", "lyapunov/epoch_fraction"}


def test_cost_without_an_epoch_to_compare_with() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reporter().cost(10.0, every=None) == {"lyapunov/seconds": 10.0}


@pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
def test_what_is_published_has_a_fraction_of_the_time_after_a_regular_interval(
    tmp_path: Path,
) -> None:
    trainer, report = fake_trainer(tmp_path), reporter(figures=False, save=False)
    alone = NetworkMeasurement({"rnn": measurement()}, seconds=0.0)
    fractions = []
    for _ in range(3):
        report.pace.count(fitting=True)
        values = report.publish(trainer, 1.0, alone, every=2)
        fractions.append("lyapunov/epoch_fraction" in values)
        assert {"lyapunov/max", "lyapunov/seconds"} <= set(values)
    assert fractions == [False, True, False]
    both = NetworkMeasurement({"a": measurement(), "b": measurement()}, seconds=0.0)
    assert {"lyapunov/a/max", "lyapunov/b/max"} <= set(report.publish(trainer, 1.0, both, 2))
    assert report.publish(trainer, 1.0, NetworkMeasurement({}, 1.0), every=2) == {}


def test_failures_are_counted_and_the_first_is_warned_about(tmp_path: Path) -> None:
    trainer, report = fake_trainer(tmp_path), reporter()
    with pytest.warns(UserWarning, match=r"ValueError: bad\. Training goes on; .*on_error='raise'"):
        report.failed(trainer, {"a": None, "b": None}, "ValueError: bad")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report.failed(trainer, {"a": None}, "ValueError: worse")
    with pytest.warns(UserWarning, match="ValueError: another module"):
        report.failed(trainer, ["a", "c"], "ValueError: another module")
    report.histories["a"].failures.pop()
    first = {"epoch": 3.0, "step": 7, "message": "ValueError: bad"}
    assert report.history("a").failures == [first, first | {"message": "ValueError: worse"}]
    assert report.history("b").failures == [first]


def test_failed_certificates_are_recorded_and_the_first_is_warned_about(tmp_path: Path) -> None:
    trainer, report = fake_trainer(tmp_path), reporter()
    with pytest.warns(
        UserWarning, match=r"spectrum of 'a' fails its certificate: off by 1\. Don't"
    ):
        report.uncertified(trainer, "a", "off by 1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report.uncertified(trainer, "b", "off by 2")
    message = "fails its certificate: off by 2"
    assert report.history("b").failures == [{"epoch": 3.0, "step": 7, "message": message}]


def test_a_warning_of_none_is_none() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reporter().warn_once("key", None)


@pytest.mark.parametrize(
    ("stage", "title"),
    [
        (TrainerFn.FITTING, "epoch 2"),
        (TrainerFn.VALIDATING, "trainer.validate"),
        (TrainerFn.TESTING, "trainer.test"),
    ],
)
def test_figures_say_when_they_were_made(
    stage: TrainerFn, title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def draw(measured: Measurement, history: SpectrumHistory, when: str) -> dict[str, Any]:
        said.append(when)
        return {}

    monkeypatch.setattr("lightning_lyap.callback.reporter.draw_figures", draw)
    trainer = fake_trainer(tmp_path, state=SimpleNamespace(fn=stage))
    reporter(save=False).show(trainer, 2.0, "rnn", "", measurement())
    assert said == [title]
