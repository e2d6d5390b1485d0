"""Nothing of the user's: caches in temporary folders, no environment variables, no network."""

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from datamodules import fetching, sources
from tests.datamodules.server import FileServer

SIBLING = Path(__file__).resolve().parents[2].parent / "shared" / "data"
REAL_DATA = Path(os.environ.get("LYAP_DATA_DIR") or SIBLING)
TOY_FILES = {"toy/a.txt": b"first file\n", "toy/deep/b.txt": b"second file\n" * 100}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LYAP_DATA_DIR", raising=False)
    monkeypatch.setenv("LYAP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "_announced", set())
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def real_data() -> Path:
    if not fetching.holds(REAL_DATA, list(fetching.registry())):
        pytest.skip(f"the real data is not in LYAP_DATA_DIR or {SIBLING}")
    return REAL_DATA


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server of toy files, which the registry knows instead of the real ones."""
    pytest.importorskip("pooch")
    toys = {name: sha256(content).hexdigest() for name, content in TOY_FILES.items()}
    monkeypatch.setattr(fetching, "registry", lambda: toys)
    files = FileServer()
    files.files = dict(TOY_FILES)
    yield files
    files.stop()
