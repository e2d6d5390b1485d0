"""The certificate of healthy networks: complete, passed, silent; and without side effects."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import lyapunov_spectrum, register_recurrence
from lightning_lyap.certificate import Certificate, Check, worst
from lightning_lyap.dynamics import LayerChoice, as_dynamics, unregister_recurrence
from lightning_lyap.forward import forward_check
from lightning_lyap.interval import Interval
from tests.cells import CASES, INPUT_SIZE, KINDS, ONE_OF_EACH, Case, build, random_state

F64 = torch.float64
ALL = {"sum_rule", "tangent_map", "states", "orthogonality"}
UNION: tuple[LayerChoice, ...] = ("joint", "union")
FAULTY = "The Lyapunov spectrum fails its certificate"


def sequences(batch: int, steps: int, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(batch, steps, INPUT_SIZE, dtype=dtype)


@contextmanager
def silence() -> Iterator[None]:
    """Fail on any warning of this package's."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


def measure(module: Any, x: Tensor, **settings: Any) -> Certificate:
    """Measure a healthy network: no warning, all checks passed."""
    with silence():
        certificate = lyapunov_spectrum(module, x, **settings).certificate
    assert certificate.passed, certificate.failures
    return certificate


class TestHealthy:
    @pytest.mark.parametrize("layers", UNION)
    @pytest.mark.parametrize(
        ("case", "every"),
        [
            (case, 1)
            for case in CASES
            if case.num_layers == 2 or (case.bias and case.num_layers != 3)
        ]
        + [(case, every) for case in ONE_OF_EACH for every in (3, "auto")],
        ids=str,
    )
    def test_all_kinds(self, case: Case, every: Interval, layers: LayerChoice) -> None:
        module, x = case.module(), sequences(2, 5)
        settings: dict[str, Any] = {
            "state": case.state,
            "layers": layers,
            "orthonormalize_every": every,
            "initial_state": random_state(module, 2),
        }
        whole = measure(module, x, **settings)
        if case.kind == "relu":  # dead units have no volume
            assert set(whole.checks) >= ALL - {"sum_rule"}
        elif every == 1:  # longer blocks may spread over half of the digits
            assert set(whole.checks) == ALL
        part = measure(module, x, num_exponents=1, **settings)
        assert set(part.checks) == ALL - {"sum_rule"}
        assert part.sum_rule is None

    @pytest.mark.parametrize("layers", UNION)
    @pytest.mark.parametrize("case", ONE_OF_EACH, ids=str)
    def test_float32(self, case: Case, layers: LayerChoice) -> None:
        module, x = case.module().float(), sequences(3, 20, torch.float32)
        certificate = measure(module, x, state=case.state, layers=layers)
        assert set(certificate.checks) >= ALL - {"sum_rule"}
        if case.kind in ("tanh", "gru"):
            assert certificate.sum_rule is not None
        mixed = measure(module, x, state=case.state, layers=layers, dtype=F64)
        assert mixed.states is not None
        assert mixed.states.bound > 1e-5  # that of the coarser type

    @pytest.mark.parametrize("lengths", [[8, 8, 8], [8, 3, 5]])
    def test_lengths_and_warmup(self, lengths: list[int]) -> None:
        certificate = measure(
            build("gru", num_layers=2), sequences(3, 9), lengths=lengths, warmup_steps=2
        )
        assert set(certificate.checks) == ALL
        assert certificate.num_factorizations == 6

    @pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
    @pytest.mark.parametrize("layers", UNION)
    def test_cells(self, kind: Any, layers: LayerChoice) -> None:
        cell, x = kind(INPUT_SIZE, 6).double(), sequences(2, 9)
        assert set(measure(cell, x, layers=layers).checks) == ALL
        start = torch.randn(2, 6, dtype=F64)
        state = (start, -start) if kind is nn.LSTMCell else start
        assert set(measure(cell, x, layers=layers, initial_state=state).checks) == ALL

    def test_step_functions_are_done_again_and_alone(self) -> None:
        certificate = measure(
            lambda x, s: torch.tanh(x + s),
            sequences(2, 8),
            initial_state=torch.zeros(2, 3).double(),
        )
        assert set(certificate.checks) == ALL - {"sum_rule"}

    def test_what_else_it_tells(self) -> None:
        certificate = measure(build("gru"), sequences(2, 20), orthonormalize_every=7)
        assert certificate.num_factorizations == 3
        assert certificate.num_redone == 0
        assert certificate.rounding_error is not None
        assert 0 < certificate.rounding_error < 1e-6

    def test_no_resolved_exponent_has_no_rounding_error(self) -> None:
        zeros = torch.zeros(1, 2, dtype=F64)
        certificate = measure(
            lambda x, s: 0 * s, torch.zeros(1, 4, 0).double(), initial_state=zeros
        )
        assert certificate.rounding_error is None


