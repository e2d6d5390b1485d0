"""Windows of the DataModule where it offers them, else watched batches; each process its share."""

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningModule, seed_everything
from torch import Tensor, nn

from lightning_lyap import LyapunovSpectrumCallback
from lightning_lyap.callback.sequence_source import SequenceSource
from lightning_lyap.network.find_modules import find_recurrent_modules
from tests import networks
from tests.compare import assert_near

FEATURES = 3


class Network(LightningModule):
    """A recurrent network between two layers, with dropout before the recurrence."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(FEATURES)
        self.rnn = nn.GRU(FEATURES, 4, batch_first=True)
        self.frozen = nn.Dropout(0.5).eval()
        self.fails = False

    def forward(self, inputs: Tensor, shift: Tensor | None = None) -> Tensor:
        inputs = inputs if shift is None else inputs + shift[:, None, None]
        hidden: Tensor = self.rnn(self.dropout(inputs))[0]
        if self.fails:
            raise RuntimeError("forward failed")
        return hidden


class Windows:
    """The part of a DataModule that is asked for windows."""

    def __init__(self, batch: Any) -> None:
        self.batch = batch
        self.asked: list[tuple[int, int]] = []

    def lyapunov_sequences(self, num_sequences: int, num_steps: int) -> Any:
        self.asked.append((num_sequences, num_steps))
        random.random()
        np.random.rand()  # noqa: NPY002
        torch.rand(1)
        return self.batch


class Precision:
    """Doubles what it converts, so that it can be seen; knows when a forward pass is its own."""

    def __init__(self) -> None:
        self.within = False

    def convert_input(self, batch: Any) -> Any:
        return tuple(2 * part for part in batch)

    @contextmanager
    def forward_context(self) -> Iterator[None]:
        self.within = True
        yield
        self.within = False


def fake_trainer(datamodule: Any = None, rank: int = 0, world_size: int = 1) -> Any:
    moved: list[Any] = []

    def batch_to_device(batch: Any) -> Any:
        moved.append(batch)
        return batch

    return SimpleNamespace(
        global_rank=rank,
        world_size=world_size,
        datamodule=datamodule,
        strategy=SimpleNamespace(batch_to_device=batch_to_device),
        precision_plugin=SimpleNamespace(
            convert_input=lambda batch: batch, forward_context=nullcontext
        ),
        moved=moved,
        lightning_module=None,
    )


def source_of(trainer: Any, network: Network, num_sequences: int = 4) -> SequenceSource:
    modules = find_recurrent_modules(network)
    return SequenceSource(trainer, network, modules, num_sequences, num_steps=6)


def hooks(network: Network) -> int:
    return len(network.rnn._forward_pre_hooks)


def test_windows_offered_are_what_the_network_is_run_on() -> None:
    network, windows = Network(), Windows(torch.randn(4, 6, FEATURES))
    trainer = fake_trainer(windows)
    source = source_of(trainer, network)
    assert windows.asked == [(4, 6)]
    assert source.is_ready
    source.watch()
    assert hooks(network) == 0
    for _ in range(2):
        taken = source.take().sequences
        assert list(taken) == ["rnn"]
        assert_near(taken["rnn"].inputs, windows.batch, 0)  # no dropout: evaluation mode
        assert taken["rnn"].lengths.tolist() == [6] * 4
    assert windows.asked == [(4, 6)]  # once a run
    assert hooks(network) == 0


def test_a_datamodule_without_windows_is_watched() -> None:
    network, x = Network(), torch.randn(5, 6, FEATURES)
    network.eval()
    trainer = fake_trainer(SimpleNamespace())
    source = source_of(trainer, network)
    assert not source.is_ready
    source.watch()
    assert source.is_ready
    assert hooks(network) == 1
    network(x)
    taken = source.take().sequences
    assert_near(taken["rnn"].inputs, x[:4], 0)
    assert hooks(network) == 0
    assert not source.is_ready
    assert trainer.moved == []


def test_what_was_seen_before_a_pause_is_kept() -> None:
    network, x = Network().eval(), torch.randn(4, 6, FEATURES)
    trainer = fake_trainer()
    source = source_of(trainer, network)
    source.watch()
    network(x[:1])
    source.pause()
    assert hooks(network) == 0
    network(x[1:])
    assert_near(source.take().sequences["rnn"].inputs, x[:1], 0)


def test_watching_anew_forgets_what_was_seen() -> None:
    network, x = Network().eval(), torch.randn(4, 6, FEATURES)
    trainer = fake_trainer()
    source = source_of(trainer, network)
    source.watch()
    network(x[:1])
    source.watch()
    assert hooks(network) == 1
    network(x[1:])
    assert_near(source.take().sequences["rnn"].inputs, x[1:], 0)


def test_stopping_drops_what_was_seen() -> None:
    network = Network().eval()
    trainer = fake_trainer()
    source = source_of(trainer, network)
    source.watch()
    network(torch.randn(4, 6, FEATURES))
    source.stop()
    assert hooks(network) == 0
    assert not source.is_ready
    with pytest.raises(RuntimeError, match="Expected to have watched"):
        source.take()


@pytest.mark.parametrize("kind", [tuple, list])
def test_several_tensors_are_the_arguments_of_forward(kind: type) -> None:
    network = Network()
    batch = kind([torch.randn(4, 6, FEATURES), torch.randn(4)])
    trainer = fake_trainer(Windows(batch))
    taken = source_of(trainer, network).take().sequences
    assert_near(taken["rnn"].inputs, batch[0] + batch[1][:, None, None], 0)


@pytest.mark.parametrize("batch", [None, {"x": torch.zeros(4, 6, 3)}, [1, 2], np.zeros((4, 6, 3))])
def test_something_else_than_tensors_is_refused_at_the_start(batch: Any) -> None:
    with pytest.raises(TypeError, match=f"a tuple of tensors, .* but got {type(batch).__name__}"):
        source_of(fake_trainer(Windows(batch)), Network())


def test_windows_go_the_way_of_a_batch() -> None:
    """To the device, to the precision, and forward within its context."""
    network, windows, precision = Network(), Windows(torch.randn(4, 6, FEATURES)), Precision()
    trainer = fake_trainer(windows)
    trainer.precision_plugin = precision
    seen: list[bool] = []
    handle = network.register_forward_hook(lambda *_: seen.append(precision.within))
    taken = source_of(trainer, network).take().sequences
    handle.remove()
    assert_near(taken["rnn"].inputs, 2 * windows.batch, 0)
    assert seen == [True]
    assert len(trainer.moved) == 1


def test_more_windows_or_longer_ones_than_asked_for_are_cut() -> None:
    network, windows = Network(), Windows(torch.randn(7, 9, FEATURES))
    trainer = fake_trainer(windows)
    taken = source_of(trainer, network).take().sequences
    assert_near(taken["rnn"].inputs, windows.batch[:4, :6], 0)


def modes(network: nn.Module) -> list[bool]:
    return [part.training for part in network.modules()]


@pytest.mark.parametrize("fails", [False, True])
def test_modes_and_hooks_are_restored(fails: bool) -> None:
    network = Network().train()
    network.frozen.eval()
    network.norm.eval()
    network.fails = fails
    before = modes(network)
    assert len(set(before)) == 2
    trainer = fake_trainer(Windows(torch.randn(4, 6, FEATURES)))
    source = source_of(trainer, network)
    expected: AbstractContextManager[Any] = nullcontext()
    if fails:
        expected = pytest.raises(RuntimeError, match="forward failed")
    with expected:
        source.take()
    assert modes(network) == before
    assert hooks(network) == 0


def draws() -> tuple[Any, ...]:
    return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002


def test_asking_for_windows_draws_nothing_from_the_global_generators() -> None:
    network, trainer = Network(), fake_trainer(Windows(torch.randn(4, 6, FEATURES)))
    seed_everything(1, verbose=False)
    expected = draws()
    seed_everything(1, verbose=False)
    source_of(trainer, network)
    assert draws() == expected


@pytest.mark.parametrize(("num_sequences", "world_size"), [(10, 1), (10, 3), (4, 4), (2, 3)])
def test_processes_share_the_windows(num_sequences: int, world_size: int) -> None:
    network, windows = Network(), Windows(torch.randn(num_sequences, 6, FEATURES))
    rows = []
    for rank in range(world_size):
        trainer = fake_trainer(windows, rank, world_size)
        taken = source_of(trainer, network, num_sequences).take().sequences
        expected = windows.batch[rank::world_size]
        assert set(taken) == ({"rnn"} if len(expected) else set())
        if len(expected):
            assert_near(taken["rnn"].inputs, expected, 0)
            rows.append(taken["rnn"].inputs)
    assert len(torch.cat(rows)) == num_sequences


@pytest.mark.parametrize(
    ("num_sequences", "world_size", "shares"),
    [(10, 1, [10]), (10, 3, [4, 3, 3]), (2, 3, [1, 1, 0])],
)
def test_processes_share_the_number_to_watch(
    num_sequences: int, world_size: int, shares: list[int]
) -> None:
    network = Network().eval()
    for rank, share in enumerate(shares):
        trainer = fake_trainer(None, rank, world_size)
        source = source_of(trainer, network, num_sequences)
        source.watch()
        network(torch.randn(12, 6, FEATURES))
        taken = source.take().sequences
        assert sum(len(sequences.inputs) for sequences in taken.values()) == share
        assert hooks(network) == 0


def test_too_few_windows_are_refused(tmp_path: Path) -> None:
    class Few(networks.Windows):
        def lyapunov_sequences(self, num_sequences: int, num_steps: int) -> Tensor:
            return super().lyapunov_sequences(num_sequences - 1, num_steps)

    run = networks.trainer(tmp_path, LyapunovSpectrumCallback(num_sequences=4))
    with pytest.raises(ValueError, match=r"return 4 sequences, but got \[3\] rows"):
        run.fit(networks.Predictor(), datamodule=Few())
