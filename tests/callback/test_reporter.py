"""What a measurement leaves behind: at the right step, on the right process, warned about once."""

import math
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning.trainer.states import TrainerFn

from lightning_lyap import SpectrumHistory
from lightning_lyap.callback.errors import WarnOnce
from lightning_lyap.callback.measurement import Measurement, NetworkMeasurement
from tests.reporters import (
    SETTINGS,
    Experiment,
    Reports,
    fake_trainer,
    files,
    measurement,
    sent,
)


def test_everything_is_sent_at_the_step_of_the_scalars(tmp_path: Path) -> None:
    trainer, reports = fake_trainer(tmp_path), Reports()
    reports.publish(trainer, 2.0, a=measurement())
    assert sent(trainer).histograms == [("lyapunov/a/exponents", 7)]
    assert sent(trainer).images == [("lyapunov/a/spectrum", 7), ("lyapunov/a/history", 7)]
    assert files(tmp_path) == {
        f"logs/lyapunov/a/{name}" for name in ("spectra.npz", "spectrum.png", "history.png")
    }


def test_histories_are_kept_by_module_with_the_settings(tmp_path: Path) -> None:
    trainer, reports = fake_trainer(tmp_path), Reports(figures=False)
    for epoch in (0.0, 1.0):
        reports.publish(trainer, epoch, a=measurement(1.0, -1.0), b=measurement(2.0))
    assert list(reports.histories) == ["a", "b"]
    history = reports.histories["a"]
    assert (history.epochs, history.steps, history.seconds) == ([0, 1], [7, 7], [0.5, 0.5])
    assert history.settings == SETTINGS | {"module": "a"}
    loaded = SpectrumHistory.load(tmp_path / "logs/lyapunov/b/spectra.npz")
    assert loaded.settings == SETTINGS | {"module": "b"}
    assert loaded.exponents().tolist() == [[2.0], [2.0]]


def test_without_figures_there_are_numbers_and_files(tmp_path: Path) -> None:
    trainer, reports = fake_trainer(tmp_path), Reports(figures=False)
    reports.publish(trainer, 0.0, rnn=measurement())
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
    trainer, reports = fake_trainer(tmp_path, **changes), Reports(save=save, figures=False)
    reports.publish(trainer, 0.0, rnn=measurement())
    assert files(tmp_path) == ({f"{expected}/lyapunov/spectra.npz"} if expected else set())
    assert len(reports.histories["rnn"]) == 1


def test_other_processes_keep_the_history_and_send_nothing(tmp_path: Path) -> None:
    trainer, reports = fake_trainer(tmp_path, is_global_zero=False), Reports()
    reports.publish(trainer, 0.0, rnn=measurement())
    assert len(reports.histories["rnn"]) == 1
    assert sent(trainer).histograms == sent(trainer).images == []
    assert files(tmp_path) == set()


@pytest.mark.parametrize("stage", [TrainerFn.VALIDATING, TrainerFn.TESTING])
def test_outside_of_fit_the_history_stays_as_it_is(stage: TrainerFn, tmp_path: Path) -> None:
    trainer, reports = fake_trainer(tmp_path, state=SimpleNamespace(fn=stage)), Reports()
    reports.publish(trainer, 0.0, rnn=measurement())
    assert len(reports.histories["rnn"]) == 0
    assert sent(trainer).images == [("lyapunov/spectrum", 7)]
    assert files(tmp_path) == set()


def test_scalars_of_all_modules_by_key(tmp_path: Path) -> None:
    trainer, reports = fake_trainer(tmp_path), Reports(figures=False)
    values = reports.publish(trainer, 0.0, a=measurement(0.5, -1.0), b=measurement(-0.25))
    assert values["lyapunov/a/max"] == 0.5
    assert values["lyapunov/b/max"] == -0.25
    assert values["lyapunov/a/max_standard_error"] == pytest.approx(0.1)
    assert values["lyapunov/a/max_margin"] == pytest.approx(0.25)
    assert len(values) == 35


