"""Networks against dense reverse-mode Jacobians and a plain QR loop, on the same sequences."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from lightning_lyap import lyapunov_spectrum
from validation.row import Effort, Row, farthest

F64 = torch.float64
SOURCE = "QR of dense reverse-mode Jacobians, loop over steps"


def torch_modules(effort: Effort) -> list[Row]:
    """Two layers of each torch module: analytic tangent maps against autograd through it."""
    rows = []
    kinds: tuple[Any, ...] = (nn.RNN, nn.GRU, nn.LSTM)
    for kind in kinds:
        module = kind(2, 3, num_layers=2, batch_first=True).double()
        inputs = torch.randn(3, 50, 2, dtype=F64)
        estimate = lyapunov_spectrum(module, inputs, layers="joint", warmup_steps=0).exponents
        known = _dense_spectrum(
            _flat_step(module), inputs, torch.zeros_like(estimate).expand(3, -1)
        )
        name = f"{kind.__name__}, 2 layers of 3 units"
        rows.append(farthest(name, "all exponents", SOURCE, known, estimate, 1e-9))
    return rows


def _flat_step(module: Any) -> Any:
    """Run a module for one step on a flat state: layer by layer, h before c.

    Args:
        module: A torch recurrent module, batch first.

    Returns:
        A step function on ``[B, N]``.
    """
    arity = 2 if isinstance(module, nn.LSTM) else 1

    def step(x: Tensor, s: Tensor) -> Tensor:
        parts = s.split(module.hidden_size, dim=1)
        state = tuple(torch.stack(parts[k::arity]) for k in range(arity))
        new = module(x[:, None], state if arity == 2 else state[0])[1]
        tensors = new if arity == 2 else (new,)
        return torch.cat([t[k] for k in range(module.num_layers) for t in tensors], dim=1)

    return step


def third_party_cell(effort: Effort) -> list[Row]:
    """A closed-form continuous-time cell of the package ncps, as a step function.

    Raises:
        ImportError: If ncps is missing.
    """
    try:
        from ncps.torch import CfCCell
    except ImportError as error:
        raise ImportError(
            "Expected the package ncps, whose CfC cell is measured, but it is not installed. "
            'Install the `dev` extra: python -m pip install -e ".[dev]".'
        ) from error
    cell = CfCCell(2, 6, backbone_units=16).double().eval()
    inputs = torch.randn(3, 50, 2, dtype=F64)

    def step(x: Tensor, h: Tensor) -> Tensor:
        new: Tensor = cell(x, h, 1.0)[1]
        return new

    start = torch.zeros(3, 6, dtype=F64)
    estimate = lyapunov_spectrum(step, inputs, initial_state=start, warmup_steps=0)
    known = _dense_spectrum(step, inputs, start)
    return [
        farthest("CfC cell of ncps", "all 6 exponents", SOURCE, known, estimate.exponents, 1e-9)
    ]


def _dense_spectrum(step: Any, inputs: Tensor, start: Tensor) -> Tensor:
    """Compute a spectrum by `torch.autograd.functional.jacobian` and `torch.linalg.qr` alone.

    Args:
        step: A step function.
        inputs: ``[B, T, I]``.
        start: ``[B, N]``.

    Returns:
        Mean over the sequences, descending, ``[N]``.
    """
    size = start.shape[1]
    sums = torch.zeros(size, dtype=F64)
    for sequence, first in zip(inputs, start, strict=True):
        state, q = first, torch.eye(size, dtype=F64)
        for x in sequence:

            def advance(s: Tensor, x: Tensor = x) -> Tensor:
                new: Tensor = step(x[None], s[None])[0]
                return new

            q, r = torch.linalg.qr(jacobian(advance, state) @ q)
            sums += r.diagonal().abs().log()
            state = advance(state).detach()
    return (sums / (inputs.shape[0] * inputs.shape[1])).sort(descending=True).values
