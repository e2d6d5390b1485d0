"""One measurement of a network: the estimator's numbers, by module."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from lightning_lyap import lyapunov_spectrum
from lightning_lyap.callback.measurement import Measurement
from lightning_lyap.estimator.result import LayeredSpectrum
from tests.cells import F64, INPUT_SIZE, build, random_state, sequences
from tests.compare import assert_near
from tests.probing import driving, measure, settings


@pytest.mark.parametrize("state", ["full", "hidden"])
@pytest.mark.parametrize("num_exponents", [None, 1, 4])
def test_measurement_is_the_estimate_with_the_same_settings(
    state: Any, num_exponents: int | None
) -> None:
    module, x, lengths = build("lstm", num_layers=2), sequences(3), [12, 5, 9]
    initial = random_state(module, 3)
    chosen = settings(state=state, num_exponents=num_exponents)
    measured = measure({"rnn": module}, {"rnn": driving(x, lengths, initial)}, chosen)["rnn"]
    expected = lyapunov_spectrum(
        module,
        x,
        initial_state=initial,
        lengths=lengths,
        num_exponents=num_exponents,
        warmup_steps=2,
        orthonormalize_every=3,
        state=state,
        layers="joint",
        keep_log_stretches=True,
    )
    assert type(measured.spectrum) is LayeredSpectrum
    assert measured.certified
    assert measured.fault is None
    for name in ("exponents", "std", "standard_errors", "margins", "resolved"):
        assert_near(getattr(measured.spectrum, name), getattr(expected, name), 1e-12)
    assert measured.spectrum.num_sequences == 3
    assert measured.spectrum.tangent_size == (28 if state == "full" else 14)
    assert measured.estimate is not None
    assert_near(measured.estimate.running_exponents(), expected.running_exponents(), 0)
    assert 0 < measured.seconds < 60


@pytest.mark.parametrize("num_exponents", [None, 3, 9])
def test_layers_apart_and_automatic_intervals(num_exponents: int | None) -> None:
    module, x = build("lstm", num_layers=2), sequences(3)
    chosen = settings(
        layers="union", orthonormalize_every="auto", warmup_steps=0, num_exponents=num_exponents
    )
    measured = measure({"rnn": module}, {"rnn": driving(x)}, chosen)["rnn"]
    expected = lyapunov_spectrum(
        module,
        x,
        warmup_steps=0,
        layers="union",
        orthonormalize_every="auto",
        num_exponents=num_exponents,
    )
    assert_near(measured.spectrum.exponents, expected.exponents, 1e-12)
    assert measured.spectrum.layer is not None
    assert expected.layer is not None
    assert measured.spectrum.layer.tolist() == expected.layer.tolist()


class Skipping(nn.GRU):
    """Ends in another state than its weights say."""

    def forward(self, *args: Any) -> Any:
        output, state = super().forward(*args)
        return output, state + 1


def test_an_estimate_that_fails_its_certificate_says_so_without_a_warning() -> None:
    """The project turns that warning of the estimator into an error."""
    module = Skipping(INPUT_SIZE, 4, batch_first=True).double()
    measured = measure({"rnn": module}, {"rnn": driving(sequences(3))}, settings())["rnn"]
    assert not measured.certified
    assert measured.fault is not None
    assert measured.fault.startswith("states is off by")
    elsewhere = Measurement(measured.spectrum, None, 0.0, certified=False)
    assert elsewhere.fault == "the certificate fails in another process"


def test_several_modules_each_with_their_own_sequences() -> None:
    modules = {"b": build("gru"), "a": build("tanh", num_layers=2)}
    inputs = {name: driving(sequences(2 + i)) for i, name in enumerate(modules)}
    measured = measure(modules, inputs, settings())
    assert list(measured) == ["b", "a"]
    for name, module in modules.items():
        expected = lyapunov_spectrum(
            module,
            inputs[name].inputs,
            warmup_steps=2,
            orthonormalize_every=3,
            layers="joint",
        )
        assert_near(measured[name].spectrum.exponents, expected.exponents, 1e-12)


def test_progress_names_the_module() -> None:
    seen: list[tuple[str, int, int]] = []
    modules = {"a": build("gru"), "b": build("tanh")}
    inputs = {"a": driving(sequences(2, 4)), "b": driving(sequences(2, 3))}
    measure(modules, inputs, settings(), lambda *step: seen.append(step))
    assert seen == [("a", i, 4) for i in (1, 2, 3, 4)] + [("b", i, 3) for i in (1, 2, 3)]


def test_a_module_with_fewer_exponents_than_asked_for_gives_all_it_has() -> None:
    modules = {"large": build("lstm"), "small": build("gru")}
    inputs = {name: driving(sequences(3)) for name in modules}
    measured = measure(modules, inputs, settings(num_exponents=8))
    assert measured["large"].spectrum.num_exponents == 8
    assert measured["small"].spectrum.num_exponents == 7
    assert measured["small"].spectrum.is_complete


def test_a_measurement_of_overflow_is_nan_and_no_error() -> None:
    module = build("relu")
    initial = torch.full((1, 3, 7), math.inf, dtype=F64)
    with pytest.warns(RuntimeWarning, match="3 of 3 sequences"):
        measured = measure(
            {"rnn": module}, {"rnn": driving(sequences(3), None, initial)}, settings()
        )
    assert isinstance(measured["rnn"], Measurement)
    assert measured["rnn"].spectrum.num_sequences == 0
    assert bool(measured["rnn"].spectrum.exponents.isnan().all())
