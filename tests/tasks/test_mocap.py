"""MocapRNN: the next frame from the last output, squared error, Adam."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_lyap.tasks import MocapRNN
from lightning_lyap.tasks.predictor import CELLS
from tests.networks import trainer

FEATURES = 4


def small(**changes: Any) -> MocapRNN:
    return MocapRNN(**{"num_features": FEATURES, "hidden_size": 5} | changes)


def loader() -> DataLoader[Any]:
    frames = torch.randn(8, 7, FEATURES)
    return DataLoader(TensorDataset(frames[:, :-1], frames[:, -1]), batch_size=4)


def test_defaults_are_the_papers() -> None:
    model = MocapRNN()
    assert isinstance(model.rnn, nn.LSTM)
    assert (model.rnn.input_size, model.rnn.hidden_size, model.rnn.num_layers) == (20, 256, 1)
    assert model.rnn.bias
    weights = [p.detach() for name, p in model.rnn.named_parameters() if "weight" in name]
    assert 0.299 < max(weight.abs().max() for weight in weights) <= 0.3
    assert model.dropout.p == 0
    optimizer = model.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.param_groups[0]["lr"] == 0.05
    assert len(optimizer.param_groups[0]["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize("cell", CELLS)
def test_one_frame_for_each_window(cell: str) -> None:
    model = small(cell=cell, num_layers=2)
    assert model(torch.randn(3, 6, FEATURES)).shape == (3, FEATURES)


def test_prediction_reads_the_last_output_of_the_whole_window() -> None:
    model, frames = small(), torch.randn(3, 6, FEATURES)
    hidden, _ = model.rnn(frames)
    torch.testing.assert_close(model(frames), model.read_out(hidden[:, -1]))
    for t in (0, 5):
        changed = frames.clone()
        changed[:, t] += 1
        assert not torch.allclose(model(changed), model(frames))


def test_dropout_is_on_the_output_alone() -> None:
    model = small(dropout=0.5, hidden_size=200)
    seen: dict[str, Tensor] = {}
    model.rnn.register_forward_hook(lambda module, args, out: seen.update(last=out[0][:, -1]))
    model.read_out.register_forward_pre_hook(lambda module, args: seen.update(read=args[0]))
    model.train()(torch.randn(4, 6, FEATURES))
    kept = seen["read"] != 0
    assert 0.4 < kept.float().mean() < 0.6
    torch.testing.assert_close(seen["read"][kept], 2 * seen["last"][kept])
    model.eval()(torch.randn(4, 6, FEATURES))
    torch.testing.assert_close(seen["read"], seen["last"], atol=0, rtol=0)


def test_loss_is_the_mean_square_over_features() -> None:
    """A read-out of biases alone predicts the same frame always."""
    model = small()
    with torch.no_grad():
        model.read_out.weight.zero_()
        model.read_out.bias.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    following = torch.tensor([[1.0, 2.0, 3.0, 0.0], [0.0, 0.0, 3.0, 4.0]])
    loss = model.loss((torch.randn(2, 6, FEATURES), following))
    assert loss.item() == pytest.approx((16 + 1 + 4) / 8)


def test_validation_logs_the_loss_of_the_whole_set(tmp_path: Path) -> None:
    model, frames = small(), torch.randn(6, 5, FEATURES)
    data = TensorDataset(frames[:, :-1], frames[:, -1])
    (logged,) = trainer(tmp_path).validate(model, DataLoader(data, batch_size=4), verbose=False)
    whole = model.eval().loss((frames[:, :-1], frames[:, -1]))
    assert logged["val/loss"] == pytest.approx(whole.item(), rel=1e-6)


def test_training_and_loading_by_the_path_alone(tmp_path: Path) -> None:
    model = small(cell="rnn_relu", bias=False, init_p=0.2, dropout=0.1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fitted = trainer(tmp_path, max_epochs=1)
    fitted.fit(model, loader(), loader())
    assert {"train/loss", "val/loss"} <= set(fitted.callback_metrics)
    fitted.save_checkpoint(tmp_path / "a.ckpt")
    loaded = MocapRNN.load_from_checkpoint(tmp_path / "a.ckpt")
    assert dict(loaded.hparams) == dict(model.hparams)
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
        assert not torch.equal(tensor, before[name])
    frames = torch.randn(2, 6, FEATURES)
    assert torch.equal(loaded.eval()(frames), model.eval()(frames))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"num_features": 0}, ValueError, "`num_features` to be at least 1, but got 0"),
        ({"dropout": 1}, ValueError, r"`dropout` in \[0, 1\), but got 1"),
        ({"lr": -0.1}, ValueError, r"`lr` in \(0, inf\), but got -0.1"),
        ({"lr": None}, TypeError, "`lr` to be a number, but got None"),
        ({"cell": None}, ValueError, "`cell` to be one of .* but got None"),
        ({"hidden_size": -1}, ValueError, "`hidden_size`"),
        ({"init_p": -1}, ValueError, "`init_p`"),
    ],
)
def test_arguments_are_checked(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        small(**changes)
