"""`python -m lightning_lyap spectrum` gives what the callback and the estimator give."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_lyap import SpectrumHistory, lyapunov_spectrum, spectra_of
from lightning_lyap.__main__ import main
from lightning_lyap.cli.spectrum_report import format_estimate
from lightning_lyap.tasks import MocapRNN
from tests.networks import FEATURES, EncoderDecoder, trainer

BATCH = torch.randn(4, 30, 20, generator=torch.Generator().manual_seed(0))


def save(network: EncoderDecoder | MocapRNN, path: Path) -> Path:
    fitted = trainer(path.parent)
    fitted.strategy.connect(network)
    fitted.save_checkpoint(path)
    return path


@pytest.fixture
def mocap(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return save(MocapRNN(hidden_size=6), tmp_path / "mocap.ckpt")


def test_a_task_is_measured_on_inputs_from_a_file(
    mocap: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", BATCH.double().numpy())
    out = tmp_path / "out"
    words = ["--data", str(tmp_path / "x.npy"), "--num-steps", "20", "--warmup-steps", "5"]
    assert main(["spectrum", str(mocap), *words, "--output", str(out), "--show", "4"]) == 0
    said = capsys.readouterr().out
    assert "rnn: 6 of 6 exponents, state=hidden" in said
    assert "4 sequences x 20 steps after 5;" in said
    assert "... and 2 more" in said
    assert "certificate: passed (sum_rule" in said

    network = MocapRNN.load_from_checkpoint(mocap, map_location="cpu")
    expected = spectra_of(network, BATCH[:, :25], warmup_steps=5, state="hidden")["rnn"]
    history = SpectrumHistory.load(out / "spectra.npz")
    torch.testing.assert_close(history.exponents()[0], expected.exponents)
    assert history.settings["num_steps"] == 20
    assert f"{expected.exponents[0]:.4f}" in said
    assert f"[{expected.intervals[0, 0]:.4f}, {expected.intervals[0, 1]:.4f}]" in said
    assert sorted(path.name for path in out.iterdir()) == [
        "convergence.png",
        "spectra.npz",
        "spectrum.png",
    ]


def test_settings_reach_the_estimator(
    mocap: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(BATCH, tmp_path / "x.pt")
    words = [
        "--num-steps",
        "25",
        "--state",
        "full",
        "--num-exponents",
        "3",
        "--orthonormalize-every",
        "auto",
    ]
    more = ["--num-sequences", "2", "--layers", "union", "--dtype", "float64"]
    assert main(["spectrum", str(mocap), "--data", str(tmp_path / "x.pt"), *words, *more]) == 0
    said = capsys.readouterr().out
    assert "3 of 12 exponents, state=full, layers=union" in said
    assert "2 sequences x 25 steps;" in said
    network = MocapRNN.load_from_checkpoint(mocap, map_location="cpu").double()
    expected = spectra_of(
        network,
        BATCH[:2, :25].double(),
        num_exponents=3,
        orthonormalize_every="auto",
        warmup_steps=0,
    )["rnn"]
    assert f"{expected.exponents[2]:.4f}" in said


def test_exponents_of_uncoupled_layers_tell_theirs() -> None:
    torch.manual_seed(0)
    settings = {"layers": "union", "state": "full", "warmup_steps": 0}
    estimate = lyapunov_spectrum(torch.nn.GRU(20, 3, num_layers=2), BATCH, layers="union")
    said = format_estimate("rnn", estimate, settings)
    assert (said.count("  layer 0"), said.count("  layer 1")) == (3, 3)


def test_what_limits_a_spectrum_stands_beside_it() -> None:
    forgotten = (-torch.arange(100.0) / 30).exp().reshape(1, -1, 1)
    x = (forgotten + 0.1 * torch.randn(10, 100, 1))[[*range(10), 3]]
    with pytest.warns(RuntimeWarning):
        estimate = lyapunov_spectrum(lambda x, s: x.exp() * s, x, initial_state=torch.ones(11, 1))
    lines = format_estimate("rnn", estimate, {"state": "full", "layers": "joint"}).splitlines()
    low, high = estimate.intervals[0].tolist()
    value = estimate.exponents[0].item()
    assert f"    1  {value:>9.4f}  [{low:.4f}, {high:.4f}]  not settled" in lines
    assert any(line.startswith("  mean ") and line.endswith("not settled") for line in lines)
    assert any(line.startswith("1 of 11 sequences repeat others") for line in lines)
    assert any(line.startswith("1 of 1 exponents have not settled") for line in lines)


def test_the_tasks_own_held_out_sequences_are_taken(
    mocap: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LYAP_CACHE_DIR", str(tmp_path / "cache"))
    words = ["--source", "synthetic", "--num-sequences", "2", "--num-steps", "10"]
    assert main(["spectrum", str(mocap), *words]) == 0
    said = capsys.readouterr().out
    assert "data: synthetic" in said
    assert "2 sequences x 10 steps;" in said


def test_any_lightning_module_is_loaded_by_its_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Its constructor takes no hyperparameters, so none are saved with it.
    checkpoint = save(EncoderDecoder(), tmp_path / "own.ckpt")
    saved = torch.load(checkpoint, weights_only=True)
    saved.pop("hyper_parameters", None)
    torch.save(saved, checkpoint)
    torch.save([torch.randn(3, 9, FEATURES)], tmp_path / "x.pt")
    words = ["--class", "tests.networks.EncoderDecoder", "--data", str(tmp_path / "x.pt")]
    out = tmp_path / "out"
    assert main(["spectrum", str(checkpoint), *words, "--output", str(out)]) == 0
    said = capsys.readouterr().out
    assert "encoder: 4 of 4 exponents, state=full" in said
    assert "decoder: 12 of 12 exponents" in said
    assert (out / "encoder" / "spectra.npz").is_file()
    assert (out / "decoder" / "spectrum.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.ckpt"], "nowhere.ckpt is no file"),
        (["text.txt"], "can't be read as one"),
        (["weights.pt"], "without `state_dict`"),
        (["other.ckpt"], "--class package.module.Class"),
        (["other.ckpt", "--class", "tests.networks.Nobody"], "Nobody"),
        (["other.ckpt", "--class", "Nobody"], "package.module.Class, but got 'Nobody'"),
        (["other.ckpt", "--class", "torch.nn.Linear"], "name a LightningModule"),
        (["other.ckpt", "--class", "tests.networks.EncoderDecoder"], "--data FILE"),
        (["mocap.ckpt", "--data", "nowhere.npy"], "--data` to name a file of inputs"),
        (["mocap.ckpt", "--data", "text.txt"], "it can't be read"),
        (["mocap.ckpt", "--data", "weights.pt"], "to hold a tensor or several, but got dict"),
        (["mocap.ckpt", "--data-dir", "nowhere"], "nowhere"),
        (["mocap.ckpt", "--num-steps", "0"], "Expected `num_steps`"),
    ],
)
def test_bad_input_is_refused_in_a_line(
    words: list[str],
    message: str,
    mocap: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("no tensors")
    torch.save({"weight": torch.zeros(2)}, "weights.pt")
    network = EncoderDecoder()
    torch.save(
        {"state_dict": network.state_dict(), "pytorch-lightning_version": "2.6"}, "other.ckpt"
    )
    assert main(["spectrum", *words]) == 1
    assert message in capsys.readouterr().err