def test_subclass_with_torchs_forward_pass_is_healthy() -> None:
    class Named(nn.LSTM):
        """Nothing new but the name."""

    assert measure(Named(INPUT_SIZE, 5), sequences(2, 6, torch.float32)).states is not None


class OutputAlone(nn.GRU):
    """A forward pass that takes and gives no state."""

    def forward(self, input: Any) -> Any:  # type: ignore[override]
        return super().forward(input)[0]


class OutputForState(nn.LSTM):
    """A forward pass whose second result is no state."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        output, _ = super().forward(input, hx)
        return output, 3


@pytest.mark.parametrize("kind", [OutputAlone, OutputForState])
def test_forward_passes_of_another_form_are_not_compared(kind: Any) -> None:
    certificate = measure(kind(INPUT_SIZE, 5), sequences(2, 6, torch.float32))
    assert set(certificate.checks) == ALL - {"states"}


def test_registered_subclass_is_measured_by_its_step() -> None:
    """Its states are those of the step it was registered with, not of torch's forward pass."""

    def step_of_it(module: Any) -> Any:
        return lambda x, h: torch.tanh(h + x[:, :1])

    zeros = lambda module, batch: torch.zeros(batch, 5)  # noqa: E731

    class Own(nn.GRU):
        def forward(self, input: Any, hx: Any = None) -> Any:
            return super().forward(input, hx)[0]

    register_recurrence(Own, step=step_of_it, initial_state=zeros, sequences=True)
    try:
        certificate = measure(Own(INPUT_SIZE, 5), sequences(2, 6, torch.float32))
    finally:
        unregister_recurrence(Own)
    assert set(certificate.checks) == ALL - {"sum_rule"}


def test_derived_cell_with_its_own_step_is_differentiated() -> None:
    class Clipped(nn.GRUCell):
        def forward(self, input: Tensor, hx: Any = None) -> Tensor:
            return super().forward(input, hx) / 2

    certificate = measure(Clipped(INPUT_SIZE, 5).double(), sequences(2, 6))
    assert set(certificate.checks) == ALL - {"sum_rule"}


@pytest.mark.parametrize(("dtype", "layers"), [(torch.float32, "joint"), (F64, "union")])
@pytest.mark.parametrize(("kind", "state"), KINDS)
class TestNoFalseAlarms:
    @pytest.mark.parametrize("scale", [0.0, 5.0, 20.0])
    def test_large_weights(
        self, kind: str, state: str, dtype: torch.dtype, layers: LayerChoice, scale: float
    ) -> None:
        """Chaos, saturation, overflow of slopes, dead units, and weights of zero."""
        for seed, every in ((0, 1), (1, "auto")):
            torch.manual_seed(seed)
            module = build(kind, num_layers=2, hidden_size=(16, 5)[seed]).to(dtype)
            with torch.no_grad():
                for weight in module.parameters():
                    weight.mul_(scale)
            x = sequences(3, 8, dtype)
            measure(module, x, state=state, layers=layers, orthonormalize_every=every)

    @pytest.mark.parametrize("bias", [10.0, 30.0])
    def test_saturated_units(
        self, kind: str, state: str, dtype: torch.dtype, layers: LayerChoice, bias: float
    ) -> None:
        module: Any = build(kind, num_layers=2).to(dtype)
        with torch.no_grad():
            for k in range(2):
                own = getattr(module, f"bias_ih_l{k}")
                own.copy_(bias * torch.randn_like(own).sign())
        measure(module, sequences(3, 8, dtype), state=state, layers=layers)


