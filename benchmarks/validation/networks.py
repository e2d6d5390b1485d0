"""Nonlinear networks: random ones against mean field, and a trained one."""

import math
import statistics
from typing import Any

import torch
from torch import Tensor, nn

from lightning_lyap import lyapunov_spectrum
from lightning_lyap.systems import MEAN_FIELD, random_tanh_network
from validation.row import Effort, Row

F64 = torch.float64


def mean_field(effort: Effort) -> list[Row]:
    """Random tanh networks, extrapolated in 1/N from N/2 and N units.

    The largest exponent of N units is off by order 1/N. A vector turns into the leading direction
    as slowly as N steps, since the exponents lie 1/N apart, so warm-up and measurement take N steps
    each: that error is of order 1/N, too, and ``2 lambda(N) - lambda(N/2)`` is free of both. The
    standard errors are over networks.
    """
    rows = []
    for (gain, variance), known in MEAN_FIELD.items():
        half, half_error = _over_networks(effort.size // 2, gain, variance, effort.networks)
        whole, whole_error = _over_networks(effort.size, gain, variance, effort.networks)
        estimate = 2 * whole - half
        source = (
            f"mean field (Molgedey et al. 1992); ours extrapolated from N = {effort.size // 2}, "
            f"{effort.size}, bias at {effort.size}: {whole - estimate:+.4f}"
        )
        rows.append(
            Row(
                f"random tanh network, g = {gain:g}, s^2 = {variance:g}",
                "exponent 1, N to infinity",
                source,
                known,
                estimate,
                math.hypot(2 * whole_error, half_error),
            )
        )
    return rows


def _over_networks(size: int, gain: float, variance: float, count: int) -> tuple[float, float]:
    """Return mean and standard error of the largest exponent over random networks.

    Args:
        size: N.
        gain: g.
        variance: s^2.
        count: Number of networks.

    Returns:
        Nats per step.
    """
    values = []
    for _ in range(count):
        estimate = lyapunov_spectrum(
            random_tanh_network(size, gain, variance),
            torch.randn(2, 2 * size, size),
            initial_state=torch.randn(1, 2, size).tanh(),
            num_exponents=1,
            warmup_steps=size,
            orthonormalize_every=10,
        )
        values.append(float(estimate.exponents[0]))
    return statistics.fmean(values), statistics.stdev(values) / math.sqrt(count)


def trained_lstm(effort: Effort) -> list[Row]:
    """An LSTM of 32 units, trained to predict a sum of two sines; its full sum, exact."""
    lstm = _train(effort.training_steps)
    inputs = _sines(4, 100).double()
    estimate = lyapunov_spectrum(lstm, inputs, state="full", warmup_steps=0)
    known = _log_determinants(lstm, inputs)
    source = "log |det W_ho| + sum_i <log |tanh(c'_i) o_i (1 - o_i)| + log f_i>"
    total = float(estimate.exponents.sum())
    return [
        Row("LSTM, 32 units, trained", "sum of 64 exponents", source, known, total, tolerance=1e-9)
    ]


def _sines(batch: int, steps: int) -> Tensor:
    """Draw sums of two sines of random phase, ``[B, T, 1]``."""
    time = torch.arange(steps, dtype=torch.float32)
    phases = 2 * math.pi * torch.rand(2, batch, 1)
    return ((0.3 * time + phases[0]).sin() + (0.77 * time + phases[1]).sin())[..., None] / 2


def _train(steps: int) -> nn.LSTM:
    """Train an LSTM to predict the next value.

    Args:
        steps: Optimizer steps.

    Returns:
        The LSTM in float64.

    Raises:
        RuntimeError: If it did not learn: the loss is not at a quarter of that of always saying 0.
    """
    lstm, readout = nn.LSTM(1, 32, batch_first=True), nn.Linear(32, 1)
    optimizer = torch.optim.Adam([*lstm.parameters(), *readout.parameters()], lr=1e-2)
    loss = torch.tensor(math.inf)
    for _ in range(steps):
        waves = _sines(32, 50)
        loss = (readout(lstm(waves[:, :-1])[0]) - waves[:, 1:]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if not loss.item() < 0.25 * 0.25:
        raise RuntimeError(f"Expected the LSTM to learn, but its loss is {loss.item():.3f}.")
    return lstm.double()


@torch.no_grad()
def _log_determinants(lstm: Any, inputs: Tensor) -> float:
    """Average ``log |det J_t|`` of the full state from the gates.

    Args:
        lstm: One layer.
        inputs: ``[B, T, I]``.

    Returns:
        Nats per step.
    """
    size = lstm.hidden_size
    h = c = torch.zeros(inputs.shape[0], size, dtype=F64)
    bias = lstm.bias_ih_l0 + lstm.bias_hh_l0
    terms = []
    for x in inputs.unbind(1):
        i, f, g, o = (x @ lstm.weight_ih_l0.T + h @ lstm.weight_hh_l0.T + bias).chunk(4, dim=-1)
        f, o = f.sigmoid(), o.sigmoid()
        c = f * c + i.sigmoid() * g.tanh()
        h = o * c.tanh()
        terms.append(((c.tanh() * o * (1 - o)).abs().log() + f.log()).sum(-1).mean())
    output = torch.linalg.slogdet(lstm.weight_hh_l0[3 * size :]).logabsdet
    return float(output + torch.stack(terms).mean())
