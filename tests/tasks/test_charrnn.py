"""CharRNN: one-hot in, dropout on the output alone, cross-entropy, the paper's schedule."""

import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_lyap import LyapunovSpectrumCallback
from lightning_lyap.tasks import CharRNN
from lightning_lyap.tasks.predictor import CELLS
from tests.networks import trainer

VOCAB = 7


def tokens(*shape: int) -> Tensor:
    return torch.randint(VOCAB, shape)


def loader() -> DataLoader[Any]:
    text = tokens(8, 6)
    return DataLoader(TensorDataset(text, text.roll(-1, dims=1)), batch_size=4)


def small(**changes: Any) -> CharRNN:
    return CharRNN(**{"vocab_size": VOCAB, "hidden_size": 5} | changes)


def test_defaults_are_the_papers() -> None:
    model = CharRNN(82)
    assert isinstance(model.rnn, nn.LSTM)
    assert (model.rnn.input_size, model.rnn.hidden_size, model.rnn.num_layers) == (82, 512, 1)
    assert not model.rnn.bias
    assert 0.079 < max(p.detach().abs().max() for p in model.rnn.parameters()) <= 0.08
    assert model.read_out.weight.shape == (82, 512)


@pytest.mark.parametrize("cell", CELLS)
def test_logits_for_every_character(cell: str) -> None:
    model = small(cell=cell, num_layers=2, bias=True)
    assert model(tokens(3, 6)).shape == (3, 6, VOCAB)


def test_input_is_one_hot() -> None:
    seen: list[Tensor] = []
    model = small()
    model.rnn.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model(torch.tensor([[0, 6, 2]]))
    assert seen[0].tolist() == [torch.eye(VOCAB)[[0, 6, 2]].tolist()]


def test_prediction_depends_on_the_past_alone() -> None:
    model = small().eval()
    text = tokens(2, 8)
    changed = text.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % VOCAB
    before, after = model(text), model(changed)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def test_dropout_is_on_the_output_alone() -> None:
    """Half of what the read-out sees is zero, the rest doubled; the recurrence sees no zero."""
    model = small(dropout=0.5, hidden_size=50)
    seen: dict[str, Tensor] = {}
    model.rnn.register_forward_hook(lambda module, args, out: seen.update(hidden=out[0]))
    model.read_out.register_forward_pre_hook(lambda module, args: seen.update(read=args[0]))
    text = tokens(4, 20)
    model.train()(text)
    kept = seen["read"] != 0
    assert 0.4 < kept.float().mean() < 0.6
    torch.testing.assert_close(seen["read"][kept], 2 * seen["hidden"][kept])
    trained = seen["hidden"]
    model.eval()(text)
    torch.testing.assert_close(seen["read"], seen["hidden"], atol=0, rtol=0)
    torch.testing.assert_close(seen["hidden"], trained, atol=0, rtol=0)
    assert model.rnn.dropout == 0


def test_loss_is_the_cross_entropy_in_nats() -> None:
    """With a read-out of biases alone each character costs -log of its softmax."""
    model = small()
    logits = torch.arange(VOCAB, dtype=torch.float32)
    with torch.no_grad():
        model.read_out.weight.zero_()
        model.read_out.bias.copy_(logits)
    following = torch.tensor([[0, 6, 6], [3, 1, 6]])
    normalizer = math.log(sum(math.exp(i) for i in range(VOCAB)))
    expected = normalizer - (0 + 6 + 6 + 3 + 1 + 6) / 6
    loss = model.loss((tokens(2, 3), following))
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    with torch.no_grad():
        model.read_out.bias.zero_()
    loss = model.loss((tokens(2, 3), following))
    assert loss.item() == pytest.approx(math.log(VOCAB), rel=1e-6)


def test_validation_logs_the_loss_of_the_whole_set(tmp_path: Path) -> None:
    """Batches of unequal size count by their characters."""
    model, text = small(dropout=0.5), tokens(6, 4)
    data = TensorDataset(text, text.flip(1))
    (logged,) = trainer(tmp_path).validate(model, DataLoader(data, batch_size=4), verbose=False)
    whole = model.eval().loss((text, text.flip(1)))
    assert logged["val/loss"] == pytest.approx(whole.item(), rel=1e-6)


def test_rate_falls_after_the_tenth_epoch_by_a_twentieth_each(tmp_path: Path) -> None:
    """A.1: from the 11th epoch on."""
    rates: list[float] = []

    class Rates(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    fitted = trainer(tmp_path, Rates(), max_epochs=14)
    fitted.fit(small(lr=0.01), loader(), loader())
    assert rates[:10] == [0.01] * 10
    assert rates[10:] == pytest.approx([0.01 * 0.95**k for k in (1, 2, 3, 4)])
    assert isinstance(fitted.optimizers[0], torch.optim.Adam)


def test_schedule_can_be_set() -> None:
    configured = small(lr=0.2, lr_decay=0.5, constant_epochs=1).configure_optimizers()
    schedule = configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(3):
        rates.append(configured["optimizer"].param_groups[0]["lr"])
        configured["optimizer"].step()
        schedule.step()
    assert rates == pytest.approx([0.2, 0.1, 0.05])


@pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took:UserWarning")
def test_checkpoints_load_by_their_path_alone(tmp_path: Path) -> None:
    """Also those that hold spectra, and where files may hold tensors and text only."""
    model = small(cell="gru", num_layers=2, bias=True, init_p=0.3, dropout=0.25)
    fitted = trainer(tmp_path, LyapunovSpectrumCallback(2, 4, figures=False), max_epochs=1)
    fitted.fit(model, loader(), loader())
    fitted.save_checkpoint(tmp_path / "a.ckpt")
    loaded = CharRNN.load_from_checkpoint(tmp_path / "a.ckpt")
    assert dict(loaded.hparams) == dict(model.hparams)
    assert set(loaded.state_dict()) == set(model.state_dict())
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
    text = tokens(2, 5)
    assert torch.equal(loaded.eval()(text), model.eval()(text))
    assert torch.load(tmp_path / "a.ckpt", weights_only=True)["hyper_parameters"]["init_p"] == 0.3


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"vocab_size": 1}, ValueError, "`vocab_size` to be at least 2, but got 1"),
        ({"dropout": 1.0}, ValueError, r"`dropout` in \[0, 1\), but got 1.0"),
        ({"dropout": -0.1}, ValueError, r"`dropout` in \[0, 1\), but got -0.1"),
        ({"lr": 0}, ValueError, r"`lr` in \(0, inf\), but got 0"),
        ({"lr": "fast"}, TypeError, "`lr` to be a number, but got 'fast'"),
        ({"lr_decay": 0}, ValueError, r"`lr_decay` in \(0, inf\), but got 0"),
        ({"constant_epochs": -1}, ValueError, "`constant_epochs` to be at least 0, but got -1"),
        ({"cell": "transformer"}, ValueError, "`cell` to be one of .* but got 'transformer'"),
        ({"init_p": 0}, ValueError, "`init_p`"),
    ],
)
def test_arguments_are_checked(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        small(**changes)
