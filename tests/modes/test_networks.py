"""Networks of every make in a Trainer: frozen, parametrized, tied, compiled."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torchmetrics import MeanMetric

from lightning_lyap import lyapunov_spectrum
from tests.modes.runs import NUM_SEQUENCES, Mode, assert_sacred, held_out, quick
from tests.networks import FEATURES, Predictor, Windows, fit, trainer
from tests.observers import same_weights

pytestmark = pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
WHOLE = (0.0, 1.0, 2.0)


class Frozen(Predictor):
    """Trains its read-out alone."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn.requires_grad_(False)


class Orthogonal(Predictor):
    """Its recurrent weights are kept orthogonal by a parametrization."""

    def __init__(self) -> None:
        super().__init__("rnn")
        parametrizations.orthogonal(self.rnn, "weight_hh_l0")


class Tied(Predictor):
    """Two modules with the same recurrent weights."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.GRU(FEATURES, 6, batch_first=True)
        self.other.weight_hh_l0 = self.rnn.weight_hh_l0

    def forward(self, inputs: Tensor) -> Tensor:
        return self.read_out(self.dropout(self.rnn(inputs)[0] + self.other(inputs)[0]))


@pytest.mark.parametrize("network", [Frozen, Orthogonal, Tied])
def test_training_is_bitwise_the_same_and_the_spectrum_that_of_the_weights(
    network: type[Predictor], tmp_path: Path
) -> None:
    callback = assert_sacred(tmp_path, Mode(WHOLE, {}, network=network))
    _, model = fit(tmp_path, network=network)
    for name, history in callback.histories.items():
        rnn: Any = model.get_submodule(name)
        assert torch.equal(history.exponents()[-1], lyapunov_spectrum(rnn, held_out()).exponents)


class Spectral(Predictor):
    """Its recurrent weights, read in training mode, are not the same twice."""

    def __init__(self) -> None:
        super().__init__()
        parametrizations.spectral_norm(self.rnn, "weight_hh_l0")


def test_weights_that_change_when_they_are_read_train_as_without(tmp_path: Path) -> None:
    assert_sacred(tmp_path, Mode(WHOLE, {}, network=Spectral))


class Remembering(Predictor):
    """Goes on from the state in which the batch before ended, whatever that was."""

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.hidden: Tensor | None = None
        self.register_buffer("steps", torch.zeros(6))

    def forward(self, inputs: Tensor) -> Tensor:
        start = torch.zeros(6) if self.hidden is None else self.hidden[0].mean(0)
        state = (start + 0.01 * self.steps).expand(1, len(inputs), 6).contiguous()
        outputs, hidden = self.rnn(inputs, state)
        self.hidden = hidden.detach()
        self.steps += 1
        return self.read_out(outputs)


class Summing(Predictor):
    """Sums up what it returns, in a metric and a list, and learns by them."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.calls = MeanMetric(), [0]

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = super().forward(inputs)
        self.mean.update(outputs.detach())
        self.calls.append(1)
        return outputs + self.mean.compute() + len(self.calls)


class Telling(Predictor):
    """Logs from its forward pass, and learns by what reaches the Trainer."""

    def forward(self, inputs: Tensor) -> Tensor:
        self.log_dict({"size": inputs.mean()})
        return super().forward(inputs)

    def on_train_epoch_end(self) -> None:
        self.read_out.bias.data += self.trainer.callback_metrics["size"]


@pytest.mark.parametrize("network", [Predictor, Remembering, Summing, Telling])
def test_a_run_on_windows_leaves_what_the_network_keeps(
    network: type[Predictor], tmp_path: Path
) -> None:
    trained = []
    for callbacks in ([], [quick()]):
        torch.manual_seed(3)
        model = network()
        trainer(tmp_path, *callbacks).fit(model, datamodule=Windows())
        trained.append(model)
    assert len(callbacks[0].histories["rnn"]) == 3
    assert same_weights(*trained)


def test_tied_modules_are_measured_each_and_frozen_ones_stay(tmp_path: Path) -> None:
    tied, frozen = quick(), quick()
    fit(tmp_path, tied, network=Tied)
    assert set(tied.histories) == {"rnn", "other"}
    fit(tmp_path, frozen, network=Frozen)
    spectra = frozen.histories["rnn"].exponents()
    assert torch.equal(spectra[0], spectra[-1])


