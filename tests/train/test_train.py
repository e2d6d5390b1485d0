"""The main command: configuration, a run to its end, sweeps, errors before work starts."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from hydra.utils import instantiate
from omegaconf import DictConfig
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from conf.schema import register
from lightning_lyap import LyapunovSpectrumCallback, SpectrumHistory
from lightning_lyap.sweeps.csv_tables import read_table
from lightning_lyap.sweeps.losses import read_losses
from lightning_lyap.tasks import CharRNN, MocapRNN
from tests.tasks.test_hparams_table import hparams_table
from tests.training import ROOT, SMALL, leave_rhyme, train, train_here

pytestmark = pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return leave_rhyme(tmp_path)


def composed(*overrides: str) -> DictConfig:
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", overrides=list(overrides))


@pytest.mark.grid(every=5)
@pytest.mark.parametrize("task", ["mocap", "charrnn"])
@pytest.mark.parametrize("lyapunov", ["default", "leading", "auto"])
@pytest.mark.parametrize("trainer", ["default", "quick"])
def test_every_group_composes(task: str, lyapunov: str, trainer: str) -> None:
    cfg = composed(f"task={task}", f"lyapunov={lyapunov}", f"trainer={trainer}")
    callback = instantiate(cfg.lyapunov)
    assert isinstance(callback, LyapunovSpectrumCallback)
    assert callback.settings.state == "hidden"
    assert callback.settings.num_exponents == (32 if lyapunov == "leading" else None)
    assert callback.settings.orthonormalize_every == ("auto" if lyapunov == "auto" else 1)
    assert callback.settings.layers == "joint"


def test_a_configuration_can_be_pickled_and_its_types_are_checked() -> None:
    cfg = composed("lyapunov.modules=[1]")
    assert pickle.dumps(cfg)
    assert instantiate(cfg.lyapunov).modules == ("1",)
    for wrong in ("modules={a: 1}", "modules=rnn", "state=null", "num_steps=abc", "dtype=[1]"):
        with pytest.raises(ConfigCompositionException):
            composed(f"lyapunov.{wrong}")


def test_every_option_of_every_group_is_composed() -> None:
    for group in sorted(path.name for path in (ROOT / "conf").iterdir() if path.is_dir()):
        for option in sorted((ROOT / "conf" / group).glob("*.yaml")):
            assert composed(f"{group}={option.stem}")


def test_mocap_is_the_papers() -> None:
    cfg = composed("task=mocap", "init_p=0.3")
    model = instantiate(cfg.model, num_features=20)
    assert isinstance(model, MocapRNN)
    assert (model.rnn.hidden_size, model.rnn.num_layers, model.rnn.bias) == (256, 1, True)
    assert model.rnn.get_parameter("weight_hh_l0").abs().max().item() == pytest.approx(
        0.3, rel=1e-3
    )
    assert (cfg.task.batch_size, cfg.task.window, cfg.task.lr) == (250, 25, 0.05)


def test_charrnn_is_the_papers() -> None:
    cfg = composed("task=charrnn")
    model = instantiate(cfg.model, vocab_size=82)
    assert isinstance(model, CharRNN)
    assert (model.rnn.hidden_size, model.rnn.num_layers, model.rnn.bias) == (512, 1, False)
    assert model.rnn.get_parameter("weight_hh_l0").abs().max().item() == pytest.approx(
        0.08, rel=1e-3
    )
    assert (cfg.task.batch_size, cfg.task.sequence_length, cfg.trainer.max_epochs) == (100, 100, 40)


def test_one_word_switches_to_the_full_state() -> None:
    assert instantiate(composed("lyapunov.state=full").lyapunov).settings.state == "full"


def test_intervals_and_layers_are_one_word_each() -> None:
    cfg = composed("lyapunov.orthonormalize_every=auto", "lyapunov.layers=union")
    settings = instantiate(cfg.lyapunov).settings
    assert (settings.orthonormalize_every, settings.layers) == ("auto", "union")
    fixed = instantiate(composed("lyapunov.orthonormalize_every=5").lyapunov).settings
    assert fixed.orthonormalize_every == 5


@pytest.mark.grid(every=3)
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search=initp", "init_p\n"),
        ("objective=val/los", "to name metrics of the run, but got val/los. There are"),
        ("objective=lyapunov/rnn/maxi", "lyapunov/max, lyapunov/max_margin"),
        ("objective=[val/loss,val/loss]", "Expected `objective` to be the name of a metric"),
        ("task=mocaap", "mocap"),
        ("task.lr=abc", "could not be converted to Float"),
        ("task.lrr=1", "Key 'lrr' not in"),
        ("trainer.max_epoch=3", "Key 'max_epoch' not in"),
        ("init_p=-1", "Expected `init_p`"),
        ("task.cell=transformer", "Expected `cell` to be one of"),
        ("task.dropout=1.5", "Expected `dropout`"),
        ("lyapunov.state=both", "Expected `state` to be one of"),
        ("lyapunov.layers=each", "Expected `layers` to be one of ('joint', 'union')"),
        ("lyapunov.orthonormalize_every=often", "to be an int or 'auto', but got 'often'"),
        ("lyapunov.orthonormalize_every=2.5", "to be an int or 'auto', but got 2.5"),
        ("lyapunov.num_steps=0", "Expected `num_steps`"),
        ("task.text=missing.txt", "missing.txt"),
    ],
)
def test_bad_settings_fail_before_training_and_name_the_remedy(
    override: str,
    message: str,
    text: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [*SMALL, f"task.text={text}"]
    words = [word for word in words if word.split("=")[0] != override.split("=")[0]]
    monkeypatch.chdir(text.parent)
    assert train_here(*words, override) == 1
    said = "".join(capsys.readouterr())
    assert message in said
    assert "train.py --help" in said
    assert not list(text.parent.rglob("*.ckpt"))


def test_help_is_worth_reading(capsys: pytest.CaptureFixture[str]) -> None:
    assert train_here("--help") == 0
    said = capsys.readouterr().out
    for part in (
        "task=mocap init_p=0.3",
        "task: charrnn, mocap",
        "search: init_p, loss_and_memory",
        "hydra/launcher=joblib",
        "objective: val/loss_best",
        "num_sequences: 10",
        "tensorboard",
    ):
        assert part in said


def test_a_run_from_another_folder_to_its_table(
    text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(text.parent)
    assert train_here(*SMALL, f"task.text={text}", "trainer.max_epochs=2") == 0
    said = "".join(capsys.readouterr())
    (folder,) = (text.parent / "outputs" / "charrnn").iterdir()
    assert "val. loss" in said
    # TensorBoard keeps ten images of a tag, and with `images=0` none at all.
    assert f"tensorboard --logdir {folder} --samples_per_plugin images=1000" in said
    (spectra,) = folder.rglob("spectra.npz")
    assert str(spectra) in said
    history = SpectrumHistory.load(spectra)
    assert history.epochs == [0.0, 1.0, 2.0]
    assert history.exponents().shape == (3, 8)

    best = next(folder.rglob("best-*.ckpt"))
    assert CharRNN.load_from_checkpoint(best).rnn.hidden_size == 8
    assert (folder / ".hydra" / "config.yaml").exists()

    scalars: dict[str, list[float]] = {}
    for file in folder.rglob("events.out.tfevents.*"):
        seen = EventAccumulator(str(file))
        seen.Reload()
        for tag in seen.Tags()["scalars"]:
            scalars.setdefault(tag, []).extend(event.value for event in seen.Scalars(tag))
    assert {"train/loss", "val/loss", "lyapunov/max", "lyapunov/seconds"} <= set(scalars)
    # The row of the HPARAMS table adds no points to curves.
    assert (len(scalars["val/loss"]), len(scalars["lyapunov/max"])) == (2, 3)


def test_synthetic_data_is_announced_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train_here("task=mocap", "trainer=quick", "data=synthetic", *SMALL[1:2]) == 0
    said = "".join(capsys.readouterr())
    assert "SYNTHETIC" in said
    (folder,) = (tmp_path / "outputs" / "mocap").iterdir()
    assert (folder / "mocap-synthetic").is_dir()
    assert "synthetic" in (folder / "mocap-synthetic" / "hparams.yaml").read_text()
    assert "copy_last" in said


def test_a_sweep(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(text.parent)
    assert train_here("-m", *SMALL, f"task.text={text}", "trainer=quick", "init_p=0.1,0.3") == 0
    jobs = sorted((text.parent / "multirun" / "charrnn").glob("*/*/charrnn-*"))
    spectra = [SpectrumHistory.load(job / "lyapunov" / "spectra.npz") for job in jobs]
    assert len(spectra) == 2
    assert not torch.equal(spectra[0].exponents(), spectra[1].exponents())

    columns, rows = hparams_table(text.parent / "multirun")
    # TensorBoard opens the table with the first five hyperparameters.
    assert "init_p" in columns[:5]
    assert columns[-4:] == ["val/loss_best", "lyapunov/max", "lyapunov/mean", "val/loss"]
    rows.sort(key=lambda row: row["init_p"])
    assert [row["init_p"] for row in rows] == pytest.approx([0.1, 0.3])
    for row, job, history in zip(rows, jobs, spectra, strict=True):
        losses = read_losses(job, "val/loss")
        assert row["val/loss_best"] == pytest.approx(min(losses.values()))
        assert row["lyapunov/max"] == pytest.approx(history.exponents()[-1, 0].item())
        assert (row["max_epochs"], row["every_n_validations"]) == (1, 1)


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_stopped(text: Path) -> None:
    words = [*SMALL, f"task.text={text}", "task.dropout=0.2"]
    command = [sys.executable, str(ROOT / "train.py"), *words]
    process = subprocess.Popen(
        [*command, "trainer.max_epochs=100000", "hydra.run.dir=killed"],
        cwd=text.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    last = text.parent / "killed" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()

    done = torch.load(last, weights_only=True)["epoch"] + 1
    words.append(f"trainer.max_epochs={done + 2}")
    train(*words, "hydra.run.dir=whole", folder=text.parent)
    train(*words, f"resume={last}", folder=text.parent)
    whole, resumed = (
        SpectrumHistory.load(next((text.parent / name).rglob("spectra.npz")))
        for name in ("whole", "killed")
    )
    assert resumed.epochs == whole.epochs == [float(epoch) for epoch in range(done + 3)]
    assert torch.equal(resumed.exponents(), whole.exponents())


@pytest.mark.filterwarnings("ignore")
def test_a_resumed_run_keeps_the_best_epoch_in_its_own_folder(
    text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(text.parent)
    words = [*SMALL, f"task.text={text}"]
    assert train_here(*words, "trainer.max_epochs=3") == 0
    (folder,) = (text.parent / "outputs" / "charrnn").iterdir()
    (best,) = (folder / "checkpoints").glob("best-*.ckpt")
    # A ruinous rate makes the epochs after the resumption worse than the best before it.
    last = folder / "checkpoints" / "last.ckpt"
    spoiled = torch.load(last, weights_only=True)
    spoiled["optimizer_states"][0]["param_groups"][0]["lr"] = 10.0
    spoiled["lr_schedulers"][0]["base_lrs"] = [10.0]
    torch.save(spoiled, last)
    assert train_here(*words, "trainer.max_epochs=5", f"resume={last}") == 0
    said = "".join(capsys.readouterr())
    assert list((text.parent / "outputs" / "charrnn").iterdir()) == [folder]
    assert list((folder / "checkpoints").glob("best-*.ckpt")) == [best]
    assert str(best) in said


def test_a_resumed_run_keeps_the_table_of_the_csv_logger(
    text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(text.parent)
    words = [*SMALL, f"task.text={text}", "logger=csv", "hydra.run.dir=run"]
    assert train_here(*words, "trainer.max_epochs=1") == 0
    (table,) = Path("run").rglob("metrics.csv")
    before = table.read_text()
    assert train_here(*words, "trainer.max_epochs=2", "resume=run/checkpoints/last.ckpt") == 0
    assert table.with_name("metrics-1.csv").read_text() == before
    assert {row["epoch"] for row in read_table(table) if row["val/loss"]} == {"1"}
