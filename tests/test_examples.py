"""Examples in docstrings hold."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLACES = {
    "lightning_lyap": ROOT,
    "datamodules": ROOT,
    "paper": ROOT,
    "benchmarks": ROOT / "benchmarks",
}
MODULES = [
    ".".join(path.relative_to(start).with_suffix("").parts)
    for name, start in PLACES.items()
    for path in sorted((ROOT / name).rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name: str) -> None:
    result = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0