class Encoder(nn.Module):
    """A loop over a cell, between other layers."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(FEATURES, 6)
        self.norm = nn.LayerNorm(6)

    def forward(self, inputs: Tensor) -> tuple[Tensor, None]:
        h, outputs = None, []
        for x in inputs[:, :3].unbind(1):
            h = self.cell(x, h)
            outputs.append(h)
        return self.norm(torch.stack(outputs, 1)), None


class Layers(nn.Module):
    """A module of torch's between other layers."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.GRU(FEATURES, 6, batch_first=True)
        self.norm = nn.LayerNorm(6)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        hidden, last = self.inner(inputs)
        return self.norm(hidden), last


def compiled(make: Callable[[], nn.Module], in_place: bool, backend: str) -> type[Predictor]:
    class Compiled(Predictor):
        def __init__(self) -> None:
            super().__init__()
            part: Any = make()
            if in_place:
                part.compile(backend=backend)
            else:
                part = torch.compile(part, backend=backend)
            self.rnn = part

        def forward(self, inputs: Tensor) -> Tensor:
            hidden = self.rnn(inputs)[0]
            missing = inputs.shape[1] - hidden.shape[1]
            return self.read_out(nn.functional.pad(self.dropout(hidden), (0, 0, 0, missing)))

    return Compiled


@pytest.fixture(autouse=True)
def _nothing_compiled() -> Iterator[None]:
    yield
    torch._dynamo.reset()


MAKES: dict[str, tuple[Callable[[], nn.Module], bool, str]] = {
    "gru": (lambda: nn.GRU(FEATURES, 6, batch_first=True), False, "eager"),
    "gru in layers": (Layers, False, "aot_eager"),
    "loop": (Encoder, False, "aot_eager"),
    "loop in place": (Encoder, True, "eager"),
}


@pytest.mark.grid(every=3)
@pytest.mark.parametrize("name", MAKES)
def test_training_of_compiled_parts_is_bitwise_the_same(name: str, tmp_path: Path) -> None:
    """Some validations are watched and some are not, so hooks come and go."""
    trained, callback = [], quick(every_n_validations=2)
    for callbacks in ([], [callback]):
        torch._dynamo.reset()
        settings: dict[str, Any] = {"limit_train_batches": 2, "limit_val_batches": 1}
        network = compiled(*MAKES[name])
        trained.append(
            fit(tmp_path, *callbacks, network=network, max_epochs=4, **settings)[1].state_dict()
        )
    assert all(torch.equal(trained[0][key], trained[1][key]) for key in trained[0])
    ((found, history),) = callback.histories.items()
    assert history.epochs == [0, 1, 2, 4]
    prefix = {"gru": "rnn._orig_mod", "loop in place": "rnn.cell"}.get(name)
    prefix = prefix or ("rnn._orig_mod.cell" if name == "loop" else "rnn._orig_mod.inner")
    assert found == prefix.replace("._orig_mod", "")
    module: Any = (
        nn.GRUCell(FEATURES, 6) if "loop" in name else nn.GRU(FEATURES, 6, batch_first=True)
    )
    module.load_state_dict(
        {
            key.removeprefix(f"{prefix}."): value
            for key, value in trained[1].items()
            if key.startswith(prefix)
        }
    )
    seen = held_out()[:, :3] if "loop" in name else held_out()
    assert torch.equal(history.exponents()[-1], lyapunov_spectrum(module, seen).exponents)


def test_offered_windows_run_through_compiled_functions_uncompiled(tmp_path: Path) -> None:
    """A cell in a compiled function can't be watched, but can be measured so."""

    class Function(Predictor):
        def __init__(self) -> None:
            super().__init__()
            self.rnn: Any = Encoder()
            self.run = torch.compile(self.rnn.forward, backend="eager", fullgraph=True)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.read_out(self.run(inputs)[0])

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return self(batch[0]).square().mean()

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self(batch[0])

    callback = quick()
    trainer(tmp_path, callback, max_epochs=1).fit(Function(), datamodule=Windows())
    assert callback.histories["rnn.cell"].spectra[-1].num_sequences == NUM_SEQUENCES
    with pytest.raises(RuntimeError, match="inside a compiled function"):
        fit(tmp_path, quick(), network=Function)
