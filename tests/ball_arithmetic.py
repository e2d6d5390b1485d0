"""Exact finite-time spectra of torch's recurrent modules, by balls of many digits.

States, Jacobians and their whole product in ball arithmetic (Arb), and a single QR at the end: the
diagonal of its R is the sum of all log-stretches, whatever the interval between factorizations.
Nothing of the package is used.

References:
    Johansson (2017), Arb: efficient arbitrary-precision midpoint-radius interval arithmetic.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

import torch
from flint import arb, arb_mat, ctx
from torch import Tensor, nn

from lightning_lyap.dynamics import LayerChoice, StateChoice

BITS = (600, 1200, 2400, 4800, 9600, 19_200)
# Radius of a logarithm, nats.
WIDEST = 1e-12
# A column that has lost this part of so many bits depends on those before it: an exponent of -inf.
DEPENDENT_PART, DEPENDENT_BITS = 0.6, 4800


class TooFewBitsError(ArithmeticError):
    """A ball is too wide to tell what is asked of it."""


class Step(NamedTuple):
    """What one layer makes of an input and its state: columns, and derivatives of the tangent."""

    state: tuple[arb_mat, ...]
    by_state: arb_mat
    by_input: arb_mat


def exact_spectrum(
    module: nn.RNNBase,
    inputs: Tensor,
    state: StateChoice = "full",
    layers: LayerChoice = "joint",
) -> Tensor:
    """Compute the exponents of each sequence, from zero states and the identity.

    Args:
        module: `nn.RNN`, `nn.GRU` or `nn.LSTM` without ``proj_size``.
        inputs: ``[B, T, I]``.
        state: Reading of an LSTM's state.
        layers: One basis for the stack, or one for each layer.

    Returns:
        ``[B, K]``, nats per step, float64, in the order of the basis vectors; ``-inf`` where a
        column depends on those before it.

    Raises:
        TooFewBitsError: If the most of `BITS` are too few.
    """
    return torch.tensor([_of_one(module, x, state, layers) for x in inputs], dtype=torch.float64)


def _of_one(
    module: nn.RNNBase, inputs: Tensor, state: StateChoice, layers: LayerChoice
) -> list[float]:
    """Take ever more bits until all logarithms are known."""
    for bits in BITS:
        with suppress(TooFewBitsError), ctx.workprec(bits):
            products = _products(module, inputs, state == "full", layers == "joint")
            return [log / len(inputs) for p in products for log in _log_stretches(p)]
    raise TooFewBitsError(f"{BITS[-1]} bits are too few for {module}.")


def _products(module: nn.RNNBase, inputs: Tensor, full: bool, joint: bool) -> list[arb_mat]:
    """Multiply the Jacobians of all steps, of the stack or of each layer."""
    stack = [_Layer(module, k, full) for k in range(module.num_layers)]
    zero = arb_mat(module.hidden_size, 1)
    states: list[tuple[arb_mat, ...]]
    states = [(zero, zero) if isinstance(module, nn.LSTM) else (zero,) for _ in stack]
    products: list[arb_mat] = []
    for row in inputs:
        x, steps = _exact(row[:, None]), list[Step]()
        for layer, own in zip(stack, states, strict=True):
            steps.append(layer.step(x, own))
            x = steps[-1].state[0]
        states = [step.state for step in steps]
        factors = [_joined(steps)] if joint else [step.by_state for step in steps]
        products = [a * b for a, b in zip(factors, products, strict=True)] if products else factors
    return products


def _joined(steps: list[Step]) -> arb_mat:
    """Put the Jacobian of a stack together, block lower-triangular, ``[N, N]``."""
    size, rows, below = sum(step.by_state.nrows() for step in steps), list[list[arb]](), None
    for step in steps:
        first, own = len(rows), step.by_state.tolist()
        driven = arb_mat(len(own), size) if below is None else step.by_input * below
        block = driven.tolist()
        for i, row in enumerate(own):
            block[i][first : first + len(row)] = row
        # The output is the first part of a layer's state.
        below = arb_mat(block[: step.state[0].nrows()])
        rows += block
    return arb_mat(rows)


class _Layer:
    """One layer with its weights, cut into gates."""

    def __init__(self, module: nn.RNNBase, k: int, full: bool) -> None:
        self._size = module.hidden_size
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        self._w, self._u, self._b, self._c = (
            [_exact(gate) for gate in getattr(module, f"{name}_l{k}").split(self._size)]
            for name in names
        )
        self._full = full
        self.step: Callable[[arb_mat, tuple[arb_mat, ...]], Step] = self._lstm
        if isinstance(module, nn.GRU):
            self.step = self._gru
        elif isinstance(module, nn.RNN):
            self.step = self._tanh if module.nonlinearity == "tanh" else self._relu

    def _before(self, gate: int, x: arb_mat, h: arb_mat) -> list[arb]:
        """Return what a gate's function is taken of."""
        w, u, b, c = self._w[gate], self._u[gate], self._b[gate], self._c[gate]
        return (w * x + b + u * h + c).entries()

    def _tanh(self, x: arb_mat, state: tuple[arb_mat, ...]) -> Step:
        a = self._before(0, x, *state)
        slope = [_tanh_slope(v) for v in a]
        return Step(
            (_column(v.tanh() for v in a),), _scale(slope, self._u[0]), _scale(slope, self._w[0])
        )

    def _relu(self, x: arb_mat, state: tuple[arb_mat, ...]) -> Step:
        a = self._before(0, x, *state)
        if not all(v > 0 or v <= 0 for v in a):
            raise TooFewBitsError
        slope = [arb(int(v > 0)) for v in a]
        new = _column(v if v > 0 else arb(0) for v in a)
        return Step((new,), _scale(slope, self._u[0]), _scale(slope, self._w[0]))

    def _gru(self, x: arb_mat, state: tuple[arb_mat, ...]) -> Step:
        (h,) = state
        before_r, before_z = self._before(0, x, h), self._before(1, x, h)
        hidden = (self._u[2] * h + self._c[2]).entries()
        r, z, kept = _sigmoids(before_r), _sigmoids(before_z), _sigmoids(-v for v in before_z)
        before_n = _sum(_product(r, hidden), (self._w[2] * x + self._b[2]).entries())
        n, old = [v.tanh() for v in before_n], h.entries()
        by_z = [(o - v) * _sigmoid_slope(b) for o, v, b in zip(old, n, before_z, strict=True)]
        by_n = _product(kept, [_tanh_slope(v) for v in before_n])
        by_r = _product(_product(by_n, hidden), [_sigmoid_slope(v) for v in before_r])
        own = _scale(by_r, self._u[0]) + _scale(by_z, self._u[1])
        own += _scale(_product(by_n, r), self._u[2]) + _diagonal(z)
        driven = _scale(by_r, self._w[0]) + _scale(by_z, self._w[1]) + _scale(by_n, self._w[2])
        return Step((_column(_sum(_product(kept, n), _product(z, old))),), own, driven)

    def _lstm(self, x: arb_mat, state: tuple[arb_mat, ...]) -> Step:
        h, cell = state
        before = [self._before(k, x, h) for k in range(4)]
        i, f, o = (_sigmoids(before[k]) for k in (0, 1, 3))
        g, old = [v.tanh() for v in before[2]], cell.entries()
        new = _sum(_product(f, old), _product(i, g))
        shown = [v.tanh() for v in new]
        slopes = [[_sigmoid_slope(v) for v in before[k]] for k in (0, 1, 3)]
        by_g = _product(i, [_tanh_slope(v) for v in before[2]])
        of_cell = [_product(g, slopes[0]), _product(old, slopes[1]), by_g]
        by_o, by_cell = _product(shown, slopes[2]), _product(o, [_tanh_slope(v) for v in new])

        def of_both(weights: list[arb_mat]) -> tuple[arb_mat, arb_mat]:
            parts = [_scale(d, w) for d, w in zip(of_cell, weights[:3], strict=True)]
            inner = parts[0] + parts[1] + parts[2]
            return _scale(by_o, weights[3]) + _scale(by_cell, inner), inner

        (own, own_cell), (driven, driven_cell) = of_both(self._u), of_both(self._w)
        if self._full:
            right, below = _diagonal(_product(by_cell, f)), _diagonal(f)
            own = _below(_beside(own, right), _beside(own_cell, below))
            driven = _below(driven, driven_cell)
        return Step((_column(_product(o, shown)), _column(new)), own, driven)


