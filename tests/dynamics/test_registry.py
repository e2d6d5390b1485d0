"""Types are taught by one call, looked up along their ancestry, and forgotten again."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import (
    lyapunov_spectrum,
    register_recurrence,
    unregister_recurrence,
)
from lightning_lyap.dynamics import is_recurrent, recurrence_of
from lightning_lyap.dynamics import registry as registry_module
from tests.compare import assert_near

X = torch.ones(2, 10, 3)
LOG_HALF = torch.full((3,), 0.5, dtype=torch.float64).log()


@pytest.fixture(autouse=True)
def _leave_the_registry_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "_KNOWN", dict(registry_module._KNOWN))


class Decay(nn.Module):
    """``h' = rate h + x``."""

    def __init__(self, rate: float = 0.5) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(rate))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.rate * h + x


def zeros(module: nn.Module, batch_size: int) -> Tensor:
    return torch.zeros(batch_size, 3)


def test_as_a_bare_decorator() -> None:
    @register_recurrence
    class Own(Decay):
        pass

    got = lyapunov_spectrum(Own(), X, initial_state=torch.zeros(2, 3))
    assert_near(got.exponents, LOG_HALF, 1e-6)
    with pytest.raises(ValueError, match=r"`initial_state` .* with a Own, .*register_rec"):
        lyapunov_spectrum(Own(), X)


def test_as_a_decorator_with_settings() -> None:
    @register_recurrence(initial_state=zeros, step=lambda cell: lambda x, h: (None, cell(x, h)))
    class Own(Decay):
        pass

    assert isinstance(Own, type)
    assert_near(lyapunov_spectrum(Own(), X).exponents, LOG_HALF, 1e-6)


def test_as_a_call() -> None:
    assert register_recurrence(Decay, initial_state=zeros) is Decay
    assert_near(lyapunov_spectrum(Decay(), X).exponents, LOG_HALF, 1e-6)


def test_derived_types_are_known_by_the_nearest_ancestor() -> None:
    class Child(Decay):
        pass

    class Grandchild(Child):
        pass

    assert not is_recurrent(Grandchild())
    register_recurrence(Decay)
    assert recurrence_of(Grandchild()) is recurrence_of(Decay())
    register_recurrence(Child, initial_state=zeros)
    known = recurrence_of(Grandchild())
    assert known is not None
    assert known.initial_state is zeros
    unregister_recurrence(Child)
    assert recurrence_of(Grandchild()) is recurrence_of(Decay())
    unregister_recurrence(Decay)
    assert not is_recurrent(Grandchild())


def test_a_type_derived_from_torchs_can_be_registered() -> None:
    class Halved(nn.GRU):
        pass

    class Cell(nn.GRUCell):
        pass

    assert recurrence_of(Halved(3, 3)) is None
    for kind in (Halved, Cell):
        register_recurrence(
            kind, step=lambda module: lambda x, h: h / 2, initial_state=zeros, sequences=True
        )
        assert_near(lyapunov_spectrum(kind(3, 3), X).exponents, LOG_HALF, 1e-6)
    assert recurrence_of(nn.GRU(3, 3)) is None


def test_the_last_registration_counts() -> None:
    register_recurrence(Decay)
    register_recurrence(Decay, step=lambda module: lambda x, h: h, initial_state=zeros)
    assert lyapunov_spectrum(Decay(), X).exponents.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("kind", "settings", "error", "message"),
    [
        (Decay(), {}, TypeError, "derived from torch.nn.Module, but got a Decay. Register the cl"),
        (dict, {}, TypeError, "derived from torch.nn.Module, but got dict"),
        (lambda x, h: h, {}, TypeError, "but got a function"),
        (nn.GRUCell, {}, ValueError, "of your own, but got GRUCell: torch's are known"),
        (nn.LSTM, {}, ValueError, "of your own, but got LSTM"),
        (nn.Module, {}, ValueError, "of your own, but got Module"),
        (Decay, {"step": 3}, TypeError, "`step` to be a function of the module, but got int"),
        (Decay, {"initial_state": torch.zeros(3)}, TypeError, "`initial_state` .* got Tensor"),
        (Decay, {"sequences": True}, ValueError, "`step` with sequences=True, but got None"),
    ],
)
def test_wrong_use_is_refused(
    kind: Any, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        register_recurrence(kind, **settings)
    assert not is_recurrent(Decay())


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        (Decay, ValueError, r"registered itself, but got Decay. Registered are: \["),
        (nn.GRUCell, ValueError, "of your own, but got GRUCell"),
        (3, TypeError, "but got a int"),
    ],
)
def test_only_what_was_registered_is_forgotten(
    kind: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        unregister_recurrence(kind)


def test_a_step_that_is_no_function_is_refused() -> None:
    wrong: Any = lambda module: 3  # noqa: E731
    register_recurrence(Decay, step=wrong, initial_state=zeros)
    with pytest.raises(TypeError, match=r"Expected `step` of Decay to return .*, but got int"):
        lyapunov_spectrum(Decay(), X)