@pytest.mark.parametrize("kind", ["tanh", "gru", "lstm"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(kind: str, dtype: torch.dtype) -> None:
    module = build(kind, num_layers=2, hidden_size=32).to(dtype)
    certificate = measure(module, sequences(3, 8, torch.float32))
    assert certificate.states is not None
    assert certificate.states.residual > 0
    assert 0.05 <= certificate.states.bound < 0.5


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["weight_hh_l0", "weight_ih_l1", "bias_hh_l1"])
@pytest.mark.parametrize("kind", ["tanh", "gru", "lstm"])
def test_broken_weights_are_announced_once(kind: str, name: str, bad: float) -> None:
    module = build(kind, num_layers=2)
    with torch.no_grad():
        getattr(module, name).view(-1)[0] = bad
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        estimate = lyapunov_spectrum(module, sequences(2, 6))
    messages = [str(w.message) for w in record if issubclass(w.category, RuntimeWarning)]
    assert len(messages) <= 1  # an infinite bias saturates one unit, and that is all
    assert not any(FAULTY in message for message in messages)
    assert estimate.certificate.passed


@pytest.mark.parametrize("kind", ["tanh", "gru", "lstm"])
@pytest.mark.parametrize("training", [True, False])
def test_leaves_no_trace_on_the_module(kind: str, training: bool) -> None:
    """Dropout between layers is left out; modes, hooks and random numbers are the user's."""
    module = build(kind, num_layers=3, dropout=0.5).train(training)
    calls: list[str] = []
    module.register_forward_hook(lambda *_: calls.append("hook"))
    module.register_forward_pre_hook(lambda *_: calls.append("pre-hook"))
    x = sequences(2, 6)
    before, cudnn = torch.get_rng_state(), torch.backends.cudnn.enabled
    assert measure(module, x).states is not None
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.backends.cudnn.enabled == cudnn
    assert module.training is training
    assert calls == []


class NoisyGRU(nn.GRU):
    """A network with dropout, in a module below and from the global generator."""

    def __init__(self) -> None:
        super().__init__(INPUT_SIZE, 5, batch_first=True)
        self.below = nn.Dropout(0.5)

    def forward(self, input: Any, hx: Any = None) -> Any:
        torch.rand(3)
        output, h = super().forward(input, hx)
        return output, self.below(h)


def test_leaves_no_trace_of_a_subclass_that_draws() -> None:
    module, x = NoisyGRU().train(), sequences(2, 6, torch.float32)
    before = torch.get_rng_state()
    assert measure(module, x).states is not None
    assert torch.equal(torch.get_rng_state(), before)
    assert module.training
    assert module.below.training


@pytest.mark.parametrize("kind", ["tanh", "gru", "lstm"])
def test_inference_mode_and_autocast(kind: str) -> None:
    module, x = build(kind, num_layers=2, hidden_size=32).float(), sequences(2, 6, torch.float32)
    plain = measure(module, x)
    with torch.inference_mode():
        assert measure(module, x) == plain
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert measure(module, x) == plain
    with torch.enable_grad():
        assert measure(module, x.requires_grad_()) == plain


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_states_of_chaotic_networks_may_grow_apart(kind: str) -> None:
    """The bound follows what the network makes of a small difference, and no further."""
    bounds = []
    for scale in (0.5, 20.0):
        module = build(kind, num_layers=2, hidden_size=20)
        with torch.no_grad():
            for weight in module.parameters():
                weight.mul_(scale)
        x = sequences(8, 4)
        check = forward_check(module, as_dynamics(module), x, None)
        assert check is not None
        bounds.append(check.bound)
    assert bounds[0] == pytest.approx(1e3 * torch.finfo(F64).eps)
    assert bounds[0] < bounds[1] < 1e-3


class TestCheck:
    @pytest.mark.parametrize(
        ("residual", "passed"), [(0.0, True), (1.0, True), (1.1, False), (math.inf, False)]
    )
    def test_passes_up_to_its_bound(self, residual: float, passed: bool) -> None:
        assert Check(residual, 1.0).passed is passed
        assert Check(residual, 2.0).severity == residual / 2

    def test_nan_fails_and_is_the_worst(self) -> None:
        assert not Check(math.nan, 1.0).passed
        assert Check(math.nan, 1.0).severity == math.inf
        found = worst([Check(5.0, 1.0), Check(math.nan, 1.0)])
        assert found is not None
        assert math.isnan(found.residual)

    def test_worst_is_relative_to_the_bounds(self) -> None:
        assert worst([Check(5.0, 10.0), None, Check(0.1, 0.1)]) == Check(0.1, 0.1)
        assert worst([]) is None
        assert worst([None, None]) is None


def test_certificate_lists_the_checks_that_were_made_and_failed() -> None:
    assert Certificate().passed
    assert Certificate().checks == {}
    certificate = Certificate(sum_rule=Check(1.0, 2.0), states=Check(0.3, 1e-4))
    assert certificate.checks == {"sum_rule": Check(1.0, 2.0), "states": Check(0.3, 1e-4)}
    assert certificate.failures == ("states is off by 0.3, rounding explains 0.0001",)
    assert not certificate.passed
    every: dict[str, Any] = dict.fromkeys(ALL, Check(0.0, 1.0))
    assert set(Certificate(**every).checks) == ALL