def _log_stretches(product: arb_mat) -> list[float]:
    """Factorize by modified Gram-Schmidt; logarithms of the diagonal of R, nats in all."""
    columns: list[arb_mat] = [_column(column) for column in zip(*product.tolist(), strict=True)]
    lengths = [_squared(column) for column in columns]
    logs = list[float]()
    for j, column in enumerate(columns):
        squared = _squared(column)
        logs.append(_log_length(squared, lengths[j]))
        if logs[-1] > -math.inf:
            for m in range(j + 1, len(columns)):
                columns[m] -= column * ((column.transpose() * columns[m])[0, 0] / squared)
    return logs


def _log_length(squared: arb, before: arb) -> float:
    """Take the logarithm of a column's length; ``before`` is its square before the projections."""
    if squared == 0:
        return -math.inf
    if squared > 0:
        log = squared.log() / 2
        if log.rad() > WIDEST:
            raise TooFewBitsError
        return float(log.mid())
    lost = before.abs_upper() * arb(2) ** int(-2 * DEPENDENT_PART * ctx.prec)
    if ctx.prec >= DEPENDENT_BITS and squared.abs_upper() < lost:
        return -math.inf
    raise TooFewBitsError


def _squared(column: arb_mat) -> arb:
    return sum((v * v for v in column.entries()), arb(0))


