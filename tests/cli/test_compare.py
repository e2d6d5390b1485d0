"""A real sweep, a run of it that ended half-way, and the commands that look at them afterwards."""

import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_lyap import SpectrumHistory
from lightning_lyap.__main__ import main
from lightning_lyap.sweeps.csv_tables import read_table
from lightning_lyap.tasks.loss_recorder import LossRecorder
from tests.sweep_runs import leave_run, leave_sweep
from tests.training import train_here

TINY = [
    "task=mocap",
    "data=synthetic",
    "task.hidden_size=6",
    "lyapunov.num_sequences=3",
    "lyapunov.num_steps=20",
    "lyapunov.every_n_validations=1",
    "lyapunov.figures=false",
    "trainer.accelerator=cpu",
    "trainer.limit_train_batches=3",
    "trainer.limit_val_batches=2",
    "trainer.enable_progress_bar=false",
    "trainer.enable_model_summary=false",
]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train four networks, then a fifth that is stopped after its first epoch."""
    folder = tmp_path_factory.mktemp("sweep")
    words = [
        "-m",
        *TINY,
        "init_p=0.05,0.1,0.3,0.5",
        "trainer.max_epochs=3",
        "hydra.sweep.dir=multi",
        "hydra.sweep.subdir=${hydra.job.num}",
    ]
    record = LossRecorder.on_train_epoch_end

    def stop(self: LossRecorder, *arguments: Any) -> None:
        record(self, *arguments)
        raise SystemExit(3)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.chdir(folder)
        patch.setenv("LYAP_CACHE_DIR", str(folder / "cache"))
        assert train_here(*words) == 0
        patch.setattr(LossRecorder, "on_train_epoch_end", stop)
        assert train_here(*TINY, "init_p=0.2", "hydra.run.dir=multi/stopped") == 3
    return folder


def test_a_sweep_is_compared(
    sweep: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sweep)
    assert main(["compare", "multi"]) == 0
    said = capsys.readouterr().out
    assert "n = 5 runs, spectra of epochs" in said
    for name in (
        "max",
        "mean",
        "variance",
        "min",
        "kaplan_yorke_dimension",
        "early loss (epoch 1)",
    ):
        assert f"\n{name} " in said
    assert "nan" not in said.lower()
    folder = sweep / "multi" / "comparison"
    assert sorted(path.name for path in folder.iterdir()) == [
        "runs.csv",
        "spectra_by_loss.png",
        "statistics_by_loss.png",
    ]
    assert all(str(path) in said for path in folder.iterdir())
    rows = {row["run"]: row for row in read_table(folder / "runs.csv")}
    assert list(rows) == ["0", "1", "2", "3", "stopped"]
    for name, row in rows.items():
        (spectra,) = (sweep / "multi" / name).rglob("spectra.npz")
        history = SpectrumHistory.load(spectra)
        assert float(row["max"]) == history.spectra[-1].measures().max
        losses = read_table(next((sweep / "multi" / name).rglob("losses.csv")))
        assert float(row["best_loss"]) == min(float(line["val/loss"]) for line in losses)
        assert row["early_loss"] == losses[0]["val/loss"]


def test_the_same_seed_gives_the_same_table(
    sweep: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sweep)
    monkeypatch.setattr("lightning_lyap.cli.compare.plotting_available", lambda: False)
    words = ["compare", "multi/[0-3]", "--epoch", "1", "--output", "mine", "--seed", "5"]
    printed = []
    for _ in range(2):
        assert main(words) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert "n = 4 runs, spectra of epoch 1" in printed[0]


def test_a_checkpoint_gives_the_last_spectrum_of_its_run(
    sweep: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sweep)
    monkeypatch.setenv("LYAP_CACHE_DIR", str(sweep / "cache"))
    (spectra,) = (sweep / "multi" / "1").rglob("spectra.npz")
    words = ["multi/1/checkpoints/last.ckpt", "--num-sequences", "3", "--num-steps", "20"]
    assert main(["spectrum", *words, "--output", "out"]) == 0
    said = capsys.readouterr().out
    assert "after epoch 3; data: synthetic" in said
    assert "state=hidden" in said
    measured = SpectrumHistory.load(sweep / "out" / "spectra.npz")
    expected = SpectrumHistory.load(spectra)
    assert measured.epochs == [3.0]
    assert measured.steps == [9]
    torch.testing.assert_close(measured.exponents()[0], expected.exponents()[-1])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["multi/0", "multi/1"], "at least 3 runs to compare, but got 2"),
        (["nowhere"], "but got 'nowhere'"),
        (["multi", "--epoch", "77"], "no spectrum of epoch 77"),
        (["multi", "--loss-tag", "val_loss"], "no validation loss found"),
        (["multi", "--losses", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_bad_input_is_refused_in_a_line(
    sweep: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(sweep)
    assert main(["compare", *words]) == 1
    assert message in capsys.readouterr().err
    assert not (sweep / "comparison").exists()


def test_losses_of_other_code_come_from_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(4):
        leave_run(tmp_path / f"run{i}", {1.0: [-1.0 - i, -3.0]}, [])
    lines = [f"run{i},{epoch},{i + epoch / 10}" for i in range(4) for epoch in (1, 2)]
    table = tmp_path / "mine.csv"
    table.write_text("\n".join(["run,epoch,val_loss", *lines]))
    assert main(["compare", str(tmp_path), "--losses", str(table)]) == 0
    said = capsys.readouterr().out
    assert "max " in said
    assert "-1.00 [-1.00, -1.00]" in said


def test_figures_need_matplotlib_but_the_table_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_sweep(tmp_path)
    monkeypatch.setattr("lightning_lyap.cli.compare.plotting_available", lambda: False)
    assert main(["compare", str(tmp_path)]) == 0
    assert "lightning-lyap[plots]" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "comparison").iterdir()] == ["runs.csv"]


def test_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    for words, part in (([], "COMMAND"), (["--help"], "compare"), (["compare", "-h"], "--epoch")):
        with pytest.raises(SystemExit):
            main(words)
        printed = capsys.readouterr()
        assert part in printed.out + printed.err


def test_a_package_that_is_missing_is_named_with_the_extra_that_has_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    for name in ("lightning_lyap.cli.compare", "lightning_lyap.sweeps.correlation"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delitem(sys.modules, "lightning_lyap.sweeps.comparison", raising=False)
    assert main(["compare", "runs"]) == 1
    said = capsys.readouterr().err
    assert "scipy.stats" in said
    assert 'pip install "lightning-lyap[tasks]"' in said
