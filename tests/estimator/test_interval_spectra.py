"""What spectra keep and save with automatic intervals."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import SpectrumEstimate, lyapunov_spectrum
from lightning_lyap.dynamics import LayerChoice, StateChoice
from lightning_lyap.estimator.schedule import TOLERANCES
from lightning_lyap.systems import henon_step, linear_step, lorenz_step
from tests.cells import INPUT_SIZE, build, random_state
from tests.compare import assert_near

F32, F64 = torch.float32, torch.float64


def pair(
    module: nn.RNNBase, x: Tensor, dtype: torch.dtype, **settings: Any
) -> tuple[SpectrumEstimate, Tensor]:
    """Measure with an automatic interval; return the errors of what is resolved, too.

    Against float64 and a factorization at every step, in the order of the basis vectors.
    """
    exact = lyapunov_spectrum(module, x, **settings)
    own = lyapunov_spectrum(module, x, dtype=dtype, orthonormalize_every="auto", **settings)
    error = torch.empty_like(exact.exponents)
    error[exact.order] = exact.exponents
    error = (error[own.order] - own.exponents).abs()
    return own, error[own.resolved]


KINDS: list[tuple[str, StateChoice]] = [
    ("tanh", "full"),
    ("gru", "full"),
    ("lstm", "hidden"),
    ("lstm", "full"),
    ("projected", "full"),
]


@pytest.mark.grid(every=7)
@pytest.mark.parametrize("layers", ["joint", "union"])
@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize(("kind", "state"), KINDS)
def test_keeps_its_tolerance(
    kind: str, state: StateChoice, dtype: torch.dtype, layers: LayerChoice
) -> None:
    """The tolerance bounds the errors of the stretches, given their directions.

    Where exponents lie close together, directions turn by rounding as well, whatever the interval:
    in a joint basis one exponent in ten may be off by more, by up to some 20 tolerances (as much as
    float32 is with a factorization at every step).
    """
    module = build(kind, num_layers=2, hidden_size=32)
    x = torch.randn(3, 100, INPUT_SIZE, dtype=F64)
    own, error = pair(module, x, dtype, state=state, layers=layers)
    spread = float(own.exponents[own.resolved][0] - own.exponents[own.resolved][-1])
    assert 0.5 < spread < 12
    assert float((error > TOLERANCES[dtype]).double().mean()) < (0.1 if layers == "joint" else 0.02)
    assert float(error.max()) < (20 if layers == "joint" else 2) * TOLERANCES[dtype]
    assert bool((own.rounding_errors[own.resolved] <= TOLERANCES[dtype]).all())
    # In a joint basis what rounding may have turned by more is not resolved.
    most = own.num_exponents // 2 if layers == "joint" else own.num_exponents // 16 + 4
    assert int((~own.resolved).sum()) <= most
    assert len(own.block_ends) < 100 or (kind in ("lstm", "projected") and dtype == F32)
    assert own.block_ends[-1] == 100


def test_relu_networks_with_dead_units() -> None:
    own, error = pair(
        build("relu", num_layers=2, hidden_size=32), torch.randn(3, 100, INPUT_SIZE).double(), F64
    )
    known = error[error.isfinite()]
    assert known.numel() > 4
    assert float(known.max()) < 1e-5
    assert own.certificate.passed


@pytest.mark.grid(every=2)
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_leading_exponents_save_nine_tenths(kind: Any, dtype: torch.dtype) -> None:
    module = kind(INPUT_SIZE, 128).to(F64)
    x = torch.randn(2, 200, INPUT_SIZE, dtype=F64)
    own, error = pair(module, x, dtype, num_exponents=8)
    assert bool(own.resolved.all())
    assert len(own.block_ends) + own.certificate.num_redone <= 20
    assert float(error.max()) < TOLERANCES[dtype]


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("matrix_scale", [1e-3, 1.0, 1e3])
def test_linear_maps_stay_in_range(dtype: torch.dtype, matrix_scale: float) -> None:
    """Stretches of ``log(1000)`` = 7 per step: 88 is what float32 holds, 709 float64."""
    matrix = matrix_scale * torch.diag(torch.tensor([1.0, 0.9, 0.8], dtype=dtype))
    estimate = lyapunov_spectrum(
        linear_step(matrix),
        torch.zeros(1, 200, 0, dtype=dtype),
        initial_state=torch.zeros(1, 3, dtype=dtype),
        orthonormalize_every="auto",
    )
    assert_near(estimate.exponents, matrix.diagonal().double().log(), 1e-5)
    assert bool(estimate.resolved.all())
    longest_block = int(estimate.block_ends.diff().max())
    assert longest_block > (40 if matrix_scale == 1.0 else 5)
    if matrix_scale != 1.0:
        assert longest_block * math.log(1000) < 0.55 * math.log(torch.finfo(dtype).max)


def test_resolved_means_within_the_tolerance() -> None:
    """And the reverse where a stretch stood out: what breaks the promise is marked."""
    module = build("lstm", hidden_size=32)
    own, _ = pair(module, torch.randn(2, 100, INPUT_SIZE).double(), F32)
    kept = own.rounding_errors <= TOLERANCES[F32]
    assert bool((own.resolved <= kept).all())
    assert not bool(own.resolved.all())
    fixed = lyapunov_spectrum(
        module, torch.randn(2, 100, INPUT_SIZE), dtype=F32, orthonormalize_every=1
    )
    assert bool((fixed.resolved & (fixed.rounding_errors > TOLERANCES[F32])).any())


def test_henon_map() -> None:
    """Two exponents, 0.4192 and -1.6232, that part by two nats per step; the sum is log 0.3."""
    start = torch.tensor([[0.1, 0.1], [0.2, 0.0]], dtype=F64)
    settings: dict[str, Any] = {"initial_state": start, "warmup_steps": 50}
    x = torch.zeros(2, 300, 0, dtype=F64)
    one = lyapunov_spectrum(henon_step, x, **settings)
    own = lyapunov_spectrum(henon_step, x, orthonormalize_every="auto", **settings)
    assert_near(own.exponents, one.exponents, 1e-6)
    assert_near(own.exponents.sum(), torch.tensor(math.log(0.3)).double(), 1e-6)
    assert len(own.block_ends) < 250 / 4


@pytest.mark.slow
def test_lorenz_flow() -> None:
    """Steps of 0.01: 0.009, 0 and -0.146 per step."""
    x, start = torch.zeros(1, 150, 0, dtype=F64), torch.tensor([[1.0, 1.0, 20.0]], dtype=F64)
    one = lyapunov_spectrum(lorenz_step, x, initial_state=start)
    own = lyapunov_spectrum(lorenz_step, x, initial_state=start, orthonormalize_every="auto")
    assert_near(own.exponents, one.exponents, 1e-6)
    assert len(own.block_ends) < 40


@pytest.mark.parametrize("lengths", [None, [60, 23, 41]])
@pytest.mark.parametrize("warmup_steps", [0, 11])
def test_warmup_and_lengths(warmup_steps: int, lengths: list[int] | None) -> None:
    module, x = build("gru", hidden_size=16), torch.randn(3, 60, INPUT_SIZE, dtype=F64)
    for b, length in enumerate(lengths or []):
        x[b, length:] = math.nan
    settings: dict[str, Any] = {"warmup_steps": warmup_steps, "lengths": lengths}
    own, error = pair(module, x, F64, **settings)
    assert float(error.max()) < 1e-6
    expected = torch.tensor(lengths or [60] * 3) - warmup_steps
    assert own.steps.tolist() == expected.tolist()
    assert int(own.block_ends[-1]) == int(expected.max())
    assert bool((own.block_ends.diff() > 0).all())


def test_a_run_goes_on_where_it_ended() -> None:
    module, x = build("gru", hidden_size=16), torch.randn(2, 60, INPUT_SIZE, dtype=F64)
    start = random_state(module, 2)
    auto_: dict[str, Any] = {"orthonormalize_every": "auto", "num_exponents": 6}
    whole = lyapunov_spectrum(module, x, initial_state=start, num_exponents=6)
    first = lyapunov_spectrum(module, x[:, :25], initial_state=start, **auto_)
    second = lyapunov_spectrum(
        module,
        x[:, 25:],
        initial_state=first.final_state,
        initial_basis=first.final_basis,
        **auto_,
    )
    joined = (25 * first.exponents.sum() + 35 * second.exponents.sum()) / 60
    assert_near(joined, whole.exponents.sum(), 1e-6)
    assert_near(second.final_state, whole.final_state, 1e-10)
    assert_near(second.final_basis, whole.final_basis, 1e-4)


def test_blocks_taken_back_leave_no_trace() -> None:
    """A network that suddenly loses directions: steps done again give the same trajectory."""
    rnn: Any = build("tanh", hidden_size=12)
    x = torch.randn(2, 80, INPUT_SIZE, dtype=F64)
    with torch.no_grad():
        rnn.weight_ih_l0.mul_(0.1)
    x[:, 40:60] *= 60.0
    calls: list[int] = []
    one = lyapunov_spectrum(rnn, x)
    own = lyapunov_spectrum(
        rnn, x, orthonormalize_every="auto", progress=lambda done, _: calls.append(done)
    )
    assert own.certificate.num_redone > 0
    assert calls == list(range(1, 81))
    assert_near(own.final_state, one.final_state, 0)
    assert_near(own.exponents[own.resolved].sum(), one.exponents[own.resolved].sum(), 1e-5)


def test_blocks_in_which_a_sequence_overflows_or_underflows_are_taken_back() -> None:
    """A calm drive makes blocks long; then one sequence grows, or all shrink, ten times as fast."""
    calm, wild = torch.full((4, 150, 1), 1.01), torch.full((4, 150, 1), 1.01)
    wild[3] = 10.0
    for late in (wild, torch.full((4, 150, 1), 0.1)):
        x = torch.cat([calm, late], dim=1)
        settings: dict[str, Any] = {"initial_state": torch.zeros(4, 1)}
        one = lyapunov_spectrum(lambda x, s: x * s, x, **settings)
        auto = lyapunov_spectrum(lambda x, s: x * s, x, orthonormalize_every="auto", **settings)
        assert bool(auto.valid.all())
        torch.testing.assert_close(auto.exponents, one.exponents, atol=1e-4, rtol=0)
        assert auto.certificate.num_factorizations < 150
