"""A history that another follows: written beside it, once, and nowhere else."""

import warnings
from pathlib import Path

import pytest

from lightning_lyap import SpectrumHistory
from tests.reporters import Reports, fake_trainer, measurement


def test_a_history_that_ends_is_written_before_its_file_is_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each module to its own folder, and again until that succeeds."""
    trainer, reports = fake_trainer(tmp_path), Reports(figures=False)
    save, failing = SpectrumHistory.save, {"spectra_until_step_7.npz"}

    def save_or_fail(history: SpectrumHistory, path: Path) -> Path:
        if path.name in failing:
            raise OSError("disk is full")
        return save(history, path)

    monkeypatch.setattr(SpectrumHistory, "save", save_or_fail)
    reports.publish(trainer, 0.0, a=measurement(1.0, 1.0), b=measurement(2.0, 2.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reports.publish(trainer, 1.0, a=measurement(3.0), b=measurement(4.0))
    said = [history.failures[0]["message"] for history in reports.histories.values()]
    assert said == ["OSError while saving: disk is full"] * 2
    saved = {name: tmp_path / f"logs/lyapunov/{name}" for name in "ab"}
    before = {name: folder / "spectra.npz" for name, folder in saved.items()}
    widths = [SpectrumHistory.load(before[name]).exponents().shape[1] for name in "ab"]
    assert widths == [2, 2]
    failing.clear()
    reports.publish(trainer, 2.0, a=measurement(5.0), b=measurement(6.0))
    ended = [SpectrumHistory.load(saved[n] / "spectra_until_step_7.npz") for n in "ab"]
    assert [history.exponents().tolist() for history in ended] == [[[1.0, 1.0]], [[2.0, 2.0]]]
    now = [SpectrumHistory.load(before[name]).exponents().tolist() for name in "ab"]
    assert now == [[[3.0], [5.0]], [[4.0], [6.0]]]


@pytest.mark.filterwarnings("ignore:The spectra of 'rnn' now have")
@pytest.mark.parametrize("folder", ["one", "other"])
def test_a_history_that_ended_goes_to_the_folder_of_its_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    reports, save = Reports(figures=False), SpectrumHistory.save
    fails = [True]

    def fail_once(history: SpectrumHistory, path: Path) -> Path:
        if fails:
            raise OSError(f"disk is full{fails.pop() * '!'}")
        return save(history, path)

    first, later = fake_trainer(tmp_path / "one"), fake_trainer(tmp_path / folder)
    reports.publish(first, 0.0, rnn=measurement(1.0, 1.0))
    monkeypatch.setattr(SpectrumHistory, "save", fail_once)
    with pytest.warns(UserWarning, match="disk is full!"):
        reports.publish(first, 1.0, rnn=measurement(2.0))
    reports.publish(later, 2.0, rnn=measurement(3.0))
    ended = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("spectra_until*")}
    assert ended == ({"one"} if folder == "one" else set())
