"""Servers that fail in any way: said with the address and the remedy, nothing partial kept."""

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datamodules import fetching
from datamodules.fetching import FetchError, fetch, holds
from datamodules.sources import Dataset, DataSource
from tests.bad_input.strategies import assert_refused
from tests.datamodules.conftest import TOY_FILES
from tests.datamodules.server import FileServer

NAMES = tuple(TOY_FILES)
LIMIT = 0.1  # seconds to connect; silence is borne three times as long
PATIENT = 20.0  # where the server answers, however busy the machine is


def _fetch(server: FileServer, folder: Path, **limits: Any) -> None:
    fetch(NAMES, folder, title="toys", mirror=server.address, **limits)


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def _not_found(server: FileServer) -> None:
    server.files = {}


def _error(server: FileServer) -> None:
    server.statuses = [500] * 2


def _busy(server: FileServer) -> None:
    server.statuses = [503, 429]


def _forbidden(server: FileServer) -> None:
    server.statuses = [403] * 2


def _truncated(server: FileServer) -> None:
    server.truncate = True


def _dead_half_way(server: FileServer) -> None:
    server.truncate, server.announce_length = True, False


def _other_bytes(server: FileServer) -> None:
    server.files = dict.fromkeys(NAMES, b"log in to this hotspot first")


def _silent(server: FileServer) -> None:
    server.stall_after = 0


def _silent_half_way(server: FileServer) -> None:
    server.stall_after = 5


def _around_in_circles(server: FileServer) -> None:
    server.moved = {name: f"/{name}" for name in NAMES}


def _moved_to_nowhere(server: FileServer) -> None:
    server.moved = dict.fromkeys(NAMES, "/nowhere")


WAYS: dict[Callable[[FileServer], None], str] = {
    _not_found: "HTTPError: 404",
    _error: "HTTPError: 500",
    _busy: "HTTPError: 503",
    _forbidden: "HTTPError: 403",
    _truncated: "IncompleteRead",
    _dead_half_way: "other bytes",
    _other_bytes: "other bytes",
    _silent: "timed out",
    _silent_half_way: "timed out",
    _around_in_circles: "TooManyRedirects",
    _moved_to_nowhere: "HTTPError: 404",
}


MUTE = (_silent, _silent_half_way)


def _heal(server: FileServer) -> None:
    server.files, server.moved, server.statuses = dict(TOY_FILES), {}, []
    server.truncate, server.announce_length, server.stall_after = False, True, None
    server.requests.clear()


@pytest.mark.parametrize("go_wrong", WAYS, ids=lambda way: way.__name__[1:])
def test_every_failure_names_address_and_remedy_and_the_next_try_works(
    server: FileServer, tmp_path: Path, go_wrong: Callable[[FileServer], None]
) -> None:
    go_wrong(server)
    limit = LIMIT if go_wrong in MUTE else PATIENT
    start = time.monotonic()
    said = assert_refused(
        lambda: _fetch(server, tmp_path, connect_seconds=limit), "", (FetchError,)
    )
    assert time.monotonic() - start < 5
    for part in (f"{server.address}/{NAMES[0]}", WAYS[go_wrong], "data_dir", "data=synthetic"):
        assert part in said
    assert "LYAP_DATA_DIR" in said
    assert _files(tmp_path) == set()
    _heal(server)
    _fetch(server, tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in NAMES} == TOY_FILES
    assert _files(tmp_path) == set(NAMES)
    assert server.requests == list(NAMES)


def test_a_failure_in_the_middle_keeps_what_was_complete(
    server: FileServer, tmp_path: Path
) -> None:
    server.files[NAMES[1]] = b"another file"
    with pytest.raises(FetchError, match=NAMES[1]):
        _fetch(server, tmp_path)
    assert _files(tmp_path) == {NAMES[0]}
    _heal(server)
    _fetch(server, tmp_path)
    assert server.requests == [NAMES[1]]


def test_redirections_are_followed(server: FileServer, tmp_path: Path) -> None:
    server.files["elsewhere"] = server.files.pop(NAMES[0])
    server.moved = {NAMES[0]: "/elsewhere"}
    _fetch(server, tmp_path)
    assert holds(tmp_path, NAMES)
    assert server.requests == [NAMES[0], "elsewhere", NAMES[1]]


