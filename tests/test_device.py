"""Threads of their own for shares of the sequences: nothing is seen of it outside, or lost."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import torch

from lightning_lyap import _device as threads
from lightning_lyap._device import OnStep, run_side_by_side, single_threaded, usable_threads

pytestmark = pytest.mark.skipif(
    threads._library() is None, reason="threads can't be given a number of their own here"
)


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def _in_another_thread(ask: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(ask()))
    thread.start()
    thread.join()
    return found[0]


def test_the_setting_is_that_of_this_thread_and_ends() -> None:
    with single_threaded():
        assert torch.get_num_threads() == 1
        assert _in_another_thread(torch.get_num_threads) == 2
        with single_threaded():
            pass
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_the_setting_ends_with_an_error() -> None:
    with pytest.raises(ValueError, match="mine"), single_threaded():
        raise ValueError("mine")
    assert torch.get_num_threads() == 2


def test_mkl_gets_its_own_number_back() -> None:
    library = threads._library()
    assert library is not None
    before = library.set_mkl(2)
    with single_threaded():
        assert library.set_mkl(1) == 1
    assert library.set_mkl(before) == 2


def test_products_are_bitwise_the_same_afterwards() -> None:
    a = torch.randn(300, 300)
    before = a @ a
    with single_threaded():
        torch.linalg.qr(a)
    assert torch.equal(a @ a, before)


def test_as_many_as_torch_may_use() -> None:
    assert usable_threads() == 2


def test_elsewhere_nothing_is_split_and_nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_library", lambda: None)
    assert usable_threads() == 1
    with single_threaded():
        assert torch.get_num_threads() == 2


def test_calls_run_at_the_same_time_without_gradients() -> None:
    meet = threading.Barrier(3, timeout=20)
    seen: list[tuple[bool, int]] = []

    def call(on_step: OnStep | None) -> None:
        meet.wait()
        seen.append((torch.is_grad_enabled(), torch.get_num_threads()))

    with torch.no_grad():
        run_side_by_side([call] * 3, None)
    assert seen == [(False, 1)] * 3


def test_the_first_call_reports_and_runs_here() -> None:
    reported: list[tuple[int, int]] = []

    def call(on_step: OnStep | None) -> None:
        assert on_step is not None
        on_step(7)

    run_side_by_side([call, call], lambda done: reported.append((done, threading.get_ident())))
    assert reported == [(7, threading.get_ident())]


def _go_on(ended: threading.Event, on_step: OnStep | None) -> None:
    end = time.monotonic() + 20
    try:
        while time.monotonic() < end:
            if on_step is not None:
                on_step(1)
            time.sleep(0.001)
    finally:
        ended.set()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("failing", [0, 1])
def test_a_failure_stops_the_others(failing: int, error: type[BaseException]) -> None:
    if failing == 1 and error is KeyboardInterrupt:
        pytest.skip("interrupts reach the first thread alone")

    def fail(on_step: OnStep | None) -> None:
        raise error("mine")

    ended = threading.Event()
    go_on = partial(_go_on, ended)
    calls: list[Callable[[OnStep | None], None]] = [go_on, fail] if failing else [fail, go_on]
    start = time.monotonic()
    with pytest.raises(error, match="mine"):
        run_side_by_side(calls, lambda done: None)
    assert ended.is_set()
    assert time.monotonic() - start < 10


def test_a_thread_that_cannot_be_started_stops_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, submit, calls = threading.Event(), ThreadPoolExecutor.submit, iter(range(2))

    def refuse(pool: ThreadPoolExecutor, *work: Any) -> Any:
        if next(calls) == 1:
            raise RuntimeError("can't start new thread")
        return submit(pool, *work)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="start new thread"):
        run_side_by_side([partial(_go_on, ended)] * 3, None)
    assert ended.is_set()
    assert time.monotonic() - start < 10
    assert torch.get_num_threads() == 2
