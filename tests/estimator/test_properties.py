"""What a spectrum must not depend on, for networks, sizes and settings drawn at random.

Columns are compared as long as they are known. A stretch of ``e^-12`` is what is left of a step, or
of up to five, of norms up to ten or so: it keeps ``e^(12 + 5) eps < 1e-8`` of relative precision,
and all columns after it depend on it. Errors grow a little where vectors still turn towards the
leading directions. After an exact zero, which moves behind the others, columns mean other vectors
than before; so relu units with biases are drawn mostly alive.
"""

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_lyap import SpectrumEstimate
from lightning_lyap.dynamics import StateChoice
from tests.cells import INPUT_SIZE, KINDS, build, random_state
from tests.compare import assert_near
from tests.plain import plain_spectrum

F64 = torch.float64
FLOOR = -12.0
TOLERANCE = 1e-7
PROFILE = settings(
    max_examples=settings().max_examples // 2, deadline=None, derandomize=True, database=None
)


@dataclass(frozen=True)
class Drawn:
    """A network with everything it needs to be measured.

    Attributes:
        module: In float64.
        state: The reading of an LSTM's state.
        inputs: ``[B, T, I]``.
        start: Initial state in the module's form.
        basis: Orthonormal, ``[B, N, K]``.
        every: Steps between factorizations.
    """

    module: nn.RNNBase
    state: StateChoice
    inputs: Tensor
    start: Any
    basis: Tensor
    every: int

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The initial state's tensors, ``[L, B, H]`` each."""
        return as_tensors(self.start)

    def measure(self, **changes: Any) -> SpectrumEstimate:
        """Measure with some arguments changed; the result is sorted always."""
        arguments: dict[str, Any] = {
            "dynamics": self.module,
            "inputs": self.inputs,
            "initial_state": self.start,
            "initial_basis": self.basis,
            "orthonormalize_every": self.every,
            "state": self.state,
            "keep_log_stretches": True,
        }
        estimate = plain_spectrum(**arguments | changes)
        assert estimate.exponents.equal(estimate.exponents.sort(descending=True).values)
        return estimate


@st.composite
def networks(draw: st.DrawFn, kinds: tuple[str, ...] = (), most_steps: int = 12) -> Drawn:
    """Draw kind, biases, layers, sizes (1 included), lengths, K, interval and all numbers."""
    kind, state = draw(st.sampled_from([k for k in KINDS if not kinds or k[0] in kinds]))
    size = draw(st.integers(3 if kind == "projected" else 1, 6))
    layers = draw(st.integers(1, 3))
    bias = draw(st.booleans())
    batch, steps = draw(st.integers(1, 4)), draw(st.integers(1, most_steps))
    every = draw(st.integers(1, 5))
    torch.manual_seed(draw(st.integers(0, 2**16)))
    module = build(kind, bias, layers, hidden_size=size)
    if kind == "relu" and bias:
        dict(module.named_parameters())["bias_ih_l0"].data.add_(5)
    inputs = torch.randn(batch, steps, INPUT_SIZE, dtype=F64)
    start = random_state(module, batch)
    whole = plain_spectrum(module, inputs[:1, :1], state=state).tangent_size
    count = draw(st.integers(1, whole))
    basis = torch.linalg.qr(torch.randn(batch, whole, count, dtype=F64)).Q
    return Drawn(module, state, inputs, start, basis, every)


def as_tensors(state: Any) -> tuple[Tensor, ...]:
    """Take a module's state as a tuple."""
    return (state,) if isinstance(state, Tensor) else tuple(state)


def by_column(estimate: SpectrumEstimate) -> Tensor:
    """Each sequence's exponents in the order of the basis vectors, ``[B, K]``."""
    unsorted = torch.empty_like(estimate.per_sequence)
    unsorted[:, estimate.order] = estimate.per_sequence
    return unsorted


def known(estimate: SpectrumEstimate) -> Tensor:
    """Tell which columns come before the first one near the rounding noise, ``[B, K]``.

    None where a stretch is an exact zero.
    """
    assert estimate.log_stretches is not None
    stretches = torch.empty_like(estimate.log_stretches)
    stretches[..., estimate.order] = estimate.log_stretches
    largest = stretches.amax(-1, keepdim=True).clamp(min=0)
    clear = (stretches > largest + FLOOR).all(0).cumprod(-1).bool()
    return clear & ~stretches.isneginf().any(-1).any(0)[:, None]


def assert_same(
    got: SpectrumEstimate, expected: SpectrumEstimate, first: int | None = None
) -> None:
    """Compare what both know of the first columns, per sequence."""
    both = known(got)[:, :first] & known(expected)[:, :first]
    assume(bool(both.any()))
    assert_near(by_column(got)[:, :first][both], by_column(expected)[:, :first][both], TOLERANCE)


