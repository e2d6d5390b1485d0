"""Fetching: checksummed, resumable, within the deadline, with errors that help."""

import sys
import threading
import time
from pathlib import Path

import pytest

from datamodules.fetching import FetchError, address, fetch, holds, registry
from tests.datamodules.conftest import TOY_FILES
from tests.datamodules.server import FileServer

NAMES = tuple(TOY_FILES)


def _fetch(server: FileServer, folder: Path, **limits: float) -> None:
    fetch(NAMES, folder, title="toys", mirror=server.address, **limits)


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_registry_lists_the_text_and_the_24_recordings_of_the_paper() -> None:
    names = list(registry())
    assert len(names) == 25
    assert "warpeace/input.txt" in names
    assert not any("running" in name for name in names)
    assert all(len(checksum) == 64 for checksum in registry().values())


def test_registry_has_the_checksums_of_the_real_data(real_data: Path) -> None:
    assert holds(real_data, list(registry()))


def test_public_addresses_are_pinned_to_a_commit() -> None:
    text, motion = address("warpeace/input.txt"), address("cmu_mocap/test/soccer/soccer_1.txt")
    assert text.endswith("/5908e4526f06d46972b8e9266fcd3d739b176bbe/CharRNN/WP/input.txt")
    assert motion.endswith(
        "/f27ccb4ed5b0568cde2b7cf096dd2683c901b4d8/data/cmu_mocap/test/soccer/soccer_1.txt"
    )
    assert address("warpeace/input.txt", "http://m/x/") == "http://m/x/warpeace/input.txt"


def test_fetches_once(server: FileServer, tmp_path: Path) -> None:
    for _ in range(2):
        _fetch(server, tmp_path)
        assert {name: (tmp_path / name).read_bytes() for name in NAMES} == TOY_FILES
    assert server.requests == list(NAMES)


def test_damaged_file_is_fetched_again(server: FileServer, tmp_path: Path) -> None:
    _fetch(server, tmp_path)
    (tmp_path / NAMES[0]).write_bytes(b"damaged")
    _fetch(server, tmp_path)
    assert holds(tmp_path, NAMES)
    assert server.requests == [*NAMES, NAMES[0]]


def test_wrong_checksum_keeps_nothing(server: FileServer, tmp_path: Path) -> None:
    server.files[NAMES[0]] = b"another file"
    with pytest.raises(FetchError, match=r"Expected .*toy/a.txt to have the sha256 sum .*but got"):
        _fetch(server, tmp_path)
    assert _files(tmp_path) == set()


def test_missing_file_names_the_address(server: FileServer, tmp_path: Path) -> None:
    del server.files[NAMES[0]]
    with pytest.raises(FetchError, match=r"toy/a.txt .*but got HTTPError: 404"):
        _fetch(server, tmp_path)


def test_refused_connection_tells_what_to_do(server: FileServer, tmp_path: Path) -> None:
    server.stop()
    with pytest.raises(FetchError) as caught:
        _fetch(server, tmp_path)
    for part in (server.address, str(tmp_path), "data_dir", "LYAP_DATA_DIR", "data=synthetic"):
        assert part in str(caught.value)


def test_truncated_body_keeps_nothing(server: FileServer, tmp_path: Path) -> None:
    server.truncate = True
    with pytest.raises(FetchError):
        _fetch(server, tmp_path)
    assert _files(tmp_path) == set()


def test_goes_on_with_what_is_missing(server: FileServer, tmp_path: Path) -> None:
    del server.files[NAMES[1]]
    with pytest.raises(FetchError):
        _fetch(server, tmp_path)
    assert _files(tmp_path) == {NAMES[0]}
    server.files[NAMES[1]] = TOY_FILES[NAMES[1]]
    _fetch(server, tmp_path)
    assert server.requests == [NAMES[0], NAMES[1], NAMES[1]]


@pytest.mark.parametrize(
    ("piece", "connect_seconds"), [(1, 0.3), (32 * 1024, 5.0)], ids=["bytes", "chunks"]
)
def test_trickling_server_cannot_stretch_the_deadline(
    server: FileServer, tmp_path: Path, piece: int, connect_seconds: float
) -> None:
    server.files[NAMES[0]] = bytes(10_000_000)
    server.piece, server.pause = piece, 0.1
    start = time.monotonic()
    with pytest.raises(FetchError, match="time allowed for fetching is over"):
        _fetch(server, tmp_path, connect_seconds=connect_seconds, total_seconds=0.6)
    assert time.monotonic() - start < 2.0
    assert _files(tmp_path) == set()


def test_abandoned_transfer_ends_by_itself(server: FileServer, tmp_path: Path) -> None:
    server.files[NAMES[0]] = bytes(10_000_000)
    server.piece, server.pause = 32 * 1024, 0.05
    before = set(threading.enumerate())
    with pytest.raises(FetchError):
        _fetch(server, tmp_path, total_seconds=0.2)
    after = set(threading.enumerate()) - before
    transfers = [thread for thread in after if thread.name == "transfer"]
    for thread in transfers:
        thread.join(timeout=2.0)
    assert not any(thread.is_alive() for thread in transfers)


def test_slow_server_is_waited_for_without_deadline(server: FileServer, tmp_path: Path) -> None:
    server.pause = 0.3
    _fetch(server, tmp_path, connect_seconds=0.2)
    assert holds(tmp_path, NAMES)


def test_missing_pooch_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(FetchError, match=r'pip install "lightning_lyap\[tasks\]"'):
        fetch(NAMES, tmp_path, title="toys")