def _write_standin(folder: Path) -> None:
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"invented")


TOYS = Dataset("Toys", NAMES, "toys_v1", _write_standin)


@pytest.mark.parametrize("go_wrong", WAYS, ids=lambda way: way.__name__[1:])
def test_auto_falls_back_announced_within_seconds_and_real_never_does(
    server: FileServer, cache: Path, go_wrong: Callable[[FileServer], None]
) -> None:
    go_wrong(server)
    source = DataSource(TOYS, "auto", mirror=server.address, connect_seconds=LIMIT)
    start = time.monotonic()
    with pytest.warns(UserWarning, match="SYNTHETIC STAND-IN, NOT Toys") as caught:
        source.prepare()
    assert time.monotonic() - start < 5
    (announced,) = [one for one in caught if one.category is UserWarning]
    assert server.address in str(announced.message)
    assert source.locate() == (cache / "synthetic" / "toys_v1", "synthetic")
    assert _files(cache) == {f"synthetic/toys_v1/{name}" for name in NAMES}
    with pytest.raises(FileNotFoundError):
        DataSource(TOYS, "real", mirror=server.address).locate()


def _fetch_in_a_process(address: str, checksums: dict[str, str], folder: Path) -> None:
    fetching.registry = lambda: checksums  # type: ignore[assignment]
    fetch(NAMES, folder, title="toys", mirror=address)


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="processes can't be forked here"
)
def test_two_processes_fetch_into_one_cache(server: FileServer, tmp_path: Path) -> None:
    server.piece, server.pause = 100, 0.02
    checksums = fetching.registry()
    start = multiprocessing.get_context("fork")
    arguments = (server.address, checksums, tmp_path / "cache")
    both = [start.Process(target=_fetch_in_a_process, args=arguments) for _ in range(2)]
    for process in both:
        process.start()
    seen: set[bytes] = set()
    while any(process.is_alive() for process in both):
        path = tmp_path / "cache" / NAMES[1]
        if path.exists():
            seen.add(path.read_bytes())
        time.sleep(0.005)
    for process in both:
        process.join(timeout=20)
    assert [process.exitcode for process in both] == [0, 0]
    assert seen <= {TOY_FILES[NAMES[1]]}  # whole whenever it is there
    assert _files(tmp_path / "cache") == set(NAMES)
    assert holds(tmp_path / "cache", NAMES)


def test_an_address_that_is_none_is_not_taken_for_other_bytes(tmp_path: Path) -> None:
    said = assert_refused(
        lambda: fetch(["warpeace/input.txt"], tmp_path, title="toys", mirror="http://[::1"),
        "http://[::1/warpeace/input.txt",
        (FetchError,),
    )
    assert "Failed to parse" in said
    assert _files(tmp_path) == set()


def test_a_cache_that_is_no_folder_is_the_disks_fault(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = assert_refused(lambda: _fetch(server, tmp_path / "file"), "cache_dir", (FetchError,))
    assert "LYAP_CACHE_DIR" in said
    assert "Check the connection" not in said
    assert server.requests == []


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"names": ["toy/nothing.txt"]}, "names"),
        ({"mirror": "ftp://127.0.0.1"}, "mirror"),
        ({"mirror": 3}, "mirror"),
        ({"connect_seconds": 0}, "connect_seconds"),
        ({"connect_seconds": -1.0}, "connect_seconds"),
        ({"connect_seconds": float("nan")}, "connect_seconds"),
        ({"connect_seconds": "1"}, "connect_seconds"),
        ({"connect_seconds": None}, "connect_seconds"),
        ({"total_seconds": 0}, "total_seconds"),
        ({"total_seconds": True}, "total_seconds"),
    ],
)
def test_bad_arguments(
    server: FileServer, tmp_path: Path, arguments: dict[str, Any], name: str
) -> None:
    given: dict[str, Any] = {
        "names": NAMES,
        "folder": tmp_path,
        "title": "toys",
        "mirror": server.address,
    }
    assert_refused(lambda: fetch(**given | arguments), name, (ValueError,))
    assert server.requests == []
