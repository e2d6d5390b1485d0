"""Wrong arguments are refused before any work, with what was expected and what came."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from lightning_lyap import lyapunov_spectrum
from lightning_lyap._checks import check_count, check_settings
from lightning_lyap.dynamics import AutodiffDynamics

X = torch.zeros(2, 10, 3)
EYE = torch.eye(4).expand(2, 4, 4)

CASES: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("no tensor", {"inputs": X.tolist()}, TypeError, "`inputs` .*, but got list"),
    ("numpy", {"inputs": X.numpy()}, TypeError, "`inputs` .*, but got ndarray"),
    ("whole numbers", {"inputs": X.long()}, TypeError, "`inputs` .*, but got torch.int64"),
    ("complex", {"inputs": X + 0j}, TypeError, "`inputs` .*, but got torch.complex64"),
    ("unbatched", {"inputs": X[0]}, ValueError, r"\[B, T, I\] .*, but got \(10, 3\)"),
    ("no sequence", {"inputs": X[:0]}, ValueError, r"one sequence, but got \(0, 10, 3\)"),
    ("no step", {"inputs": X[:, :0]}, ValueError, "but got lengths from 0 to 0"),
    ("features", {"inputs": X[..., :2]}, ValueError, r"3 features, .*, but got \(2, 10, 2\)"),
    ("nan", {"inputs": X + math.nan}, ValueError, "finite `inputs`, but got NaN or infinite"),
    ("infinite", {"inputs": X - math.inf}, ValueError, "finite `inputs`, but got NaN or infinite"),
    ("K float", {"num_exponents": 2.0}, TypeError, "`num_exponents` to be an int, but got 2.0"),
    ("K bool", {"num_exponents": True}, TypeError, "`num_exponents` to be an int, but got True"),
    ("K zero", {"num_exponents": 0}, ValueError, "`num_exponents` .* at least 1, but got 0"),
    ("K > N", {"num_exponents": 5}, ValueError, "`num_exponents` of at most 4, .*, but got 5"),
    ("warm-up", {"warmup_steps": -1}, ValueError, "`warmup_steps` .* at least 0, but got -1"),
    ("warm-up float", {"warmup_steps": 1.5}, TypeError, "`warmup_steps` .* int, but got 1.5"),
    ("long warm-up", {"warmup_steps": 10}, ValueError, "more than the 10 steps of `warmup_steps`"),
    ("interval", {"orthonormalize_every": 0}, ValueError, "`orthonormalize_every` .* but got 0"),
    ("interval None", {"orthonormalize_every": None}, TypeError, "int or 'auto', but got None"),
    ("seed", {"seed": -1}, ValueError, "`seed` to be at least 0, but got -1"),
    ("state", {"state": "cell"}, ValueError, r"`state` to be one of \('full', 'hidden'\), but got"),
    ("state list", {"state": ["full"]}, ValueError, "`state` to be one of .*, but got"),
    ("half", {"dtype": torch.float16}, ValueError, "`dtype` .*, but got torch.float16"),
    ("bfloat16", {"dtype": torch.bfloat16}, ValueError, "`dtype` .*, but got torch.bfloat16"),
    ("dtype word", {"dtype": "float32"}, ValueError, "`dtype` .*, but got 'float32'"),
    ("lengths shape", {"lengths": [5]}, ValueError, r"`lengths` of shape \[2\], .* got \(1,\)"),
    ("one length", {"lengths": 5}, ValueError, r"`lengths` of shape \[2\], .* but got \(\)"),
    ("lengths float", {"lengths": [5.0, 6.0]}, TypeError, "whole numbers, but got torch.float32"),
    ("lengths bool", {"lengths": [True, True]}, TypeError, "whole numbers, but got torch.bool"),
    ("lengths words", {"lengths": ["a", "b"]}, TypeError, r"whole numbers, but got \['a', 'b'\]"),
    ("lengths None", {"lengths": [None, 3]}, TypeError, r"whole numbers, but got \[None, 3\]"),
    ("length zero", {"lengths": [0, 4]}, ValueError, "but got lengths from 0 to 4"),
    ("too long", {"lengths": [11, 4]}, ValueError, "at most the 10 steps .* from 4 to 11"),
    (
        "all warm-up",
        {"lengths": [5, 4], "warmup_steps": 5},
        ValueError,
        "but got lengths from 4 to 5. Use longer sequences or a shorter warm-up",
    ),
    ("start", {"initial_state": torch.zeros(1, 3, 4)}, ValueError, r"but got \[\(1, 3, 4\)\]"),
    ("start numbers", {"initial_state": [0.0]}, TypeError, "a state .*, but got float"),
    ("start numpy", {"initial_state": np.zeros((1, 2, 4))}, TypeError, "but got ndarray"),
    ("basis list", {"initial_basis": [[1.0]]}, TypeError, "`initial_basis` .* but got list"),
    ("basis scalar", {"initial_basis": torch.tensor(1.0)}, ValueError, r"but got \(\)"),
    ("basis empty", {"initial_basis": EYE[..., :0]}, ValueError, r"but got \(2, 4, 0\)"),
    ("basis 2D", {"initial_basis": EYE[0]}, ValueError, r"\(2, 4, K\) .*, but got \(4, 4\)"),
    (
        "basis and K",
        {"initial_basis": EYE, "num_exponents": 2},
        ValueError,
        r"`initial_basis` of shape \(2, 4, 2\) .*, but got \(2, 4, 4\)",
    ),
    ("oblique basis", {"initial_basis": EYE + 0.1}, ValueError, "orthonormal columns, but they"),
    ("nan basis", {"initial_basis": EYE * math.nan}, ValueError, "orthonormal columns, but they"),
    (
        "cell features",
        {"dynamics": nn.LSTMCell(2, 4)},
        ValueError,
        r"2 features, the module's input_size, but got \(2, 10, 3\)",
    ),
    (
        "cell start",
        {"dynamics": nn.LSTMCell(3, 4), "initial_state": torch.zeros(2, 4)},
        ValueError,
        r"\[\(2, 4\), \(2, 4\)\] .*, but got \[\(2, 4\)\]. Pass what the torch cell takes",
    ),
    ("nothing", {"dynamics": None}, TypeError, "Expected `dynamics` .*, but got NoneType"),
    (
        "bidirectional",
        {"dynamics": nn.GRU(3, 4, bidirectional=True)},
        ValueError,
        "forward in time, but got a bidirectional GRU. Its output at time t depends on later",
    ),
    ("no state", {"dynamics": nn.Linear(3, 4)}, ValueError, "`initial_state` .* but got None"),
]


@pytest.mark.parametrize(
    ("settings", "error", "message"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_wrong_arguments(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"dynamics": nn.RNN(3, 4), "inputs": X} | settings
    with pytest.raises(error, match=message) as info:
        lyapunov_spectrum(**arguments)
    assert str(info.value).startswith("Expected ")


def test_a_packed_sequence_is_refused() -> None:
    packed: Any = pack_padded_sequence(X, [10, 10], batch_first=True)
    with pytest.raises(TypeError, match="but got PackedSequence"):
        lyapunov_spectrum(nn.RNN(3, 4), packed)


def test_dtype_must_agree_with_ready_made_dynamics() -> None:
    system = AutodiffDynamics(lambda x, s: s, torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"agree with the dynamics' own torch.float32, but got"):
        lyapunov_spectrum(system, X, dtype=torch.float64)
    assert lyapunov_spectrum(system, X, dtype=torch.float32).exponents.tolist() == [0.0] * 4


def test_padding_may_hold_anything() -> None:
    x = X.clone()
    x[0, 4:] = math.nan
    estimate = lyapunov_spectrum(nn.RNN(3, 4), x, lengths=torch.tensor([4, 10]))
    assert estimate.steps.tolist() == [4, 10]
    with pytest.warns(RuntimeWarning, match="1 with inputs that are not finite"):
        estimate = lyapunov_spectrum(nn.RNN(3, 4), x, lengths=[5, 10])
    assert estimate.valid.tolist() == [False, True]


@pytest.mark.parametrize("lengths", [[3, 4], torch.tensor([3, 4]), np.array([3, 4])])
def test_lengths_come_in_several_forms(lengths: Any) -> None:
    assert lyapunov_spectrum(nn.RNN(3, 4), X, lengths=lengths).steps.tolist() == [3, 4]


def test_half_precision_inputs_are_taken() -> None:
    rnn = nn.RNN(3, 4)
    x = torch.randn(2, 5, 3).half()
    got, expected = lyapunov_spectrum(rnn, x), lyapunov_spectrum(rnn, x.float())
    assert torch.equal(got.exponents, expected.exponents)


def test_autonomous_systems_take_inputs_without_features() -> None:
    def halve(x: Tensor, s: Tensor) -> Tensor:
        assert x.shape == (2, 0)
        return s / 2

    start = torch.ones(2, 1)
    estimate = lyapunov_spectrum(halve, torch.zeros(2, 3, 0), initial_state=start)
    assert estimate.exponents.tolist() == pytest.approx([-math.log(2)])


def test_settings_alone() -> None:
    check_settings(None, 0, 1, 0)
    assert check_count("n", 3, 3) == 3
    for three in (np.int64(3), np.array(3), torch.tensor(3)):
        assert type(check_count("n", three, 3)) is int
    for no_number in (np.True_, torch.tensor(True), np.float64(3), torch.tensor([3, 3])):
        with pytest.raises(TypeError, match="Expected `n` to be an int, but got"):
            check_count("n", no_number, 0)
    with pytest.raises(ValueError, match="Expected `n` to be at least 4, but got 3"):
        check_count("n", 3, 4)
