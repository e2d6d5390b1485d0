"""Steps that compute in lower precision than that of their state are found out."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import lyapunov_spectrum
from lightning_lyap.dynamics import as_dynamics
from tests.cells import F64
from tests.exposing import expose, names
from tests.healthy import measure

MIX = torch.randn(6, 6, dtype=F64, generator=torch.Generator().manual_seed(3)) / 3


def own_autocast(x: Tensor, s: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return torch.tanh(s @ MIX.to(s)).to(s)


@pytest.mark.parametrize("start", [0.0, 1.0])
@pytest.mark.parametrize(
    ("step", "dtype"),
    [
        (lambda x, s: (s.float() @ MIX.float()).double() + x, F64),
        (lambda x, s: torch.tanh((s.half() @ MIX.half()).to(s) + x), F64),
        (lambda x, s: torch.tanh((s.bfloat16() @ MIX.bfloat16()).to(s) + x), torch.float32),
        (lambda x, s: torch.cat([s[:, :5], s[:, 5:].bfloat16().to(s)], 1) * 0.5 + x, torch.float32),
        (own_autocast, torch.float32),
    ],
    ids=["float32", "half in float64", "bfloat16", "one unit of six", "autocast"],
)
def test_lower_precision_inside_fails(step: Any, start: float, dtype: torch.dtype) -> None:
    x, given = torch.randn(2, 8, 6, dtype=dtype), start * torch.rand(2, 6, dtype=dtype)
    estimate = expose(step, x, "precision", initial_state=given)
    assert names(estimate) == {"precision"}
    (failure,) = estimate.certificate.failures
    assert "computes in another precision than that of its state" in failure


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize(
    "step",
    [
        lambda x, s: torch.tanh(30 * s @ MIX.to(s) + x),
        lambda x, s: torch.tanh(1e6 * s) / 1e6 + 1e-9 * x,
        lambda x, s: nn.functional.layer_norm(100 * s + x, (6,)) + 0.1 * s,
        lambda x, s: torch.softmax(20 * s @ MIX.to(s) + x, -1),
        lambda x, s: 1e-30 * s + x,
        lambda x, s: 0 * s + x,
        lambda x, s: 1e18 * torch.relu(s) + x,
    ],
    ids=["steep", "tiny units", "normalized", "softmax", "denormal", "constant", "huge"],
)
def test_full_precision_passes(step: Any, dtype: torch.dtype) -> None:
    x, start = torch.randn(2, 2, 6, dtype=dtype), torch.rand(2, 6, dtype=dtype)
    assert measure(step, x, initial_state=start).precision is not None


def test_dynamics_of_ones_own() -> None:
    """An object with the protocol, in which a tangent map alone is coarse."""

    class Coarse:
        tangent_size, dtype, device = 3, F64, torch.device("cpu")

        def drive(self, inputs: Tensor) -> Tensor:
            return inputs.transpose(0, 1)

        def initial_state(self, given: Any, batch_size: int) -> Any:
            return (torch.ones(batch_size, 3, dtype=F64),)

        def export_state(self, state: Any) -> Any:
            return state[0]

        def step(self, drive: Tensor, state: Any) -> Any:
            return (0.5 * state[0],), lambda basis: (0.5 * basis.float()).double()

    expose(Coarse(), torch.zeros(2, 5, 0, dtype=F64), "precision")


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_what_this_package_differentiates_is_known(kind: Any) -> None:
    certificate = lyapunov_spectrum(kind(2, 3), torch.randn(2, 5, 2)).certificate
    assert certificate.precision is None
    assert as_dynamics(kind(2, 3)).dtype == torch.float32
