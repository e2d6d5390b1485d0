"""Runs are found where they lie, named by what tells them apart, and loaded with their losses."""

from pathlib import Path

import pytest

from lightning_lyap.sweeps.runs import find_spectra, load_runs, short_names
from tests.sweep_runs import leave_run, leave_sweep

SPECTRA = {0.0: [-1.0, -2.0]}


def test_runs_are_found_below_any_folder_in_natural_order(tmp_path: Path) -> None:
    folders = leave_sweep(tmp_path / "sweep", 11)
    assert list(find_spectra([str(tmp_path)])) == folders
    assert list(find_spectra([str(tmp_path / "sweep" / "[0-2]")])) == folders[:3]
    assert list(find_spectra([str(folders[3]), str(folders[3].parent)])) == [folders[3]]
    assert list(find_spectra([str(folders[3] / "lyapunov")])) == [folders[3]]


def test_runs_are_named_by_what_differs() -> None:
    assert short_names([Path("/m/0/a"), Path("/m/10/a")]) == ["0", "10"]
    assert short_names([Path("/m/0/a"), Path("/m/0/b")]) == ["a", "b"]
    assert short_names([Path("/m/d/0/a"), Path("/m/e/0/a")]) == ["d", "e"]
    assert short_names([Path("/m/0/a")]) == ["a"]
    assert short_names([Path("/m"), Path("/m/version_1")]) == [".", "version_1"]


def test_one_of_several_modules_must_be_chosen(tmp_path: Path) -> None:
    for name in ("encoder", "decoder"):
        leave_run(tmp_path / "run", SPECTRA, [1.0], where=f"lyapunov/{name}")
    with pytest.raises(ValueError, match=r"--module.*\['decoder', 'encoder'\]"):
        find_spectra([str(tmp_path)])
    (file,) = find_spectra([str(tmp_path)], module="encoder").values()
    assert file.parent.name == "encoder"
    assert find_spectra([str(tmp_path)], module="other") == {}


def test_a_callback_of_another_name_has_its_own_folder(tmp_path: Path) -> None:
    leave_run(tmp_path / "run", SPECTRA, [1.0], where="hidden")
    with pytest.raises(FileNotFoundError, match="--name"):
        find_spectra([str(tmp_path)])
    assert list(find_spectra([str(tmp_path)], "hidden")) == [tmp_path / "run"]


def test_places_without_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Expected folders of runs, but got 'nowhere"):
        find_spectra(["nowhere*"])
    with pytest.raises(FileNotFoundError, match="found none"):
        find_spectra([str(tmp_path)])


def test_what_cannot_be_read_is_said_and_the_others_are_loaded(tmp_path: Path) -> None:
    folders = leave_sweep(tmp_path, 3)
    (folders[1] / "lyapunov" / "spectra.npz").write_bytes(b"half")
    (folders[2] / "losses.csv").write_text("epoch,val/loss\n1,abc\n")
    runs, skipped = load_runs(find_spectra([str(tmp_path)]), "val/loss")
    assert [run.name for run in runs] == ["0"]
    assert runs[0].losses == {1.0: 2.0, 2.0: 0.5, 3.0: 1.5}
    assert "can't be read" in skipped["1"]
    assert "'abc'" in skipped["2"]


def test_losses_of_the_users_replace_those_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_sweep(tmp_path, 3)
    files = find_spectra([str(tmp_path)])
    monkeypatch.chdir(tmp_path)
    given = {"0": {1.0: 5.0}, str(tmp_path / "1"): {1.0: 6.0}}
    runs, _ = load_runs(files, "val/loss", given)
    assert [run.losses for run in runs] == [{1.0: 5.0}, {1.0: 6.0}, {}]
    for stranger in ("7", str(tmp_path), ""):
        with pytest.raises(ValueError, match=r"to name the runs \['0', '1', '2'\]"):
            load_runs(files, "val/loss", {stranger: {1.0: 1.0}})
