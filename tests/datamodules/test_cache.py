"""The cache: where it is, and that folders appear in it all at once."""

from pathlib import Path

import pytest

from datamodules.cache import cache_folder, write_once


def _write(folder: Path) -> None:
    folder.mkdir()
    (folder / "file").write_text("mine")


def test_argument_goes_before_the_environment(tmp_path: Path, cache: Path) -> None:
    assert cache_folder(str(tmp_path)) == tmp_path
    assert cache_folder(None) == cache


def test_defaults_to_the_user_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    pooch = pytest.importorskip("pooch")
    monkeypatch.delenv("LYAP_CACHE_DIR")
    assert cache_folder(None) == Path(pooch.os_cache("lightning_lyap"))


def test_writes_once(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "data_v1"
    write_once(folder, _write)
    write_once(folder, lambda _: pytest.fail("written twice"))
    assert [path.name for path in folder.parent.iterdir()] == ["data_v1"]


def test_interrupted_writing_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(folder: Path) -> None:
        _write(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_once(tmp_path / "data_v1", interrupt)
    assert list(tmp_path.iterdir()) == []


def test_another_process_may_finish_first(tmp_path: Path) -> None:
    folder = tmp_path / "data_v1"

    def race(draft: Path) -> None:
        _write(draft)
        folder.mkdir()
        (folder / "file").write_text("theirs")

    write_once(folder, race)
    assert (folder / "file").read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [folder]


def test_unwritable_cache_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"Expected to write .*but got .*cache_dir or LYAP_CACHE_DIR"):
        write_once(tmp_path / "file" / "data_v1", _write)
