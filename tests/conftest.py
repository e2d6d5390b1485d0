"""What every test starts from: a fixed seed, one thread, torch's own defaults."""

import gc
import importlib.metadata
from collections import Counter
from collections.abc import Generator, Iterator
from functools import cache

import pytest

SLOW = "slow"


def pytest_configure(config: pytest.Config) -> None:
    """Use one thread: these networks are small, and threads that wait for each other spin.

    Hypothesis draws few examples, and many for ``-m slow``. A process that only hands tests to
    others (``-n``) loads neither.
    """
    if config.getoption("numprocesses", None):
        return
    # Every Trainer asks all that is installed for its plugins, which takes it 8 ms.
    once = cache(importlib.metadata.entry_points)
    pytest.MonkeyPatch().setattr(importlib.metadata, "entry_points", once)
    import torch
    from hypothesis import settings

    torch.set_num_threads(1)
    settings.register_profile("few", max_examples=25)
    settings.register_profile(SLOW, max_examples=100)
    settings.load_profile(SLOW if config.option.markexpr == SLOW else "few")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from all that stays: searching it took an eighth of the time."""
    gc.disable()
    result = yield
    gc.freeze()
    gc.enable()
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark slow all but every n-th case of a grid; draw examples again, and more, for ``-m slow``.

    With an n that shares no factor with the lengths of the axes, the cases that are left differ in
    all of them.
    """
    places: Counter[str] = Counter()
    for item in items:
        grid = item.get_closest_marker("grid")
        name = item.nodeid.partition("[")[0]
        if grid is not None and places[name] % grid.kwargs["every"]:
            item.add_marker(SLOW)
        places[name] += 1
        if config.option.markexpr == SLOW and hasattr(getattr(item, "obj", None), "hypothesis"):
            item.add_marker(SLOW)


@pytest.fixture(autouse=True)
def _same_start_for_every_test() -> Iterator[None]:
    """Seed the global generator and see that the test left torch's defaults alone."""
    import torch

    torch.manual_seed(0)
    before = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    yield
    assert (torch.get_default_dtype(), torch.get_float32_matmul_precision()) == before
