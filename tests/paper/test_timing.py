from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from lightning_lyap.tasks import MocapRNN
from paper.timing import Kind, TimeInTurn, device_name, now

KINDS = (Kind(1), Kind("auto", 2))
BATCH = torch.zeros(3, 9, 4)


class Clock:
    """A clock that steps and spectra move on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self, device: torch.device) -> float:
        assert device.type == "cpu"
        return self.now


class Training:
    """Training in which the n-th step takes so many seconds, each spectrum one second a step."""

    def __init__(self, rounds: int, seconds: float = 1e9) -> None:
        self.clock = Clock()
        self.shapes: list[tuple[int, ...]] = []
        self.trainer: Any = SimpleNamespace(should_stop=False)
        effort = OmegaConf.create({"steps": 2, "rounds": rounds, "seconds": seconds})
        measures = dict.fromkeys(KINDS, self.measure)
        self.watch = TimeInTurn(measures, BATCH, 2, effort, self.clock)
        self.module: Any = MocapRNN(num_features=4, hidden_size=3)

    def measure(self, module: Any, batch: torch.Tensor) -> int:
        assert module is self.module
        self.shapes.append(tuple(batch.shape))
        self.clock.now += batch.shape[1]
        return 7

    def run(self, limit: int = 100) -> int:
        """Train until it is to stop; return the steps done."""
        self.watch.on_train_start(self.trainer, self.module)
        for step in range(1, limit):
            self.clock.now += step
            self.watch.on_train_batch_end(self.trainer, self.module, None, None, step)
            if self.trainer.should_stop:
                return step
        raise AssertionError("it goes on")


def test_a_round_holds_the_mean_step_and_each_spectrum_once() -> None:
    training = Training(rounds=3)
    assert training.run() == 8
    # Steps 1 and 2 go untimed; then (3 + 4) / 2, (5 + 6) / 2, (7 + 8) / 2 seconds.
    assert training.watch.steps == [3.5, 5.5, 7.5]
    assert training.watch.spectra == {kind: [9.0, 9.0, 9.0] for kind in KINDS}
    assert training.watch.exponents == dict.fromkeys(KINDS, 7)


def test_short_spectra_of_all_sequences_go_before_the_first_round() -> None:
    training = Training(rounds=3)
    training.run()
    assert training.shapes == [(3, 2, 4)] * 2 + [(3, 9, 4)] * 6


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 3), (131.0, 4), (131.5, 5), (1e9, 6)])
def test_no_round_begins_when_time_is_over_but_for_the_first_three(
    seconds: float, rounds: int
) -> None:
    # Rounds end after 32, 61, 94, 131, 172 and 217 seconds.
    training = Training(6, seconds)
    training.run()
    assert len(training.watch.steps) == rounds


@pytest.mark.parametrize(
    ("threads", "clock", "words"),
    [
        (1, "process_time", "cpu, 1 thread, processor time"),
        (2, "perf_counter", "cpu, 2 threads, wall time"),
    ],
)
def test_the_processor_is_timed_where_one_thread_works_and_else_the_wall_clock(
    threads: int, clock: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    monkeypatch.setattr(f"time.{clock}", lambda: 7.0)
    assert now(torch.device("cpu")) == 7.0
    assert device_name(torch.device("cpu")) == words
