"""Input that is unusual but right is taken, and gives what the usual form of it gives."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from lightning_lyap import LyapunovSpectrum, SpectrumEstimate, spectra_of
from lightning_lyap.estimator.settings import MeasurementSettings
from lightning_lyap.network.find_modules import find_recurrent_modules
from tests.bad_input.strategies import profile, unchanged
from tests.cells import INPUT_SIZE, build, random_state
from tests.plain import plain_spectrum

# The same numbers, laid out or held in another way.
FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "every second": lambda x: x.repeat_interleave(2, dim=1)[:, ::2],
    "last first": lambda x: x.permute(2, 1, 0).contiguous().permute(2, 1, 0),
    "with gradient": lambda x: x.clone().requires_grad_(),
    "of a graph": lambda x: x.clone().requires_grad_() * 1.0,
    "parameter": nn.Parameter,
    "inference": lambda x: _in_inference_mode(x),
    "offset": lambda x: torch.cat([x[:1], x])[1:],
}


def _in_inference_mode(x: Tensor) -> Tensor:
    with torch.inference_mode():
        return x.clone()


def same(got: SpectrumEstimate, expected: SpectrumEstimate) -> None:
    assert got.exponents.isfinite().all()
    # Another layout in memory takes another order of sums.
    assert_close(got.exponents, expected.exponents, rtol=1e-10, atol=1e-12)
    assert_close(got.per_sequence, expected.per_sequence, rtol=1e-10, atol=1e-12)
    assert not got.exponents.requires_grad
    assert not got.final_basis.requires_grad


@profile(60)
@given(
    st.sampled_from(["tanh", "gru", "lstm"]),
    st.integers(1, 3),
    st.integers(1, 4),
    st.sampled_from(sorted(FORMS)),
    st.data(),
)
def test_forms_of_the_same_numbers(
    kind: str, batch_size: int, steps: int, form: str, data: st.DataObject
) -> None:
    network = build(kind, hidden_size=3)
    torch.manual_seed(data.draw(st.integers(0, 99)))
    inputs = torch.randn(batch_size, steps, INPUT_SIZE, dtype=torch.float64)
    start = random_state(network, batch_size)
    expected = plain_spectrum(network, inputs, initial_state=start)
    odd = FORMS[form](inputs)
    states = [
        FORMS[form](part) if isinstance(part, Tensor) else part
        for part in ([start] if isinstance(start, Tensor) else start)
    ]
    odd_start = states[0] if isinstance(start, Tensor) else tuple(states)
    basis = FORMS[form](torch.eye(expected.tangent_size).double().repeat(batch_size, 1, 1))
    with unchanged(network, odd, *states, basis):
        same(plain_spectrum(network, odd, initial_state=odd_start), expected)
        got = plain_spectrum(network, odd, initial_state=odd_start, initial_basis=basis)
    same(got, expected)


WHOLE: list[Callable[[int], Any]] = [np.int64, np.uint8, np.array, torch.tensor]


@profile(40)
@given(st.sampled_from(WHOLE), st.integers(1, 3), st.integers(0, 2), st.integers(1, 9))
def test_whole_numbers_of_any_make(
    make: Callable[[int], Any], count: int, warmup: int, every: int
) -> None:
    network, inputs = build("tanh", hidden_size=3), torch.randn(2, 4, INPUT_SIZE).double()
    plain = {"num_exponents": count, "warmup_steps": warmup, "orthonormalize_every": every}
    odd: dict[str, Any] = {name: make(number) for name, number in plain.items()}
    expected: Any = plain_spectrum(network, inputs, **plain)  # type: ignore[arg-type]
    same(plain_spectrum(network, inputs, **odd, seed=make(0)), expected)
    assert LyapunovSpectrum(**odd).settings.as_dict().items() >= plain.items()
    probe = MeasurementSettings(make(2), make(4), state="full", layers="joint", dtype=None, **odd)
    assert all(type(probe.as_dict()[name]) is int for name in (*plain, "num_sequences"))


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 1), (1, 4), (3, 1)])
def test_one_sequence_and_one_step(batch_size: int, steps: int) -> None:
    network, inputs = build("gru", hidden_size=3), torch.randn(batch_size, steps, INPUT_SIZE)
    got = plain_spectrum(network, inputs.double(), num_exponents=3)
    assert got.exponents.isfinite().all()
    assert (got.num_sequences, got.is_complete) == (batch_size, True)
    assert got.steps.tolist() == [steps] * batch_size


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_inputs_of_another_precision(dtype: torch.dtype) -> None:
    network, inputs = nn.GRU(INPUT_SIZE, 4), torch.randn(2, 5, INPUT_SIZE).to(dtype)
    same(plain_spectrum(network, inputs), plain_spectrum(network, inputs.float()))


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.float16, torch.float64])
def test_states_and_bases_of_another_real_type(dtype: torch.dtype) -> None:
    network, inputs = nn.RNN(INPUT_SIZE, 4), torch.randn(2, 5, INPUT_SIZE)
    start, basis = torch.ones(1, 2, 4, dtype=dtype), torch.eye(4, dtype=dtype).repeat(2, 1, 1)
    got = plain_spectrum(network, inputs, initial_state=start, initial_basis=basis)
    same(got, plain_spectrum(network, inputs, initial_state=torch.ones(1, 2, 4)))


@pytest.mark.parametrize("features", [0, 2])
def test_inputs_of_no_feature_drive_autonomous_systems(features: int) -> None:
    got = plain_spectrum(
        lambda x, s: s / 2, torch.zeros(2, 3, features), initial_state=torch.ones(2, 1)
    )
    assert got.exponents.item() == pytest.approx(-0.6931471805599453)


def test_a_single_name_is_a_name() -> None:
    network = nn.ModuleDict({"a": nn.GRU(2, 3), "b": nn.GRU(2, 3)})
    assert list(find_recurrent_modules(network, "b")) == ["b"]
    got = spectra_of(nn.Sequential(nn.Identity(), nn.GRU(2, 3)), torch.ones(2, 4, 2), modules="1")
    assert list(got) == ["1"]
