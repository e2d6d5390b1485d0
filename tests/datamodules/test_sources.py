"""Sources: every mode finds the data it promises, or says what it expected where."""

import sys
import warnings
from pathlib import Path

import pytest

from datamodules.fetching import FetchError
from datamodules.sources import Dataset, DataSource, GivenFile
from tests.datamodules.conftest import TOY_FILES
from tests.datamodules.server import FileServer


def _write_standin(folder: Path) -> None:
    _fill(folder, dict.fromkeys(TOY_FILES, b"invented"))


def _fill(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


TOYS = Dataset("Toys", tuple(TOY_FILES), "toys_v1", _write_standin)


def _source(server: FileServer, source: str, data_dir: Path | None = None) -> DataSource:
    return DataSource(
        TOYS, source, data_dir=None if data_dir is None else str(data_dir), mirror=server.address
    )


@pytest.mark.parametrize("mode", ["real", "auto"])
def test_given_folder_is_real(server: FileServer, tmp_path: Path, mode: str) -> None:
    _fill(tmp_path / "mine", TOY_FILES)
    source = _source(server, mode, tmp_path / "mine")
    source.prepare()
    assert source.locate() == (tmp_path / "mine", "real")
    assert server.requests == []


def test_environment_names_a_folder_and_the_argument_goes_first(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mine", "theirs"):
        _fill(tmp_path / name, TOY_FILES)
    monkeypatch.setenv("LYAP_DATA_DIR", str(tmp_path / "theirs"))
    assert _source(server, "auto").locate().path == tmp_path / "theirs"
    assert _source(server, "auto", tmp_path / "mine").locate().path == tmp_path / "mine"


@pytest.mark.parametrize("mode", ["real", "auto"])
@pytest.mark.parametrize("origin", ["data_dir", "LYAP_DATA_DIR"])
@pytest.mark.parametrize(("name", "state"), [("tpyo", "no such folder"), ("half", "1 of 2 files")])
def test_given_folder_without_the_data_is_an_error(
    server: FileServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    origin: str,
    name: str,
    state: str,
) -> None:
    _fill(tmp_path / "half", {"toy/a.txt": b"first"})
    if origin == "LYAP_DATA_DIR":
        monkeypatch.setenv(origin, str(tmp_path / name))
    source = _source(server, mode, tmp_path / name if origin == "data_dir" else None)
    with pytest.raises(FileNotFoundError, match=f"Expected Toys at .*{origin} is .*{state}"):
        source.prepare()
    assert server.requests == []


@pytest.mark.parametrize("mode", ["real", "auto"])
def test_fetches_into_the_cache_and_stays_there(server: FileServer, cache: Path, mode: str) -> None:
    for _ in range(2):
        source = _source(server, mode)
        source.prepare()
        assert source.locate() == (cache, "real")
    assert server.requests == list(TOY_FILES)


def test_synthetic_looks_at_nothing_else(server: FileServer, tmp_path: Path, cache: Path) -> None:
    source = _source(server, "synthetic", tmp_path / "missing")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source.prepare()
    assert source.locate() == (cache / "synthetic" / "toys_v1", "synthetic")
    assert server.requests == []


def test_auto_falls_back_and_says_so_once(server: FileServer, cache: Path) -> None:
    server.stop()
    with pytest.warns(UserWarning, match=r"SYNTHETIC STAND-IN, NOT Toys.*LYAP_DATA_DIR") as caught:
        _source(server, "auto").prepare()
    assert len(caught) == 1
    assert server.address in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = _source(server, "auto")
        again.prepare()
    assert again.locate() == (cache / "synthetic" / "toys_v1", "synthetic")


def test_auto_falls_back_on_a_wrong_checksum(server: FileServer) -> None:
    server.files["toy/a.txt"] = b"log in to this hotspot first"
    with pytest.warns(UserWarning, match="but got other bytes"):
        _source(server, "auto").prepare()
    assert _source(server, "auto").locate().resolved_source == "synthetic"


def test_auto_falls_back_at_the_deadline_and_goes_on_next_time(
    server: FileServer, cache: Path
) -> None:
    server.slow_file, server.pause = "toy/deep/b.txt", 5.0
    source = DataSource(TOYS, "auto", mirror=server.address, fetch_seconds=0.5)
    with pytest.warns(UserWarning, match="time allowed"):
        source.prepare()
    server.pause = 0.0
    again = _source(server, "auto")
    again.prepare()
    assert again.locate() == (cache, "real")
    assert server.requests == ["toy/a.txt", "toy/deep/b.txt", "toy/deep/b.txt"]


def test_other_processes_decide_alike_without_preparing(server: FileServer) -> None:
    server.stop()
    first = _source(server, "auto")
    with pytest.warns(UserWarning, match="STAND-IN"):
        first.prepare()
    assert _source(server, "auto").locate() == first.locate()


def test_decision_of_an_object_stays(server: FileServer) -> None:
    removed = server.files.pop("toy/a.txt")
    source = _source(server, "auto")
    with pytest.warns(UserWarning, match="STAND-IN"):
        source.prepare()
    server.files["toy/a.txt"] = removed
    source.prepare()
    assert source.locate().resolved_source == "synthetic"
    assert server.requests == ["toy/a.txt"]


def test_damaged_cache_is_not_real(server: FileServer, cache: Path) -> None:
    _fill(cache, {**TOY_FILES, "toy/a.txt": b"damaged"})
    server.stop()
    source = _source(server, "auto")
    with pytest.warns(UserWarning, match="STAND-IN"):
        source.prepare()
    assert source.locate().resolved_source == "synthetic"
    with pytest.raises(FetchError):
        _source(server, "real").prepare()


def test_real_never_falls_back(server: FileServer) -> None:
    _source(server, "synthetic").prepare()
    server.stop()
    with pytest.raises(FetchError):
        _source(server, "real").prepare()
    with pytest.raises(FileNotFoundError, match=r"source='real'.*Call prepare_data\(\)"):
        _source(server, "real").locate()


def test_without_pooch_auto_falls_back_with_the_reason(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.warns(UserWarning, match=r'pip install "lightning_lyap\[tasks\]"'):
        _source(server, "auto").prepare()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "internet"}, r"Expected source to be one of .*but got 'internet'"),
        ({"data_dir": ""}, r"Expected data_dir to name a folder, but got ''"),
    ],
)
def test_bad_arguments(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataSource(TOYS, **arguments)  # type: ignore[arg-type]


def test_given_file_has_to_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Expected text to name .*missing.txt"):
        GivenFile(tmp_path / "missing.txt")
