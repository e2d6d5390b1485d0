"""Modules of any make are measured in evaluation mode and in the right type, and left alone."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from lightning_lyap import lyapunov_spectrum
from lightning_lyap.dynamics import as_dynamics
from lightning_lyap.dynamics.user_modules import _evaluation_copy
from tests.compare import assert_near

F64 = torch.float64


class Noisy(nn.Module):
    """A cell with dropout, running statistics, a counter and a memory of its last state."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 + 4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Dropout(0.5).eval()
        self.register_buffer("calls", torch.tensor(0))
        self.last: Tensor | None = None

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        new = self.dropout(self.norm(torch.tanh(self.linear(torch.cat([x, h], 1)))))
        self.calls += 1
        self.last = new
        return new.sum(1), new


def by_formula(cell: Noisy) -> Any:
    twin = copy.deepcopy(cell).eval()

    def step(x: Tensor, h: Tensor) -> Tensor:
        return twin.norm(torch.tanh(twin.linear(torch.cat([x, h], 1))))

    return step


def test_the_module_is_left_as_it_was() -> None:
    cell, x, h = Noisy(), torch.randn(2, 8, 3), torch.zeros(2, 4)
    before = copy.deepcopy(cell.state_dict())
    state = torch.get_rng_state()
    got = lyapunov_spectrum(cell, x, initial_state=h)
    assert cell.training
    assert not cell.frozen.training
    assert cell.dropout.training
    assert cell.last is None
    assert all(torch.equal(value, before[name]) for name, value in cell.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert_near(got.exponents, lyapunov_spectrum(by_formula(cell), x, initial_state=h).exponents, 0)


def test_a_failure_leaves_it_as_it_was_too() -> None:
    cell = Noisy()
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        lyapunov_spectrum(cell, torch.randn(2, 8, 9), initial_state=torch.zeros(2, 4))
    assert cell.training
    assert cell.calls == 0


@pytest.mark.grid(every=2)
@pytest.mark.parametrize("dtype", [None, torch.float32, F64])
@pytest.mark.parametrize("own", [torch.bfloat16, torch.float16, torch.float32, F64])
def test_weights_take_the_type_of_the_arithmetic(
    own: torch.dtype, dtype: torch.dtype | None
) -> None:
    cell, x = Noisy().to(own), torch.randn(2, 8, 3)
    wanted = dtype or (own if own in (torch.float32, F64) else torch.float32)
    got = lyapunov_spectrum(cell, x, initial_state=torch.zeros(2, 4), dtype=dtype)
    assert got.final_basis.dtype == wanted
    assert got.final_state.dtype == wanted
    assert all(p.dtype == own for p in cell.parameters())
    twin = by_formula(copy.deepcopy(cell).to(wanted))
    start = torch.zeros(2, 4, dtype=wanted)
    assert_near(got.exponents, lyapunov_spectrum(twin, x, initial_state=start).exponents, 0)


def test_weights_of_the_right_type_are_shared() -> None:
    cell = Noisy()
    twin = _evaluation_copy(cell, torch.float32)
    assert all(a is b for a, b in zip(cell.parameters(), twin.parameters(), strict=True))
    other = _evaluation_copy(cell, F64)
    assert all(a is not b for a, b in zip(cell.parameters(), other.parameters(), strict=True))


def test_weight_norm_is_followed() -> None:
    """Its weights are computed from others, by a parametrization or by a hook before the call."""
    x, h = torch.randn(2, 8, 3), torch.zeros(2, 4)
    plain = Noisy()
    expected = lyapunov_spectrum(plain, x, initial_state=h).exponents
    modern, hooked = copy.deepcopy(plain), copy.deepcopy(plain)
    parametrizations.weight_norm(modern.linear)
    with pytest.warns(FutureWarning, match="weight_norm"):
        nn.utils.weight_norm(hooked.linear)
    for cell in (modern, hooked):
        got = lyapunov_spectrum(cell, x, initial_state=h).exponents
        assert_near(got, expected, 1e-5)
        with torch.no_grad():
            next(p for n, p in cell.named_parameters() if "_g" in n or "original0" in n).mul_(2)
        other = lyapunov_spectrum(cell, x, initial_state=h).exponents
        assert float((other - expected).abs().max()) > 0.01


def test_hooks_of_the_user_are_not_copied() -> None:
    """A bound method would drag along its owner, a whole Trainer for instance."""

    class Owner:
        def __init__(self) -> None:
            self.seen = 0

        def __deepcopy__(self, memo: Any) -> None:
            raise AssertionError("copied")

        def watch(self, *args: Any) -> None:
            self.seen += 1

    cell, owner = Noisy(), Owner()
    cell.register_forward_hook(owner.watch)
    lyapunov_spectrum(cell, torch.randn(2, 2, 3), initial_state=torch.zeros(2, 4))
    assert owner.seen > 0
    assert len(cell._forward_hooks) == 1


def test_a_module_that_cannot_be_copied_names_the_remedy() -> None:
    cell = Noisy()
    cell.source = (i for i in range(3))  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r"copy.deepcopy.* but got a Noisy: .*lambda x, state") as e:
        as_dynamics(cell, torch.zeros(2, 4))
    assert e.value.__cause__ is not None


def test_the_default_state_moves_to_the_weights() -> None:
    x, module = torch.randn(2, 8, 3), Noisy().to(F64)
    single = lyapunov_spectrum(module, x, initial_state=torch.zeros(2, 4, dtype=torch.float16))
    double = lyapunov_spectrum(module, x, initial_state=torch.zeros(2, 4, dtype=F64))
    assert torch.equal(single.exponents, double.exponents)
