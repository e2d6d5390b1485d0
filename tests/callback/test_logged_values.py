"""Scalars on their way to the Trainer, and what monitors find where there is no new one."""

from types import SimpleNamespace
from typing import Any

import pytest
from pytorch_lightning.trainer.states import TrainerFn

from lightning_lyap.callback.run_histories import Ledger
from lightning_lyap.callback.run_state import LoggedValues


class Network:
    def __init__(self) -> None:
        self.logged: list[dict[str, float]] = []

    def log_dict(self, values: dict[str, float], **settings: Any) -> None:
        assert settings == {"batch_size": 1, "sync_dist": True}
        self.logged.append(values)


def fake_trainer(**changes: Any) -> Any:
    facts = {
        "state": SimpleNamespace(fn=TrainerFn.FITTING),
        "barebones": False,
        "callback_metrics": {},
        "loggers": [],
        "fit_loop": SimpleNamespace(epoch_loop=SimpleNamespace(_batches_that_stepped=7)),
    }
    return SimpleNamespace(**facts | changes)


def logged_values() -> LoggedValues:
    return LoggedValues(Ledger({}, "raise"))


def test_the_last_value_of_each_key_is_recalled_and_no_new_one_replaced() -> None:
    values, network, trainer = logged_values(), Network(), fake_trainer()
    values.log(trainer, network, ["rnn"], {"a": 1.0, "b": 2.0})  # type: ignore[arg-type]
    assert trainer.callback_metrics == {}
    trainer.callback_metrics["a"] = 3.0
    values.log(trainer, network, ["rnn"], {"a": 3.0})  # type: ignore[arg-type]
    assert values.last == {"a": 3.0, "b": 2.0}
    assert trainer.callback_metrics == {"a": 3.0, "b": 2.0}
    assert network.logged == [{"a": 1.0, "b": 2.0}, {"a": 3.0}]


def test_barebones_gets_no_scalar_but_the_run_keeps_the_last() -> None:
    values, network, trainer = logged_values(), Network(), fake_trainer(barebones=True)
    values.log(trainer, network, ["rnn"], {"a": 1.0})  # type: ignore[arg-type]
    values.log(trainer, network, ["rnn"], {})  # type: ignore[arg-type]
    assert network.logged == []
    assert trainer.callback_metrics == {}
    assert values.last == {"a": 1.0}


@pytest.mark.parametrize("stage", [TrainerFn.VALIDATING, TrainerFn.TESTING])
def test_outside_of_fit_values_are_logged_and_not_kept(stage: TrainerFn) -> None:
    values, network = logged_values(), Network()
    trainer = fake_trainer(state=SimpleNamespace(fn=stage))
    values.log(trainer, network, ["rnn"], {"a": 1.0})  # type: ignore[arg-type]
    assert network.logged == [{"a": 1.0}]
    assert values.last == {}


def test_what_a_logger_does_to_the_scalars_is_its_own() -> None:
    class Taking:
        def __init__(self) -> None:
            self.seen: list[tuple[float, int]] = []

        def log_metrics(self, metrics: dict[str, float], step: int) -> None:
            self.seen.append((metrics.pop("a"), step))

    values, loggers = logged_values(), [Taking(), Taking()]
    values.log_before_training(fake_trainer(loggers=loggers), ["rnn"], {"a": 1.0})
    assert [logger.seen for logger in loggers] == [[(1.0, 7)], [(1.0, 7)]]
    assert values.last == {"a": 1.0}