def test_what_has_not_settled_is_told_once(tmp_path: Path) -> None:
    trainer, reports = fake_trainer(tmp_path), Reports(figures=False)
    numbers: dict[str, Any] = {"num_steps": 30.0, "warmup_steps": 0.0, "steps_to_settle": 120.0}
    settled = torch.zeros(2, dtype=torch.bool)
    measured = measurement(0.5, -1.0)
    moving = replace(measured, spectrum=replace(measured.spectrum, settled=settled, **numbers))
    with pytest.warns(UserWarning, match="'rnn': 2 of 2 exponents have not settled.* 30 steps"):
        values = reports.publish(trainer, 0.0, rnn=moving)
    assert values["lyapunov/num_unsettled"] == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reports.publish(trainer, 1.0, rnn=moving)


def test_shorter_sequences_than_asked_for_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer, reports = fake_trainer(tmp_path), Reports(figures=False)
    reports.run.histories.of("rnn").settings["num_steps"] = 100
    measured = measurement(0.5, -1.0)
    numbers: dict[str, Any] = {"num_steps": 30.0, "warmup_steps": 0.0}
    short = replace(measured, spectrum=replace(measured.spectrum, **numbers))
    with caplog.at_level("INFO"):
        for epoch in range(2):
            reports.publish(trainer, float(epoch), rnn=short)
    told = [each.message for each in caplog.records if "shorter than the 100 steps" in each.message]
    assert len(told) == 1
    assert "over 2 sequences x 30 steps" in told[0]


def test_what_is_not_finite_is_left_out_and_warned_about_once(tmp_path: Path) -> None:
    trainer, reports = fake_trainer(tmp_path), Reports(figures=False)
    with pytest.warns(UserWarning, match=r"lyapunov/max, .*not finite, left out of the logs"):
        values = reports.publish(trainer, 0.0, rnn=measurement(-math.inf))
    assert values["lyapunov/num_unresolved"] == 1
    assert "lyapunov/max" not in values
    assert all(math.isfinite(value) for value in values.values())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reports.publish(trainer, 1.0, rnn=measurement(math.nan))


def test_one_dead_direction_costs_no_scalar(tmp_path: Path) -> None:
    measured = measurement(0.5, -1.0, -math.inf)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = Reports().publish(fake_trainer(tmp_path), 0.0, rnn=measured)
    assert values["lyapunov/min"] == -1.0
    assert values["lyapunov/mean"] == -0.25


def test_cost_names_the_cheaper_setting_once(tmp_path: Path) -> None:
    trainer, reports = fake_trainer(tmp_path), Reports(figures=False, save=False)
    slow = NetworkMeasurement({"rnn": measurement()}, seconds=1e4)
    reports.run.pace.count(fitting=True)
    with pytest.warns(UserWarning, match="every_n_validations="):
        values = reports.reporter(trainer, "rnn").publish(slow, every=1)
    assert values["lyapunov/seconds"] == pytest.approx(1e4, rel=0.01)
    assert values["lyapunov/epoch_fraction"] == 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = reports.reporter(trainer, "rnn").publish(slow, every=1)
    assert {"lyapunov/seconds", "lyapunov/epoch_fraction"} <= set(values)


@pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
def test_what_is_published_has_a_fraction_of_the_time_after_a_regular_interval(
    tmp_path: Path,
) -> None:
    trainer, reports = fake_trainer(tmp_path), Reports(figures=False, save=False)
    fractions = []
    for _ in range(3):
        reports.run.pace.count(fitting=True)
        values = reports.publish(trainer, 1.0, every=2, rnn=measurement())
        fractions.append("lyapunov/epoch_fraction" in values)
        assert {"lyapunov/max", "lyapunov/seconds"} <= set(values)
    assert fractions == [False, True, False]
    both = reports.publish(trainer, 1.0, every=2, a=measurement(), b=measurement())
    assert {"lyapunov/a/max", "lyapunov/b/max"} <= set(both)
    assert reports.publish(trainer, 1.0, every=2) == {}


