"""Cells that the package knows nothing about, as other people write them."""

import torch
from ncps.torch import CfCCell, LTCCell
from ncps.wirings import FullyConnected
from torch import Tensor, nn

INPUTS, UNITS = 3, 5


class AntisymmetricCell(nn.Module):
    """Euler step of an ODE with antisymmetric weights: ``h + e tanh((W - W^T - g I) h + V x + b)``.

    Reference: Chang, Chen, Haber, Chi (2019), AntisymmetricRNN, ICLR, Eq. 9.
    """

    def __init__(self, step_size: float = 0.1, diffusion: float = 0.01) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(UNITS, UNITS))
        self.inputs = nn.Linear(INPUTS, UNITS)
        self.step_size, self.diffusion = step_size, diffusion

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        weight = self.weight - self.weight.mT
        rate = torch.tanh(h @ weight.mT - self.diffusion * h + self.inputs(x))
        return h + self.step_size * rate


class LeakyReservoir(nn.Module):
    """Echo state network with leaky units, ``(1 - a) h + a tanh(W h + V x)``: buffers alone.

    Returns (readout, h). Reference: Jaeger, Lukosevicius, Popovici, Siewert (2007), Neural Networks
    20, 335-352, Eq. 1.
    """

    recurrent: Tensor
    inputs: Tensor

    def __init__(self, leak: float = 0.3) -> None:
        super().__init__()
        self.register_buffer("recurrent", torch.randn(UNITS, UNITS) * 0.9 / UNITS**0.5)
        self.register_buffer("inputs", torch.randn(UNITS, INPUTS))
        self.leak = leak

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        drive = torch.tanh(h @ self.recurrent.mT + x @ self.inputs.mT)
        h = (1 - self.leak) * h + self.leak * drive
        return h.sum(1, keepdim=True), h


class MinGRUCell(nn.Module):
    """minGRU, ``(1 - z(x)) h + z(x) g(x)``: gates that see the input alone.

    Reference: Feng, Tung, Ahmed, Bengio, Hajimirsadeghi (2024), Were RNNs All We Needed?, Sec. 3.1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(INPUTS, UNITS)
        self.candidate = nn.Linear(INPUTS, UNITS)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        z = torch.sigmoid(self.gate(x))
        return (1 - z) * h + z * self.candidate(x)


class MinGRU(nn.Module):
    """The same over whole sequences, ``[B, T, I] -> ([B, T, N], [B, N])``."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = MinGRUCell()

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h = x.new_zeros(x.shape[0], UNITS) if h is None else h
        outputs = []
        for x_t in x.unbind(1):
            h = self.cell(x_t, h)
            outputs.append(h)
        return torch.stack(outputs, 1), h


def closed_form_cell() -> nn.Module:
    return CfCCell(INPUTS, UNITS, backbone_units=8)


def liquid_cell() -> nn.Module:
    wiring = FullyConnected(UNITS, output_dim=2)
    return LTCCell(wiring, in_features=INPUTS)
