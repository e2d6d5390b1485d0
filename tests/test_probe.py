"""One measurement of a network: the estimator's numbers by module, on the share of this process."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import lyapunov_spectrum, register_recurrence, unregister_recurrence
from lightning_lyap.estimate import LayeredSpectrum
from lightning_lyap.probe import (
    Measurement,
    ProbeSettings,
    check_modules,
    combine_processes,
    estimate_spectra,
)
from lightning_lyap.recordings import DrivingSequences
from tests.cells import INPUT_SIZE, build, random_state
from tests.compare import assert_near

F64 = torch.float64
DEFAULTS: dict[str, Any] = {
    "num_sequences": 3,
    "num_steps": 10,
    "warmup_steps": 2,
    "orthonormalize_every": 3,
    "num_exponents": None,
    "state": "full",
    "layers": "joint",
    "dtype": None,
}


def settings(**changes: Any) -> ProbeSettings:
    return ProbeSettings(**DEFAULTS | changes)


def driving(
    inputs: Tensor, lengths: list[int] | None = None, initial_state: Any = None
) -> DrivingSequences:
    ends = torch.tensor(lengths or [inputs.shape[1]] * len(inputs))
    return DrivingSequences(inputs=inputs, lengths=ends, initial_state=initial_state)


def measure(
    modules: Mapping[str, nn.Module],
    inputs: dict[str, DrivingSequences],
    chosen: ProbeSettings,
    progress: Any = None,
) -> dict[str, Measurement]:
    """Measure in one process, as the callback does in each of several."""
    estimates = estimate_spectra(modules, inputs, chosen, progress)
    return combine_processes(modules, estimates, chosen)


def sequences(batch: int = 3, steps: int = 12) -> Tensor:
    return torch.randn(batch, steps, INPUT_SIZE, dtype=F64)


@pytest.mark.parametrize("state", ["full", "hidden"])
@pytest.mark.parametrize("num_exponents", [None, 1, 4])
def test_measurement_is_the_estimate_with_the_same_settings(
    state: Any, num_exponents: int | None
) -> None:
    module, x, lengths = build("lstm", num_layers=2), sequences(), [12, 5, 9]
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
    module, x = build("lstm", num_layers=2), sequences()
    chosen = settings(
        layers="union", orthonormalize_every="auto", warmup_steps=0, num_exponents=num_exponents
    )
    measured = measure({"rnn": module}, {"rnn": driving(x)}, chosen)["rnn"]
    expected = lyapunov_spectrum(
        module, x, layers="union", orthonormalize_every="auto", num_exponents=num_exponents
    )
    assert_near(measured.spectrum.exponents, expected.exponents, 1e-12)
    assert measured.spectrum.layer is not None
    assert expected.layer is not None
    assert measured.spectrum.layer.tolist() == expected.layer.tolist()


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_a_process_without_a_share_knows_the_layers_too() -> None:
    chosen = settings(layers="union", num_exponents=3)
    measured = measure({"rnn": build("lstm", num_layers=2)}, {}, chosen)["rnn"]
    assert measured.spectrum.num_exponents == 3
    assert measured.certified


class Skipping(nn.GRU):
    """Ends in another state than its weights say."""

    def forward(self, *args: Any) -> Any:
        output, state = super().forward(*args)
        return output, state + 1


def test_an_estimate_that_fails_its_certificate_says_so_without_a_warning() -> None:
    """The project turns that warning of the estimator into an error."""
    module = Skipping(INPUT_SIZE, 4, batch_first=True).double()
    measured = measure({"rnn": module}, {"rnn": driving(sequences())}, settings())["rnn"]
    assert not measured.certified
    assert measured.fault is not None
    assert measured.fault.startswith("states is off by")
    elsewhere = Measurement(measured.spectrum, None, 0.0, certified=False)
    assert elsewhere.fault == "the certificate fails in another process"


def test_modules_without_known_layers_are_refused_as_unions() -> None:
    modules = {"stack": nn.GRU(3, 4, 2), "cell": nn.GRUCell(3, 4)}
    check_modules(modules, settings())
    check_modules({"stack": modules["stack"]}, settings(layers="union"))
    with pytest.raises(ValueError, match=r"got 'cell', a GRUCell, .*`layers='joint'`, or name"):
        check_modules(modules, settings(layers="union"))
    register_recurrence(Skipping, step=lambda module: lambda x, h: h)
    try:
        own = {"own": Skipping(3, 4)}
        with pytest.raises(ValueError, match="got 'own', a Skipping, whose layers are not known"):
            check_modules(own, settings(layers="union"))
    finally:
        unregister_recurrence(Skipping)


def test_several_modules_each_with_their_own_sequences() -> None:
    modules = {"b": build("gru"), "a": build("tanh", num_layers=2)}
    inputs = {name: driving(sequences(2 + i)) for i, name in enumerate(modules)}
    measured = measure(modules, inputs, settings())
    assert list(measured) == ["b", "a"]
    for name, module in modules.items():
        expected = lyapunov_spectrum(
            module, inputs[name].inputs, warmup_steps=2, orthonormalize_every=3
        )
        assert_near(measured[name].spectrum.exponents, expected.exponents, 1e-12)


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_a_process_without_a_share_knows_the_size_alone() -> None:
    measured = measure({"rnn": build("lstm")}, {}, settings(state="hidden"))["rnn"]
    assert measured.estimate is None
    assert measured.spectrum.num_exponents == 7
    assert measured.spectrum.num_sequences == 0
    assert bool(measured.spectrum.exponents.isnan().all())


class Drawn(nn.Module):
    """A cell that starts from a random state."""

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return h / 2


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_a_process_without_a_share_draws_nothing() -> None:
    """Its generators decide about its part of the training, as those of the others do."""
    register_recurrence(Drawn, initial_state=lambda cell, batch_size: torch.randn(batch_size, 4))
    before = torch.get_rng_state()
    try:
        measured = combine_processes({"rnn": Drawn()}, {}, settings())["rnn"]
    finally:
        unregister_recurrence(Drawn)
    assert measured.spectrum.num_exponents == 4
    assert torch.equal(torch.get_rng_state(), before)


def test_dtype_by_name() -> None:
    module = nn.GRU(INPUT_SIZE, 4, batch_first=True)
    x = driving(sequences().float())
    single, double = (
        measure({"rnn": module}, {"rnn": x}, settings(dtype=name))["rnn"]
        for name in ("float32", "float64")
    )
    assert single.estimate is not None
    assert double.estimate is not None
    assert single.estimate.final_basis.dtype == torch.float32
    assert double.estimate.final_basis.dtype == F64
    assert single.spectrum.exponents.dtype == F64
    assert_near(single.spectrum.exponents, double.spectrum.exponents, 1e-4)


def test_half_precision_modules_are_measured_in_single_precision() -> None:
    module = nn.GRU(INPUT_SIZE, 4, batch_first=True).bfloat16()
    x = driving(sequences().bfloat16())
    measured = measure({"rnn": module}, {"rnn": x}, settings())["rnn"]
    assert measured.estimate is not None
    assert measured.estimate.final_basis.dtype == torch.float32
    assert bool(measured.spectrum.exponents.isfinite().all())


def test_progress_names_the_module() -> None:
    seen: list[tuple[str, int, int]] = []
    modules = {"a": build("gru"), "b": build("tanh")}
    inputs = {"a": driving(sequences(2, 4)), "b": driving(sequences(2, 3))}
    measure(modules, inputs, settings(), lambda *step: seen.append(step))
    assert seen == [("a", i, 4) for i in (1, 2, 3, 4)] + [("b", i, 3) for i in (1, 2, 3)]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"num_sequences": 0}, ValueError, "`num_sequences` to be at least 1, but got 0"),
        ({"num_sequences": 1.0}, TypeError, "`num_sequences` to be an int"),
        ({"num_steps": 0}, ValueError, "`num_steps` to be at least 1, but got 0"),
        ({"warmup_steps": -1}, ValueError, "`warmup_steps` to be at least 0, but got -1"),
        ({"orthonormalize_every": 0}, ValueError, "`orthonormalize_every` to be at least 1"),
        ({"orthonormalize_every": "Auto"}, ValueError, "to be an int or 'auto', but got 'Auto'"),
        ({"layers": "each"}, ValueError, r"`layers` .*\('joint', 'union'\), but got 'each'"),
        ({"num_exponents": 0}, ValueError, "`num_exponents` to be at least 1, but got 0"),
        ({"state": "cell"}, ValueError, r"`state` .*\('full', 'hidden'\), but got 'cell'"),
        ({"dtype": "float16"}, ValueError, r"\('float32', 'float64'\) or None, but got 'float16'"),
        ({"dtype": torch.float64}, ValueError, "or None, but got torch.float64"),
    ],
)
def test_settings_are_checked_at_once(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        settings(**changes)


def test_settings_as_plain_values() -> None:
    chosen = settings(dtype="float64")
    assert chosen.as_dict() == DEFAULTS | {"dtype": "float64"}
    assert chosen.window == 12
    assert chosen.estimator_settings() == {
        "warmup_steps": 2,
        "orthonormalize_every": 3,
        "state": "full",
        "layers": "joint",
        "dtype": F64,
    }


def test_a_module_with_fewer_exponents_than_asked_for_gives_all_it_has() -> None:
    modules = {"large": build("lstm"), "small": build("gru")}
    inputs = {name: driving(sequences()) for name in modules}
    measured = measure(modules, inputs, settings(num_exponents=8))
    assert measured["large"].spectrum.num_exponents == 8
    assert measured["small"].spectrum.num_exponents == 7
    assert measured["small"].spectrum.is_complete


def test_sequences_shorter_than_the_warmup_are_refused() -> None:
    with pytest.raises(ValueError, match="more than the 2 steps of `warmup_steps`"):
        measure({"rnn": build("gru")}, {"rnn": driving(sequences(), [12, 2, 12])}, settings())


def test_a_measurement_of_overflow_is_nan_and_no_error() -> None:
    module = build("relu")
    initial = torch.full((1, 3, 7), math.inf, dtype=F64)
    with pytest.warns(RuntimeWarning, match="3 of 3 sequences"):
        measured = measure(
            {"rnn": module}, {"rnn": driving(sequences(), None, initial)}, settings()
        )
    assert isinstance(measured["rnn"], Measurement)
    assert measured["rnn"].spectrum.num_sequences == 0
    assert bool(measured["rnn"].spectrum.exponents.isnan().all())


class Halving(nn.Module):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return h / 2


def zeros(module: nn.Module, batch_size: int) -> Tensor:
    return torch.zeros(batch_size, 5)


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
@pytest.mark.parametrize("num_exponents", [None, 3, 9])
def test_cells_and_registered_modules_have_the_size_of_their_state(
    num_exponents: int | None,
) -> None:
    register_recurrence(
        Halving, initial_state=lambda module, batch_size: torch.zeros(batch_size, 5)
    )
    modules = {"own": Halving(), "cell": nn.LSTMCell(INPUT_SIZE, 4)}
    here = {name: driving(sequences().float()) for name in modules}
    chosen = settings(num_exponents=num_exponents)
    try:
        for inputs in (here, {}):
            measured = measure(modules, inputs, chosen)
            assert measured["own"].spectrum.num_exponents == min(num_exponents or 5, 5)
            assert measured["cell"].spectrum.num_exponents == min(num_exponents or 8, 8)
    finally:
        unregister_recurrence(Halving)


def test_a_registered_module_without_a_default_says_so_where_it_has_no_sequence() -> None:
    """Before the processes meet: none waits for another."""
    register_recurrence(Halving)
    start = torch.zeros(3, 5)
    try:
        given = driving(sequences().float(), initial_state=start)
        measured = measure({"own": Halving()}, {"own": given}, settings())
        assert measured["own"].spectrum.num_exponents == 5
        with pytest.raises(ValueError, match=r"with a Halving, but got None.*register_recurrence"):
            estimate_spectra({"own": Halving()}, {}, settings())
    finally:
        unregister_recurrence(Halving)
