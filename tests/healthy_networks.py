"""Healthy networks of all kinds, drawn by a seed: none may fail its certificate."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, weight_norm
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.registering import registered

FEATURES = 3
F32, F64 = torch.float32, torch.float64
KINDS: dict[str, Any] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
CELLS: dict[str, Any] = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}


@dataclass
class Healthy:
    """A network, what it is run on, and how it is measured.

    Attributes:
        network: With recurrent modules inside.
        batch: What its ``forward`` takes.
        around: Entered around a measurement.
        settings: Of `spectra_of`.
        told: What it is.
    """

    network: nn.Module
    batch: tuple[Any, ...]
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    settings: dict[str, Any] = field(default_factory=dict)
    told: str = ""


class Stack(nn.Module):
    """One of torch's modules, packed or not, with an initial state of its own or not."""

    def __init__(self, rnn: nn.RNNBase, packed: bool, learned: bool) -> None:
        super().__init__()
        self.rnn, self.packed, self.learned = rnn, packed, learned

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        count, like = len(lengths), next(self.rnn.parameters())
        state: Any = None
        if self.learned:
            sizes = [self.rnn.proj_size or self.rnn.hidden_size, self.rnn.hidden_size]
            shape = self.rnn.num_layers, count
            parts = [torch.linspace(-1, 1, shape[0] * count * n).view(*shape, n) for n in sizes]
            h, c = (part.to(like) for part in parts)
            state = (h, c) if isinstance(self.rnn, nn.LSTM) else h
        if not self.packed:
            return self.rnn(x, state)[0]
        first = self.rnn.batch_first
        steps = pack_padded_sequence(x, lengths.cpu(), batch_first=first, enforce_sorted=False)
        return pad_packed_sequence(self.rnn(steps, state)[0], batch_first=first)[0]


class Loop(nn.Module):
    """A cell in a loop, which masks the steps after the end of a sequence."""

    def __init__(self, cell: nn.Module, start: Any = None) -> None:
        super().__init__()
        self.cell, self.start = cell, start

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        state: Any = self.start
        for t in range(x.shape[1]):
            new = self.cell(x[:, t], state)
            going = (t < lengths).unsqueeze(-1)
            if state is None or isinstance(new, tuple):
                state = new
            else:
                state = torch.where(going, new, state)
        return state


class Own(nn.Module):
    """A leaky network of somebody's own, which returns what its ``gives`` says."""

    def __init__(
        self, units: int, gain: float, gives: str, time_first: bool = False, marked: bool = True
    ) -> None:
        super().__init__()
        self.units, self.gives, self.time_first = units, gives, time_first
        if marked:
            self.batch_first = not time_first
        self.i, self.h = nn.Linear(FEATURES, units), nn.Linear(units, units)
        self.read = nn.Linear(units, units if gives == "readout" else units + 1)
        with torch.no_grad():
            self.h.weight.mul_(gain)

    def step(self, x: Tensor, h: Tensor) -> Any:
        return 0.5 * h + 0.5 * torch.tanh(self.i(x) + self.h(h))

    def pair(self, x: Tensor, h: Tensor) -> Any:
        h = self.step(x, h)
        return torch.sin(3 * h), h

    def forward(self, x: Tensor, h: Tensor | None = None) -> Any:
        x = x.transpose(0, 1) if self.time_first else x
        h = x.new_zeros(len(x), self.units) if h is None else h
        states = []
        for t in range(x.shape[1]):
            h = self.step(x[:, t], h)
            states.append(h)
        outputs = torch.stack(states, 1)
        outputs = outputs.transpose(0, 1) if self.time_first else outputs
        found: dict[str, Any] = {
            "states": outputs,
            "final": h,
            "both": (outputs, h),
            "as torch": (outputs, h.unsqueeze(0)),
            "readout": self.read(outputs),
            "other size": self.read(outputs),
            "normalized and final": (nn.functional.layer_norm(outputs, (self.units,)), h),
            "outputs of a pair": torch.sin(3 * outputs),
            "nothing": None,
        }
        return found[self.gives]


GIVES = (
    "states",
    "final",
    "both",
    "as torch",
    "readout",
    "other size",
    "normalized and final",
    "outputs of a pair",
    "nothing",
)


def draw(seed: int) -> Healthy:
    """Draw a healthy network."""
    torch.manual_seed(seed)
    chance = random.Random(seed)
    return (_stack, _stack, _loop, _own)[seed % 4](chance)


