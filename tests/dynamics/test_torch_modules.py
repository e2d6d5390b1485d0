"""The analytic tangent maps against automatic differentiation of steps made of torch's cells."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from lightning_lyap import lyapunov_spectrum
from lightning_lyap.dynamics import (
    AutodiffDynamics,
    StateChoice,
    as_dynamics,
    from_torch_module,
)
from lightning_lyap.dynamics import gates as gates_module
from lightning_lyap.dynamics.stacked import StackedRecurrence
from tests.cells import (
    CASES,
    INPUT_SIZE,
    ONE_OF_EACH,
    Case,
    active_tensors,
    build,
    flatten_state,
    random_state,
    step_of,
)
from tests.compare import assert_near

BATCH = 3


def orthonormal(size: int, count: int) -> Tensor:
    return torch.linalg.qr(torch.randn(BATCH, size, count, dtype=torch.float64)).Q


def oracle_of(module: nn.RNNBase, case: Case, start: tuple[Tensor, ...]) -> AutodiffDynamics:
    return AutodiffDynamics(
        step_of(module), start, differentiate=active_tensors(module, case.state)
    )


def assert_equal_states(got: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for tensor, other in zip(got, expected, strict=True):
        assert_near(tensor.cpu(), other, 1e-12)


@torch.no_grad()
def compare_with_oracle(case: Case, device: str = "cpu") -> None:
    module = case.module()
    given = random_state(module, BATCH)
    x = torch.randn(BATCH, 1, INPUT_SIZE, dtype=torch.float64)
    oracle = oracle_of(module, case, flatten_state(given))
    expected_state, expected_push = oracle.step(x[:, 0], flatten_state(given))

    system = as_dynamics(module.to(device), state=case.state)
    assert isinstance(system, StackedRecurrence)
    drive, start = system.drive(x.to(device))[0], system.initial_state(given, BATCH)
    state, push = system.step(drive, start)
    assert system.tangent_size == oracle.tangent_size
    assert_equal_states(state, expected_state)
    for count in {1, 3, system.tangent_size}:
        basis = orthonormal(system.tangent_size, min(count, system.tangent_size))
        at_once, along = system.step_with_basis(drive, start, basis.to(device))
        assert_equal_states(at_once, expected_state)
        for got in (push(basis.to(device)).cpu(), along.cpu()):
            assert got.dtype == torch.float64
            assert_near(got, expected_push(basis), 1e-10)


@pytest.mark.grid(every=5)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_tangent_map_equals_autodiff(case: Case) -> None:
    compare_with_oracle(case)


@pytest.mark.grid(every=3)
@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("case", ONE_OF_EACH, ids=str)
def test_both_ways_equal_autodiff_for_every_k(
    case: Case, dense: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates_module, "prefers_dense", lambda gates, size, vectors: dense)
    compare_with_oracle(case)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("case", ONE_OF_EACH, ids=str)
def test_tangent_map_on_cuda_equals_autodiff_on_cpu(case: Case) -> None:
    compare_with_oracle(case, "cuda")


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=str)
def test_pushed_identity_is_the_reverse_mode_jacobian(case: Case) -> None:
    """Row i, column j is ds'_i / ds_j: not the transpose."""
    module = case.module()
    given = random_state(module, BATCH)
    x = torch.randn(BATCH, 1, INPUT_SIZE, dtype=torch.float64)
    system = as_dynamics(module, state=case.state)
    flat = flatten_state(given)
    active, step = active_tensors(module, case.state), step_of(module)
    with torch.no_grad():
        _, push = system.step(system.drive(x)[0], system.initial_state(given, BATCH))
        dense = push(torch.eye(system.tangent_size, dtype=torch.float64).expand(BATCH, -1, -1))

    for b in range(BATCH):
        sizes = [flat[k].shape[1] for k in active]

        def advance(vector: Tensor, b: int = b, sizes: list[int] = sizes) -> Tensor:
            state = [tensor[b : b + 1] for tensor in flat]
            for k, part in zip(active, vector.split(sizes), strict=True):
                state[k] = part[None]
            new = step(x[b], tuple(state))
            return torch.cat([new[k][0] for k in active])

        vector = torch.cat([flat[k][b] for k in active])
        assert_near(dense[b], jacobian(advance, vector), 1e-10)


