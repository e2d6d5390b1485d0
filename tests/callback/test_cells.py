"""The callback on cells in loops, and on types that somebody else wrote."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from ncps.torch import CfCCell
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lightning_lyap import (
    LyapunovSpectrumCallback,
    lyapunov_spectrum,
    register_recurrence,
    unregister_recurrence,
)
from tests.compare import assert_near
from tests.networks import FEATURES, Predictor, fit, sequences, train_loader, trainer, val_loader

pytestmark = pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
UNITS = 6
CELLS: dict[str, Any] = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}


def quiet(**settings: Any) -> LyapunovSpectrumCallback:
    defaults: dict[str, Any] = {"on_error": "raise", "figures": False, "save": False}
    return LyapunovSpectrumCallback(**defaults | settings)


class Looping(Predictor):
    """The predictor, with a loop over a cell instead of the module."""

    def __init__(self, cell: str = "gru") -> None:
        super().__init__(cell)
        weights = {name[:-3]: value for name, value in self.rnn.state_dict().items()}
        del self.rnn
        self.cell = CELLS[cell](FEATURES, UNITS)
        self.cell.load_state_dict(weights)

    def forward(self, inputs: Tensor) -> Tensor:
        state, outputs = None, []
        for x in inputs.unbind(1):
            state = self.cell(x, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return self.read_out(self.dropout(torch.stack(outputs, 1)))


class LoopingLSTM(Looping):
    def __init__(self) -> None:
        super().__init__("lstm")


class LoopingRNN(Looping):
    def __init__(self) -> None:
        super().__init__("rnn")


@pytest.mark.grid(every=5)
@pytest.mark.parametrize("state", ["full", "hidden"])
@pytest.mark.parametrize(
    ("dtype", "precision", "tolerance"), [("float64", "64-true", 1e-12), (None, "32-true", 1e-5)]
)
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_loop_has_the_spectrum_of_the_module(
    tmp_path: Path, cell: str, dtype: str | None, precision: str, tolerance: float, state: Any
) -> None:
    """Same weights, same data: before training, so that rounding in training plays no part."""
    spectra = []
    for network in (Predictor, Looping):
        callback = quiet(num_steps=10, warmup_steps=2, dtype=dtype, state=state)
        pl.seed_everything(3, workers=True, verbose=False)
        model = network(cell)
        fitted = trainer(tmp_path, callback, max_epochs=1, precision=precision)
        fitted.fit(model, train_loader(), val_loader())
        (history,) = callback.histories.values()
        spectra.append(history)
    fused, loop = spectra
    assert len(loop) == 2
    assert loop.spectra[0].num_sequences == fused.spectra[0].num_sequences == 10
    assert_near(loop.exponents()[0], fused.exponents()[0], tolerance)
    assert_near(loop.spectra[0].std, fused.spectra[0].std, tolerance)


@pytest.mark.parametrize("network", [Looping, LoopingLSTM, LoopingRNN])
def test_training_is_bitwise_the_same(tmp_path: Path, network: type[Looping]) -> None:
    _, expected = fit(tmp_path, network=network)
    callback = quiet()
    _, model = fit(tmp_path, callback, network=network)
    assert len(callback.histories["cell"]) == 3
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name])
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


@pytest.fixture
def _cfc_is_registered() -> Iterator[None]:
    register_recurrence(
        CfCCell,
        step=lambda cell: lambda x, h: cell(x, h, 1.0)[1],
        initial_state=lambda cell, batch_size: torch.zeros(batch_size, cell.hidden_size),
    )
    yield
    unregister_recurrence(CfCCell)


class ClosedForm(Predictor):
    """A loop over somebody else's cell, with dropout inside."""

    def __init__(self) -> None:
        super().__init__()
        del self.rnn
        self.liquid = CfCCell(
            FEATURES, UNITS, backbone_units=8, backbone_layers=2, backbone_dropout=0.5
        )

    def forward(self, inputs: Tensor) -> Tensor:
        h, outputs = inputs.new_zeros(len(inputs), UNITS), []
        for x in inputs.unbind(1):
            output, h = self.liquid(x, h, 1.0)
            outputs.append(output)
        return self.read_out(torch.stack(outputs, 1))


@pytest.mark.usefixtures("_cfc_is_registered")
@pytest.mark.grid(every=2)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "64-true"])
def test_a_registered_cell_is_measured_and_training_is_the_same(
    tmp_path: Path, precision: str
) -> None:
    _, expected = fit(tmp_path, network=ClosedForm, precision=precision)
    callback = quiet(num_exponents=4)
    fitted, model = fit(tmp_path, callback, network=ClosedForm, precision=precision)
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name])
    cell: Any = model.get_submodule("liquid").eval()
    x = sequences(1).tensors[0][:10]
    by_hand = lyapunov_spectrum(
        lambda x, h: cell(x, h, 1.0),
        x,
        initial_state=torch.zeros(10, UNITS, dtype=next(cell.parameters()).dtype),
        num_exponents=4,
    )
    history = callback.histories["liquid"]
    assert len(history) == 3
    assert history.spectra[-1].tangent_size == UNITS
    assert "lyapunov/max" in fitted.callback_metrics
    assert_near(history.exponents()[-1], by_hand.exponents, 0)