def _inputs(chance: random.Random, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    batch, steps = chance.choice([1, 2, 5]), chance.choice([2, 20, 120])
    x = chance.choice([0.1, 1.0, 5.0]) * torch.randn(batch, steps, FEATURES, dtype=dtype)
    return x, torch.randint(1, steps + 1, (batch,)).clamp(min=2)


def _stack(chance: random.Random) -> Healthy:
    kind, layers = chance.choice([*KINDS]), chance.choice([1, 1, 2, 3])
    dtype = chance.choice([F32, F32, F64, torch.bfloat16, torch.float16])
    units, first = chance.choice([1, 5, 24]), chance.random() < 0.5
    extra: dict[str, Any] = (
        {"nonlinearity": chance.choice(["tanh", "relu"])} if kind == "rnn" else {}
    )
    if kind == "lstm" and units > 1 and chance.random() < 0.3:
        extra["proj_size"] = units // 2
    rnn = KINDS[kind](FEATURES, units, layers, batch_first=first, dropout=0.3, **extra)
    # What grows without bound leaves the range of half precision.
    bounded = extra.get("nonlinearity") != "relu" or dtype != torch.float16
    gain, bias = chance.choice([0.3, 1.0, 2.0, 5.0, 10.0]), chance.choice([0.0, 0.0, 20.0])
    gain = gain if bounded else min(gain, 1.0)
    with torch.no_grad():
        for name, weight in rnn.named_parameters():
            weight.mul_(gain)
            if "bias_ih" in name and bias:
                weight.copy_(bias * torch.randn_like(weight).sign())
    wrapped = chance.choice(["plain", "plain", "pruned", "weight norm", "parametrized"])
    if wrapped == "pruned":
        prune.random_unstructured(rnn, "weight_hh_l0", 0.3)
        with torch.no_grad():
            rnn.weight_hh_l0_orig.mul_(1.5)
    elif wrapped == "weight norm" and dtype in (F32, F64):
        weight_norm(rnn, "weight_hh_l0")
        with torch.no_grad():
            rnn.weight_hh_l0_g.mul_(1.5)
    elif wrapped == "parametrized" and dtype in (F32, F64):
        parametrizations.weight_norm(rnn, "weight_hh_l0")
    x, lengths = _inputs(chance, dtype)
    packed, learned = chance.random() < 0.4, chance.random() < 0.4
    settings: dict[str, Any] = {"layers": chance.choice(["joint", "union"])}
    settings["state"] = chance.choice(["full", "hidden"])
    if chance.random() < 0.3:
        settings["num_steps"] = 10
    network = Stack(rnn.to(dtype), packed, learned).eval()
    autocast = dtype == F32 and chance.random() < 0.2
    return Healthy(
        network,
        (x if first else x.transpose(0, 1), lengths),
        (lambda: torch.autocast("cpu", torch.bfloat16)) if autocast else nullcontext,
        settings,
        f"{rnn} of {dtype}, {wrapped}, gain {gain}, bias {bias}, {packed=}, {learned=}, "
        f"{settings}, {tuple(x.shape)}, {autocast=}",
    )


def _loop(chance: random.Random) -> Healthy:
    kind, dtype = chance.choice([*CELLS]), chance.choice([F32, F64, torch.bfloat16])
    cell = CELLS[kind](FEATURES, chance.choice([1, 6, 20])).to(dtype)
    gain = chance.choice([0.5, 1.0, 3.0, 10.0])
    with torch.no_grad():
        for weight in cell.parameters():
            weight.mul_(gain)
    x, lengths = _inputs(chance, dtype)
    derived = chance.random() < 0.3

    class Half(type(cell)):  # type: ignore[misc]
        """A cell whose step is another one than torch's."""

        def forward(self, *given: Any) -> Any:
            new = super().forward(*given)
            return tuple(part / 2 for part in new) if isinstance(new, tuple) else new / 2

    if derived:
        cell.__class__ = Half
    told = f"{cell} of {dtype} in a loop, gain {gain}, {derived=}, {tuple(x.shape)}"
    return Healthy(Loop(cell).eval(), (x, lengths), told=told)


def _own(chance: random.Random) -> Healthy:
    gives, time_first = chance.choice(GIVES), chance.random() < 0.4
    dtype, gain = chance.choice([F32, F64]), chance.choice([0.5, 2.0, 10.0])
    module = Own(chance.choice([2, 6, 20]), gain, gives, time_first).to(dtype).eval()
    x, _ = _inputs(chance, dtype)

    @contextmanager
    def known() -> Iterator[None]:
        def zeros(own: Any, batch_size: int) -> Tensor:
            return torch.zeros(batch_size, own.units, dtype=dtype)

        def step(own: Any) -> Any:
            return own.pair if gives == "outputs of a pair" else own.step

        with registered(Own, step=step, initial_state=zeros, sequences=True):
            yield

    told = f"own module of {dtype} that gives {gives}, gain {gain}, {time_first=}, {tuple(x.shape)}"
    settings = {"num_steps": 10} if chance.random() < 0.3 else {}
    batch = (x.transpose(0, 1) if time_first else x,)
    return Healthy(nn.Sequential(module), batch, known, settings, told)
