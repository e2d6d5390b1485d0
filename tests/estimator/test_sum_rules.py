"""What products of Jacobians must obey, checked with quantities computed by other means."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from lightning_lyap.dynamics import StateChoice, as_dynamics
from tests.cells import (
    INPUT_SIZE,
    ONE_OF_EACH,
    Case,
    active_tensors,
    build,
    flatten_state,
    layer_of,
    random_state,
    step_of,
)
from tests.compare import assert_near
from tests.plain import plain_spectrum

STEPS = 12
F64 = torch.float64


def reverse_jacobians(module: nn.RNNBase, state: StateChoice, x: Tensor) -> list[Tensor]:
    """Jacobians along a trajectory from zero, ``[N, N]`` each, by reverse mode on torch's cells."""
    step, active = step_of(module), active_tensors(module, state)
    current = tuple(torch.zeros_like(t) for t in flatten_state(random_state(module, 1)))
    jacobians = []
    for x_t in x[0]:
        sizes = [current[k].shape[1] for k in active]

        def advance(
            vector: Tensor,
            x_t: Tensor = x_t,
            start: tuple[Tensor, ...] = current,
            sizes: list[int] = sizes,
        ) -> Tensor:
            parts = list(start)
            for k, part in zip(active, vector.split(sizes), strict=True):
                parts[k] = part[None]
            new = step(x_t[None], tuple(parts))
            return torch.cat([new[k][0] for k in active])

        jacobians.append(jacobian(advance, torch.cat([current[k][0] for k in active])))
        with torch.no_grad():
            current = step(x_t[None], current)
    return jacobians


@pytest.mark.parametrize("case", [c for c in ONE_OF_EACH if c.kind != "relu"], ids=str)
def test_sum_is_the_mean_log_determinant(case: Case) -> None:
    """Exact at every length; not for relu, whose determinant vanishes with the first dead unit."""
    module = case.module()
    x = torch.randn(1, STEPS, INPUT_SIZE, dtype=F64)
    total = plain_spectrum(module, x, state=case.state).exponents.sum()
    jacobians = reverse_jacobians(module, case.state, x)
    expected = torch.stack([torch.linalg.slogdet(j).logabsdet for j in jacobians]).mean()
    assert_near(total, expected, 1e-9)


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_vanilla_sum(kind: str) -> None:
    """``log |det V| + sum_i <log phi'(a_i)>``; for relu with every unit alive."""
    rnn: Any = build(kind)
    with torch.no_grad():
        if kind == "relu":
            rnn.bias_ih_l0.fill_(50.0)
            rnn.weight_hh_l0.abs_().mul_(0.3)
    x = torch.randn(3, STEPS, INPUT_SIZE, dtype=F64)
    total = plain_spectrum(rnn, x).exponents.sum()
    outputs = rnn(x)[0].detach()
    slopes = 1 - outputs.square() if kind == "tanh" else (outputs > 0).double()
    expected = torch.linalg.slogdet(rnn.weight_hh_l0.detach()).logabsdet + (
        slopes.log().sum(-1).mean()
    )
    assert_near(total, expected, 1e-10)


def test_full_lstm_sum() -> None:
    """``log |det W_ho| + sum_i <log |tanh(c'_i) o_i (1 - o_i)| + log f_i>``."""
    lstm: Any = build("lstm")
    x = torch.randn(2, STEPS, INPUT_SIZE, dtype=F64)
    total = plain_spectrum(lstm, x, state="full").exponents.sum()
    terms = []
    with torch.no_grad():
        h = c = torch.zeros(2, 7, dtype=F64)
        bias = lstm.bias_ih_l0 + lstm.bias_hh_l0
        for x_t in x.transpose(0, 1):
            gates = x_t @ lstm.weight_ih_l0.T + h @ lstm.weight_hh_l0.T + bias
            i, f, g, o = gates.chunk(4, dim=-1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            o = o.sigmoid()
            h = o * c.tanh()
            terms.append((c.tanh() * o * (1 - o)).abs().log() + f.sigmoid().log())
    determinant = torch.linalg.slogdet(lstm.weight_hh_l0.detach()[21:]).logabsdet
    expected = determinant + torch.stack(terms).sum(-1).mean()
    assert_near(total, expected, 1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tanh", "gru", "lstm"])
@torch.no_grad()
def test_union_of_the_layers_spectra(kind: str) -> None:
    """The stack's spectrum is that of its diagonal blocks: each layer alone, driven from below.

    The sums agree at every length, the exponents in the limit: over 1500 steps those very close
    to each other still mix, by up to 0.09 in twelve draws of the LSTM, 0.02 of the others.
    """
    steps = 1500
    stack = build(kind, num_layers=2, hidden_size=3)
    x = torch.randn(1, steps, INPUT_SIZE, dtype=F64)
    layers = []
    current = x
    for k in range(2):
        layer = layer_of(stack, k)
        layers.append(plain_spectrum(layer, current).exponents)
        current = layer(current)[0]
    union = torch.cat(layers).sort(descending=True).values
    whole = plain_spectrum(stack, x).exponents
    assert_near(whole.sum(), union.sum(), 1e-9)
    assert_near(whole, union, 0.1 if kind == "lstm" else 0.03)


@pytest.mark.parametrize("case", [c for c in ONE_OF_EACH if c.state == "full"], ids=str)
def test_forward_product_is_that_of_backpropagation(case: Case) -> None:
    """``J_T ... J_1`` is the Jacobian of the module's last state by its first; singular values too.

    A transposed or reversed product would fail here.
    """
    module = case.module()
    x = torch.randn(1, 5, INPUT_SIZE, dtype=F64)
    given = random_state(module, 1)
    flat = flatten_state(given)
    sizes = [tensor.shape[1] for tensor in flat]
    arity = 2 if isinstance(module, nn.LSTM) else 1

    def through_time(vector: Tensor) -> Tensor:
        parts = [part[None] for part in vector.split(sizes)]
        start = tuple(torch.stack(parts[k::arity]) for k in range(arity))
        end = module(x, start if arity == 2 else start[0])[1]
        return torch.cat([tensor[0] for tensor in flatten_state(end)])

    expected = jacobian(through_time, torch.cat([tensor[0] for tensor in flat]))
    system = as_dynamics(module)
    state = system.initial_state(given, 1)
    product = torch.eye(system.tangent_size, dtype=F64)[None]
    with torch.no_grad():
        for drive in system.drive(x):
            state, push = system.step(drive, state)
            product = push(product)
    assert_near(product[0], expected, 1e-10)
    assert_near(torch.linalg.svdvals(product[0]), torch.linalg.svdvals(expected.T), 1e-10)
