"""Recurrent modules are found by name, at any depth, and nothing inside them."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import register_recurrence, unregister_recurrence
from lightning_lyap.network.find_modules import find_recurrent_modules


class Coder(nn.Module):
    """Recurrent modules at several depths."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(2, 3)
        self.encoder = nn.Sequential(nn.Linear(3, 3), nn.GRU(3, 4), nn.Identity())
        self.decoders = nn.ModuleList([nn.LSTM(3, 4), nn.RNN(3, 2)])
        self.heads = nn.ModuleDict({"first": nn.ModuleDict({"rnn": nn.GRU(3, 5)})})


class Holder(nn.Module):
    def __init__(self, **modules: Any) -> None:
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)


class Block(nn.Module):
    """One step of a recurrence that has a cell in it."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(2, 3)
        self.norm = nn.LayerNorm(3)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.norm(self.cell(x, h))


@pytest.fixture
def _block_is_registered() -> Iterator[None]:
    register_recurrence(Block)
    yield
    unregister_recurrence(Block)


def test_modules_are_found_at_any_depth_in_their_order() -> None:
    coder = Coder()
    found = find_recurrent_modules(coder)
    assert list(found) == ["encoder.1", "decoders.0", "decoders.1", "heads.first.rnn"]
    for name, module in found.items():
        assert module is coder.get_submodule(name)


def test_the_root_itself_is_found_under_the_name_of_its_kind() -> None:
    rnn = nn.LSTM(2, 3)
    assert find_recurrent_modules(rnn) == {"lstm": rnn}


def test_a_shared_module_is_found_once() -> None:
    rnn = nn.GRU(2, 3)
    assert find_recurrent_modules(Holder(first=rnn, second=rnn)) == {"first": rnn}


def test_subclasses_are_found() -> None:
    class Own(nn.LSTM):
        pass

    assert list(find_recurrent_modules(Holder(rnn=Own(2, 3)))) == ["rnn"]


def test_compiled_modules_have_their_own_name() -> None:
    rnn = nn.GRU(2, 3)
    compiled: Any = torch.compile(rnn)
    assert find_recurrent_modules(Holder(rnn=compiled)) == {"rnn": rnn}
    nested = Holder(block=torch.compile(Holder(rnn=rnn)))
    assert find_recurrent_modules(nested) == {"block.rnn": rnn}
    assert find_recurrent_modules(nested, ["block.rnn"]) == {"block.rnn": rnn}
    assert find_recurrent_modules(compiled) == {"gru": rnn}


def test_modules_are_chosen_by_name_in_the_order_of_the_names() -> None:
    found = find_recurrent_modules(Coder(), ["decoders.1", "encoder.1"])
    assert list(found) == ["decoders.1", "encoder.1"]


def test_an_unknown_name_lists_those_there_are() -> None:
    message = r"\['decoders.0', 'decoders.1', 'encoder.1', 'heads.first.rnn'\], but got 'encoder'"
    with pytest.raises(ValueError, match=message):
        find_recurrent_modules(Coder(), ["decoders.0", "encoder"])


def test_no_name_chosen_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one module, but got none"):
        find_recurrent_modules(Coder(), [])


def test_a_network_without_recurrence_is_refused_with_the_remedy() -> None:
    message = r"inside Linear, but got none\. Make the recurrence a submodule"
    with pytest.raises(ValueError, match=message):
        find_recurrent_modules(nn.Linear(2, 2))


def test_bidirectional_modules_are_left_out_with_a_warning() -> None:
    both, one = nn.GRU(2, 3, bidirectional=True), nn.GRU(2, 3)
    with pytest.warns(UserWarning, match="No Lyapunov spectrum for 'both': .* no causal"):
        assert find_recurrent_modules(Holder(both=both, one=one)) == {"one": one}


def test_only_bidirectional_modules_are_none() -> None:
    holder = Holder(rnn=nn.LSTM(2, 3, bidirectional=True))
    with (
        pytest.warns(UserWarning, match="'rnn'"),
        pytest.raises(ValueError, match=r"but got only \['rnn'\] \(bidirectional\)"),
    ):
        find_recurrent_modules(holder)


def test_a_bidirectional_module_asked_for_by_name_is_refused() -> None:
    holder = Holder(both=nn.GRU(2, 3, bidirectional=True), one=nn.GRU(2, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(find_recurrent_modules(holder, ["one"])) == ["one"]
        with pytest.raises(ValueError, match="a bidirectional GRU"):
            find_recurrent_modules(holder, ["one", "both"])


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_cells_are_found(kind: Any) -> None:
    cells = nn.ModuleList([kind(2, 3), kind(3, 3)])
    assert find_recurrent_modules(Holder(cells=cells)) == {
        "cells.0": cells[0],
        "cells.1": cells[1],
    }


def test_a_module_of_an_unknown_type_is_looked_into() -> None:
    assert list(find_recurrent_modules(Holder(block=Block()))) == ["block.cell"]


@pytest.mark.usefixtures("_block_is_registered")
def test_a_registered_module_is_found_and_its_parts_are_not() -> None:
    class Derived(Block):
        pass

    holder = Holder(block=Block(), derived=Derived(), rnn=nn.GRU(2, 3))
    assert list(find_recurrent_modules(holder)) == ["block", "derived", "rnn"]
    with pytest.raises(ValueError, match=r"among \['block', 'derived', 'rnn'\]"):
        find_recurrent_modules(holder, ["block.cell"])