@pytest.mark.usefixtures("_cfc_is_registered")
def test_a_registered_cell_is_measured_outside_of_fit(tmp_path: Path) -> None:
    """`trainer.validate` runs in inference mode."""
    model = ClosedForm()
    fitted = trainer(tmp_path, quiet())
    (values,) = fitted.validate(model, val_loader(), verbose=False)
    assert torch.tensor(values["lyapunov/max"]).isfinite()


class Normalized(Looping):
    """A recurrence with more in it than its cell."""

    def forward(self, inputs: Tensor) -> Tensor:
        h, outputs = inputs.new_zeros(len(inputs), UNITS), []
        for x in inputs.unbind(1):
            h = nn.functional.layer_norm(self.cell(x, h), (UNITS,))
            outputs.append(h)
        return self.read_out(torch.stack(outputs, 1))


def test_a_cell_that_is_not_the_whole_recurrence_is_a_counted_failure(tmp_path: Path) -> None:
    callback = LyapunovSpectrumCallback(figures=False, save=False)
    with pytest.warns(UserWarning, match="'cell' .* more in it than this cell .*register_recurr"):
        fitted, _ = fit(tmp_path, callback, network=Normalized)
    history = callback.histories["cell"]
    assert len(history) == 0
    assert len(history.failures) == 3
    assert "val/loss" in fitted.callback_metrics
    with pytest.raises(RuntimeError, match="more in it than this cell"):
        fit(tmp_path, quiet(), network=Normalized)


class Stacked(Predictor):
    """Two cells in one loop."""

    def __init__(self) -> None:
        super().__init__()
        del self.rnn
        self.cells = nn.ModuleList([nn.GRUCell(FEATURES, 4), nn.LSTMCell(4, UNITS)])

    def forward(self, inputs: Tensor) -> Tensor:
        h, state, outputs = None, None, []
        for x in inputs.unbind(1):
            h = self.cells[0](x, h)
            state = self.cells[1](h, state)
            outputs.append(state[0])
        return self.read_out(torch.stack(outputs, 1))


def test_cells_of_one_loop_are_each_reported_under_their_name(tmp_path: Path) -> None:
    callback = quiet()
    fitted, model = fit(tmp_path, callback, network=Stacked)
    assert set(callback.histories) == {"cells.0", "cells.1"}
    assert callback.histories["cells.1"].exponents().shape == (3, 2 * UNITS)
    assert "lyapunov/cells.0/max" in fitted.callback_metrics
    lower: Any = model.get_submodule("cells.0")
    expected = lyapunov_spectrum(lower, sequences(1).tensors[0][:10])
    assert torch.equal(callback.histories["cells.0"].exponents()[-1], expected.exponents)


class Projected(Predictor):
    """An LSTM with `proj_size` that is given packed batches and states of the model's own."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(FEATURES, 5, num_layers=2, proj_size=UNITS // 2, batch_first=True)
        self.read_out = nn.Linear(UNITS // 2, FEATURES)
        self.h0 = nn.Parameter(torch.randn(2, 1, UNITS // 2))
        self.c0 = nn.Parameter(torch.randn(2, 1, 5))

    def start(self, batch: int) -> tuple[Tensor, Tensor]:
        return self.h0.repeat(1, batch, 1), self.c0.repeat(1, batch, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        packed = pack_padded_sequence(inputs, lengths(len(inputs)), True, enforce_sorted=False)
        output, _ = self.rnn(packed, self.start(len(inputs)))
        padded, _ = pad_packed_sequence(output, batch_first=True, total_length=inputs.shape[1])
        return self.read_out(padded)


def lengths(batch: int) -> Tensor:
    return 4 + (torch.arange(batch) * 3) % 8


@pytest.mark.parametrize("state", ["full", "hidden"])
def test_projection_packed_batches_and_states_of_the_model(tmp_path: Path, state: Any) -> None:
    callback = quiet(state=state)
    _, model = fit(tmp_path, callback, network=Projected)
    assert isinstance(model, Projected)
    expected = lyapunov_spectrum(
        model.rnn,
        sequences(1).tensors[0][:10],
        lengths=torch.cat([lengths(8), lengths(8)])[:10],
        initial_state=model.start(10),
        state=state,
    )
    assert torch.equal(callback.histories["rnn"].exponents()[-1], expected.exponents)
    other = lyapunov_spectrum(model.rnn, sequences(1).tensors[0][:10], state=state)
    assert float((other.exponents - expected.exponents).abs().max()) > 1e-3


class Windowed(pl.LightningDataModule):
    """Offers windows."""

    def train_dataloader(self) -> Any:
        return train_loader()

    def val_dataloader(self) -> Any:
        return val_loader()

    def lyapunov_sequences(self, num_sequences: int, num_steps: int) -> Tensor:
        return torch.ones(num_sequences, num_steps, FEATURES).cumsum(1) / num_steps


@pytest.mark.filterwarnings("ignore:.*2 of 3 sequences repeat others")
def test_windows_of_the_datamodule_run_through_the_loop(tmp_path: Path) -> None:
    callback = quiet(num_sequences=3, num_steps=40)
    model = Looping()
    trainer(tmp_path, callback).fit(model, datamodule=Windowed())
    expected = lyapunov_spectrum(model.cell, Windowed().lyapunov_sequences(3, 40))
    assert torch.equal(callback.histories["cell"].exponents()[-1], expected.exponents)