def turn(module: nn.RNNBase, turns: list[Tensor]) -> None:
    """Rename and flip the hidden units of every layer, with the weights to match.

    Pre-activations of tanh flip with their unit (a vanilla unit, n of a GRU, g of an LSTM), those
    of sigmoids do not.

    Args:
        module: Changed in place.
        turns: One signed permutation a layer, ``[H, H]``.
    """
    flips = {nn.RNN: [True], nn.GRU: [False, False, True], nn.LSTM: [False, False, True, False]}
    gates = flips[type(module)]
    for k, own in enumerate(turns):
        for name in (n for n, _ in module.named_parameters() if n.endswith(f"_l{k}")):
            weight: Tensor = getattr(module, name).detach()
            blocks = weight.unflatten(0, (len(gates), -1))
            rows = [(own if flip else own.abs()) @ b for flip, b in zip(gates, blocks, strict=True)]
            new = torch.cat(rows)
            if name.startswith("weight_hh"):
                new = new @ own.T
            if name.startswith("weight_ih") and k > 0:
                new = new @ turns[k - 1].T
            weight.copy_(new)


def turned(drawn: Drawn, flip: bool) -> Drawn:
    """Draw a permutation of units, and signs if asked for; apply them to network, state, basis."""
    layers, size = drawn.module.num_layers, drawn.module.hidden_size
    turns = [torch.eye(size, dtype=F64)[torch.randperm(size)] for _ in range(layers)]
    if flip:
        turns = [own * torch.randn(size, 1, dtype=F64).sign() for own in turns]
    moved = [
        torch.stack([s @ own.T for s, own in zip(t, turns, strict=True)]) for t in drawn.tensors
    ]
    tensors_per_layer = drawn.basis.shape[1] // (layers * size)
    blocks = [own for own in turns for _ in range(tensors_per_layer)]
    module = deepcopy(drawn.module)
    turn(module, turns)
    return replace(
        drawn,
        module=module,
        start=moved[0] if len(moved) == 1 else tuple(moved),
        basis=torch.block_diag(*blocks) @ drawn.basis,
    )


@PROFILE
@given(networks(kinds=("tanh", "relu", "gru", "lstm")))
def test_names_of_the_units_do_not_matter(drawn: Drawn) -> None:
    assert_same(turned(drawn, flip=False).measure(), drawn.measure())


@PROFILE
@given(networks(kinds=("tanh", "gru", "lstm")))
def test_signs_of_the_units_do_not_matter(drawn: Drawn) -> None:
    """``h -> S h`` for tanh and GRU, ``(h, c) -> (S h, S c)`` for LSTM, with their weights."""
    assert_same(turned(drawn, flip=True).measure(), drawn.measure())


@PROFILE
@given(networks(), st.randoms(use_true_random=False))
def test_order_of_the_sequences_does_not_matter(drawn: Drawn, random: Any) -> None:
    order = list(range(drawn.inputs.shape[0]))
    random.shuffle(order)
    moved = tuple(tensor[:, order] for tensor in drawn.tensors)
    start = moved if len(moved) > 1 else moved[0]
    one = drawn.measure()
    other = drawn.measure(
        inputs=drawn.inputs[order], initial_state=start, initial_basis=drawn.basis[order]
    )
    both = known(one)[order] & known(other)
    assert_near(by_column(other)[both], by_column(one)[order][both], TOLERANCE)
    if known(one).all() and known(other).all():
        assert_near(other.exponents, one.exponents, TOLERANCE)


@PROFILE
@given(networks(), st.data())
def test_the_first_columns_do_not_see_the_others(drawn: Drawn, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, drawn.basis.shape[2]))
    part = drawn.measure(initial_basis=drawn.basis[..., :count])
    assert part.exponents.shape == (count,)
    assert_same(part, drawn.measure(), count)


@PROFILE
@given(networks())
def test_the_interval_does_not_matter(drawn: Drawn) -> None:
    """Whether or not it divides the length: the last, shorter block counts."""
    steps = drawn.inputs.shape[1]
    blocks = drawn.measure()
    assert blocks.block_ends.tolist() == [*range(drawn.every, steps, drawn.every), steps]
    assert_same(blocks, drawn.measure(orthonormalize_every=1))


@PROFILE
@given(networks(), st.data())
def test_a_split_run_is_the_whole_run(drawn: Drawn, data: st.DataObject) -> None:
    steps = drawn.inputs.shape[1]
    assume(steps > 1)
    cut = data.draw(st.integers(1, steps - 1))
    whole = drawn.measure(orthonormalize_every=1)
    first = drawn.measure(orthonormalize_every=1, inputs=drawn.inputs[:, :cut])
    second = drawn.measure(
        inputs=drawn.inputs[:, cut:],
        initial_state=first.final_state,
        initial_basis=first.final_basis,
    )
    both = known(whole) & known(first) & known(second)
    joined = (cut * by_column(first) + (steps - cut) * by_column(second)) / steps
    assert_near(joined[both], by_column(whole)[both], TOLERANCE)
    ends = (second.final_state, whole.final_state)
    for got, expected in zip(*map(as_tensors, ends), strict=True):
        assert_near(got, expected, 1e-10)