def test_failures_are_counted_and_the_first_is_warned_about(tmp_path: Path) -> None:
    reports = Reports()
    failures = reports.failures(fake_trainer(tmp_path))
    with pytest.warns(UserWarning, match=r"ValueError: bad\. Training goes on; .*on_error='raise'"):
        failures.report(["a", "b"], "ValueError: bad")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        failures.report(["a"], "ValueError: worse")
    with pytest.warns(UserWarning, match="ValueError: another module"):
        failures.report(["a", "c"], "ValueError: another module")
    reports.histories["a"].failures.pop()
    first = {"epoch": 3.0, "step": 7, "message": "ValueError: bad"}
    assert reports.histories["a"].failures == [first, first | {"message": "ValueError: worse"}]
    assert reports.histories["b"].failures == [first]


def test_failed_certificates_are_recorded_and_the_first_is_warned_about(tmp_path: Path) -> None:
    reports = Reports()
    failures = reports.failures(fake_trainer(tmp_path))
    said = r"spectrum of 'a' fails its certificate: off by 1\. Don't"
    with pytest.warns(UserWarning, match=said):
        failures.uncertified("a", "off by 1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        failures.uncertified("b", "off by 2")
    message = "fails its certificate: off by 2"
    assert reports.histories["b"].failures == [{"epoch": 3.0, "step": 7, "message": message}]


def test_a_warning_of_none_is_none() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        WarnOnce()(None, "key")


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
    Reports(save=False).publish(trainer, 2.0, rnn=measurement())
    assert said == [title]


class Network:
    """Takes what is logged."""

    def __init__(self) -> None:
        self.logged: list[dict[str, float]] = []

    def log_dict(self, values: dict[str, float], **settings: Any) -> None:
        assert settings == {"batch_size": 1, "sync_dist": True}
        self.logged.append(values)


def test_the_last_value_of_each_key_is_recalled_and_no_new_one_replaced(tmp_path: Path) -> None:
    trainer, reports, network = fake_trainer(tmp_path), Reports(), Network()
    reporter: Any = reports.reporter(trainer, "rnn")
    reporter.log(network, {"a": 1.0, "b": 2.0})
    assert trainer.callback_metrics == {}
    trainer.callback_metrics["a"] = 3.0
    reporter.log(network, {"a": 3.0})
    assert reports.run.last == {"a": 3.0, "b": 2.0}
    assert trainer.callback_metrics == {"a": 3.0, "b": 2.0}
    assert network.logged == [{"a": 1.0, "b": 2.0}, {"a": 3.0}]


def test_barebones_gets_no_scalar_but_the_run_keeps_the_last(tmp_path: Path) -> None:
    trainer, reports, network = fake_trainer(tmp_path, barebones=True), Reports(), Network()
    reporter: Any = reports.reporter(trainer, "rnn")
    reporter.log(network, {"a": 1.0})
    reporter.log(network, {})
    assert network.logged == []
    assert trainer.callback_metrics == {}
    assert reports.run.last == {"a": 1.0}


@pytest.mark.parametrize("stage", [TrainerFn.VALIDATING, TrainerFn.TESTING])
def test_outside_of_fit_values_are_logged_and_not_kept(stage: TrainerFn, tmp_path: Path) -> None:
    trainer = fake_trainer(tmp_path, state=SimpleNamespace(fn=stage))
    reports, network = Reports(), Network()
    reporter: Any = reports.reporter(trainer, "rnn")
    reporter.log(network, {"a": 1.0})
    assert network.logged == [{"a": 1.0}]
    assert reports.run.last == {}


def test_what_a_logger_does_to_the_scalars_is_its_own(tmp_path: Path) -> None:
    class Taking:
        def __init__(self) -> None:
            self.seen: list[tuple[float, int]] = []

        def log_metrics(self, metrics: dict[str, float], step: int) -> None:
            self.seen.append((metrics.pop("a"), step))

    reports, loggers = Reports(save=False), [Taking(), Taking()]
    trainer = fake_trainer(tmp_path, loggers=loggers)
    reports.reporter(trainer, "rnn").log_before_training({"a": 1.0})
    assert [logger.seen for logger in loggers] == [[(1.0, 7)], [(1.0, 7)]]
    assert reports.run.last == {"a": 1.0}
