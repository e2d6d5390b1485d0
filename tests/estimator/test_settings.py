"""How to measure: settings are checked at once, and have their say."""

from typing import Any

import pytest
import torch
from torch import nn

from tests.cells import F64, INPUT_SIZE, build, sequences
from tests.compare import assert_near
from tests.probing import DEFAULTS, driving, measure, settings


def test_dtype_by_name() -> None:
    module = nn.GRU(INPUT_SIZE, 4, batch_first=True)
    x = driving(sequences(3).float())
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
    x = driving(sequences(3).bfloat16())
    measured = measure({"rnn": module}, {"rnn": x}, settings())["rnn"]
    assert measured.estimate is not None
    assert measured.estimate.final_basis.dtype == torch.float32
    assert bool(measured.spectrum.exponents.isfinite().all())


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
        ({"dtype": torch.float16}, ValueError, "or None, but got torch.float16"),
        ({"dtype": 64}, ValueError, "or None, but got 64"),
    ],
)
def test_settings_are_checked_at_once(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        settings(**changes)


def test_types_of_torch_are_taken_for_their_names() -> None:
    assert settings(dtype=torch.float64) == settings(dtype="float64")


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


def test_sequences_shorter_than_the_warmup_are_refused() -> None:
    with pytest.raises(ValueError, match="more than the 2 steps of `warmup_steps`"):
        measure({"rnn": build("gru")}, {"rnn": driving(sequences(3), [2, 1, 2])}, settings())