def _exact(values: Tensor) -> arb_mat:
    """Take over floating-point numbers as they are, ``[R, C]``, or ``[R]`` as a column."""
    rows = values.detach().double().reshape(len(values), -1)
    return arb_mat([[arb(v) for v in row] for row in rows.tolist()])


def _column(values: Iterable[arb]) -> arb_mat:
    return arb_mat([[v] for v in values])


def _diagonal(values: list[arb]) -> arb_mat:
    zero = arb(0)
    count = range(len(values))
    return arb_mat([[values[i] if i == j else zero for j in count] for i in count])


def _scale(factors: list[arb], matrix: arb_mat) -> arb_mat:
    """Multiply each row by its factor."""
    rows = zip(factors, matrix.tolist(), strict=True)
    return arb_mat([[factor * v for v in row] for factor, row in rows])


def _beside(left: arb_mat, right: arb_mat) -> arb_mat:
    return arb_mat([a + b for a, b in zip(left.tolist(), right.tolist(), strict=True)])


def _below(upper: arb_mat, lower: arb_mat) -> arb_mat:
    return arb_mat(upper.tolist() + lower.tolist())


def _product(a: list[arb], b: list[arb]) -> list[arb]:
    return [v * w for v, w in zip(a, b, strict=True)]


def _sum(a: list[arb], b: list[arb]) -> list[arb]:
    return [v + w for v, w in zip(a, b, strict=True)]


def _sigmoids(values: Iterable[arb]) -> list[arb]:
    return [1 / (1 + (-v).exp()) for v in values]


def _sigmoid_slope(value: arb) -> arb:
    """Return ``s (1 - s)`` without cancellation."""
    return 1 / (2 * (value / 2).cosh()) ** 2


def _tanh_slope(value: arb) -> arb:
    return 1 / value.cosh() ** 2