@pytest.mark.grid(every=3)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("case", ONE_OF_EACH, ids=str)
@torch.no_grad()
def test_states_are_those_of_the_module(case: Case, batch_first: bool, dropout: float) -> None:
    module = case.module(batch_first=batch_first, dropout=dropout)
    given = random_state(module, BATCH)
    x = torch.randn(BATCH, 20, INPUT_SIZE, dtype=torch.float64)
    system = as_dynamics(module, state=case.state)
    state = system.initial_state(given, BATCH)
    for drive in system.drive(x):
        state, _ = system.step(drive, state)
    _, expected = module.eval()(x if batch_first else x.transpose(0, 1), given)
    assert_near(system.export_state(state), expected, 1e-12)


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=str)
def test_default_state_is_zero_and_an_exported_state_comes_back(case: Case) -> None:
    module = case.module()
    system = as_dynamics(module, state=case.state)
    assert all(bool((tensor == 0).all()) for tensor in system.initial_state(None, BATCH))
    given = random_state(module, BATCH)
    assert_near(system.export_state(system.initial_state(given, BATCH)), given, 0)


def test_two_layer_gru_is_no_lstm() -> None:
    gru, lstm = build("gru", num_layers=2), build("lstm", num_layers=2)
    assert as_dynamics(gru).tangent_size == 14
    assert as_dynamics(lstm).tangent_size == 28
    assert as_dynamics(lstm, state="hidden").tangent_size == 14
    assert as_dynamics(gru, state="hidden").tangent_size == 14


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_modules_are_computed_in_float32(dtype: torch.dtype) -> None:
    module = build("gru").to(dtype)
    assert as_dynamics(module).dtype == torch.float32
    assert as_dynamics(module, dtype=torch.float64).dtype == torch.float64
    assert next(module.parameters()).dtype == dtype


def test_weights_are_shared_not_copied() -> None:
    rnn: Any = build("tanh")
    system = from_torch_module(rnn)
    assert system.layers[0].project(torch.zeros(1, INPUT_SIZE).double()).shape == (1, 7)
    with torch.no_grad():
        rnn.weight_hh_l0.zero_()
        _, push = system.step(torch.zeros(1, 7).double(), (torch.ones(1, 7).double(),))
        assert bool((push(torch.eye(7).double()[None]) == 0).all())


@pytest.mark.parametrize("kind", ["tanh", "gru", "lstm"])
@pytest.mark.parametrize("inference", [False, True])
def test_a_run_reads_weights_that_were_changed_behind_torchs_back(
    kind: str, inference: bool
) -> None:
    with torch.inference_mode(inference):
        module: Any = build(kind, num_layers=2)
        system, inputs = from_torch_module(module), torch.randn(2, 9, INPUT_SIZE).double()
        before = lyapunov_spectrum(system, inputs, num_exponents=2).exponents
        for weight in (module.weight_hh_l0, module.weight_ih_l1):
            weight.data.mul_(2)
        after = lyapunov_spectrum(system, inputs, num_exponents=2).exponents
        assert float((after - before).abs().max()) > 1e-3
        assert torch.equal(
            after, lyapunov_spectrum(from_torch_module(module), inputs, num_exponents=2).exponents
        )


@pytest.mark.parametrize("state", ["full", "hidden"])
def test_bidirectional_modules_are_refused(state: StateChoice) -> None:
    for cls in (nn.RNN, nn.GRU, nn.LSTM):
        with pytest.raises(ValueError, match=r"Expected .* forward in time, but got a bidirect"):
            as_dynamics(cls(3, 4, bidirectional=True), state=state)
