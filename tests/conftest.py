"""What every test starts from: a fixed seed, one thread, torch's own defaults."""

from collections.abc import Iterator

import pytest
import torch


def pytest_configure() -> None:
    """Use one thread: these networks are small, and threads that wait for each other spin."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_start_for_every_test() -> Iterator[None]:
    """Seed the global generator and see that the test left torch's defaults alone."""
    torch.manual_seed(0)
    before = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    yield
    assert (torch.get_default_dtype(), torch.get_float32_matmul_precision()) == before
