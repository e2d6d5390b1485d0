"""What the leading exponent of an LSTM cannot do without, written in plain torch."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def products(batch: int, steps: int, weight: Tensor) -> None:
    """Multiply a state and a tangent vector of each sequence with the weights, step by step.

    Args:
        batch: B.
        steps: T.
        weight: ``[H, 4 H]``.
    """
    both = torch.ones(2 * batch, len(weight), device=weight.device)
    for _ in range(steps):
        torch.mm(both, weight)


@torch.no_grad()
def leading_exponent(module: nn.RNNBase, inputs: Tensor, vector: Tensor) -> Tensor:
    """Advance states and a tangent vector, normalized every step: equations, and nothing else.

    Args:
        module: An LSTM of one layer, whose cell state is held fixed in the derivative.
        inputs: ``[B, T, I]``.
        vector: To start from, ``[H, 1]``.

    Returns:
        Exponents, ``[B]``, nats per step.
    """
    own = [module.get_parameter(f"{name}_l0") for name in ("weight_ih", "bias_ih", "bias_hh")]
    weight = module.get_parameter("weight_hh_l0").mT.contiguous()
    given = inputs.transpose(0, 1) @ own[0].mT + own[1] + own[2]
    batch, steps, _ = inputs.shape
    h = c = torch.zeros(batch, module.hidden_size, dtype=inputs.dtype, device=inputs.device)
    v, total = vector[:, 0].expand_as(h), torch.zeros(batch, dtype=h.dtype, device=h.device)
    for x in given:
        recurrent, pushed = torch.mm(torch.cat([h, v]), weight).chunk(2)
        at, pushed = (x + recurrent).unflatten(1, (4, -1)), pushed.unflatten(1, (4, -1))
        gates = torch.sigmoid(at)
        i, f, _, o = gates.unbind(1)
        g = torch.tanh(at[:, 2])
        pushed_i, pushed_f, _, pushed_o = (pushed * gates * (1 - gates)).unbind(1)
        through_cell = pushed_i * g + pushed_f * c + pushed[:, 2] * i * (1 - g * g)
        c = f * c + i * g
        squashed = torch.tanh(c)
        h = o * squashed
        v = through_cell * o * (1 - squashed * squashed) + pushed_o * squashed
        length = torch.linalg.vector_norm(v, dim=1, keepdim=True)
        v, total = v / length, total + length[:, 0].log()
    return total / steps
