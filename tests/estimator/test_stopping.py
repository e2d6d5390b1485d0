"""Run to a tolerance: as many sequences and steps as it takes, and the truth about it."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_lyap import SpectrumEstimate
from lightning_lyap.estimator.batching import split_into_groups
from lightning_lyap.estimator.stopping import FIRST_STOP
from lightning_lyap.systems import gaussian_product_exponents, linear_step, product_step
from tests.cells import INPUT_SIZE, build
from tests.compare import assert_near
from tests.plain import plain_spectrum

F64 = torch.float64
SIZE = 3


def gaussian_products(batch: int, steps: int, **settings: Any) -> SpectrumEstimate:
    """Products of the first ``batch`` sequences of matrices: the same ones whatever the number."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(400, steps, SIZE**2, dtype=F64, generator=generator)[:batch]
    start = torch.zeros(batch, SIZE, dtype=F64)
    return plain_spectrum(product_step, inputs, initial_state=start, **settings)


def noise(steps: int, batch: int = 1) -> dict[str, Any]:
    """Scale a single number by ``exp(white noise of variance 1)``: stretches are that noise."""
    generator = torch.Generator().manual_seed(5)
    factors = torch.randn(batch, steps, 1, dtype=F64, generator=generator).exp()
    return {"inputs": factors, "initial_state": torch.zeros(batch, 1, dtype=F64)}


def scale(x: Tensor, s: Tensor) -> Tensor:
    return x * s


@pytest.mark.parametrize(
    ("batch_size", "target", "expected"),
    [
        (40, None, [(0, 40)]),
        (1, 0.1, [(0, 1)]),
        (16, 0.1, [(0, 16)]),
        (17, 0.1, [(0, 16), (16, 17)]),
        (200, 0.1, [(0, 16), (16, 32), (32, 64), (64, 128), (128, 200)]),
    ],
)
def test_groups_cover_all_sequences_once(
    batch_size: int, target: float | None, expected: list[tuple[int, int]]
) -> None:
    assert [(rows.start, rows.stop) for rows in split_into_groups(batch_size, target)] == expected


def test_no_more_sequences_than_needed() -> None:
    """The largest spread of Newman's stretches is 1.11: errors of ``1.11 / sqrt(100 B)``.

    0.0139 at B = 64 and 0.0098 at B = 128, known to 9 % and 6 %.
    """
    estimate = gaussian_products(400, 100, target_stderr=0.012)
    assert estimate.target_reached is True
    assert estimate.num_sequences == 128
    assert 0.008 < float(estimate.standard_errors.max()) <= 0.012
    expected = gaussian_product_exponents(SIZE)
    assert bool(((estimate.exponents - expected).abs() < 4 * estimate.standard_errors).all())


def test_what_was_run_is_what_those_sequences_alone_give() -> None:
    target = gaussian_products(400, 60, target_stderr=0.02, keep_log_stretches=True)
    alone = gaussian_products(target.num_sequences, 60, keep_log_stretches=True)
    assert 16 < target.num_sequences < 400
    for name in ("exponents", "std", "standard_errors", "margins", "rounding_errors"):
        assert_near(getattr(target, name), getattr(alone, name), 1e-12)
    for name in ("per_sequence", "steps", "valid", "block_ends", "log_stretches", "final_basis"):
        assert_near(getattr(target, name), getattr(alone, name), 1e-12)
    assert_near(target.final_state, alone.final_state, 1e-12)
    assert_near(target.running_exponents(), alone.running_exponents(), 1e-12)


def test_exhausted_sequences_are_said_to_be() -> None:
    estimate = gaussian_products(40, 20, target_stderr=1e-4)
    assert estimate.target_reached is False
    assert estimate.num_sequences == 40
    assert float(estimate.standard_errors.max()) > 1e-4
    assert gaussian_products(4, 20).target_reached is None


def test_a_single_long_sequence_stops_early() -> None:
    """Errors of ``1 / sqrt(T)``: 0.05 takes 400 steps, looked for after 256, 512, 1024."""
    estimate = plain_spectrum(scale, **noise(10_000), target_stderr=0.05)
    assert estimate.target_reached is True
    assert estimate.steps.tolist() in ([256], [512], [1024])
    assert estimate.block_ends[-1] == estimate.steps[0]


def test_short_sequences_are_run_to_their_end() -> None:
    estimate = plain_spectrum(scale, **noise(FIRST_STOP, 4), target_stderr=100.0)
    assert estimate.steps.tolist() == [FIRST_STOP] * 4


def test_warmup_does_not_count() -> None:
    estimate = plain_spectrum(scale, **noise(1000), target_stderr=10.0, warmup_steps=100)
    assert estimate.steps.tolist() == [FIRST_STOP]


def test_a_run_that_stopped_can_go_on() -> None:
    """From where it stopped, with the inputs it has not read."""
    module = build("gru")
    x = torch.randn(3, 900, INPUT_SIZE, dtype=F64)
    settings: dict[str, Any] = {"target_stderr": 1.0, "num_exponents": 2}
    first = plain_spectrum(module, x, **settings)
    done = int(first.steps[0])
    assert done == FIRST_STOP
    rest = plain_spectrum(
        module,
        x[:, done:],
        initial_state=first.final_state,
        initial_basis=first.final_basis,
    )
    whole = plain_spectrum(module, x, num_exponents=2)
    joined = (done * first.per_sequence + (900 - done) * rest.per_sequence) / 900
    assert_near(joined, whole.per_sequence, 1e-9)


def test_exact_exponents_have_no_error_and_reach_any_target() -> None:
    diagonal = torch.tensor([0.5, 0.25], dtype=F64).diag()
    estimate = plain_spectrum(
        linear_step(diagonal),
        torch.zeros(2, 1000, 0, dtype=F64),
        initial_state=torch.zeros(2, 2, dtype=F64),
        target_stderr=1e-12,
    )
    assert estimate.target_reached is True
    assert estimate.steps.tolist() == [FIRST_STOP] * 2


def test_lost_sequences_reach_no_target() -> None:
    inputs = noise(300, 20)
    inputs["initial_state"][:] = math.inf
    with pytest.warns(RuntimeWarning, match="20 of 20 sequences"):
        estimate = plain_spectrum(scale, **inputs, target_stderr=10.0)
    assert estimate.target_reached is False
    assert estimate.num_sequences == 0


def test_progress_covers_all_groups() -> None:
    calls: list[tuple[int, int]] = []
    gaussian_products(
        40, 5, target_stderr=1e-9, progress=lambda done, total: calls.append((done, total))
    )
    assert calls == [(step, 15) for step in range(1, 16)]


def test_groups_of_different_intervals_share_their_common_blocks() -> None:
    """Automatic intervals differ between groups; what is kept is summed to common ends."""
    settings: dict[str, Any] = {"keep_log_stretches": True, "target_stderr": 1e-9}
    auto = gaussian_products(40, 60, orthonormalize_every="auto", **settings)
    one = gaussian_products(40, 60, **settings)
    assert auto.log_stretches is not None
    assert auto.log_stretches.shape == (len(auto.block_ends), 40, SIZE)
    assert auto.block_ends[-1] == 60
    running = one.running_exponents()[auto.block_ends - 1]
    assert_near(auto.running_exponents(), running, 1e-6)


@pytest.mark.parametrize("target", [0.0, -1.0, math.nan, math.inf])
def test_targets_out_of_range_are_refused(target: float) -> None:
    with pytest.raises(ValueError, match=r"Expected `target_stderr` in \(0, inf\), but got"):
        gaussian_products(2, 5, target_stderr=target)


@pytest.mark.parametrize("target", ["0.1", True, torch.tensor(0.1)])
def test_targets_must_be_numbers(target: Any) -> None:
    with pytest.raises(TypeError, match="Expected `target_stderr` to be a number, but got"):
        gaussian_products(2, 5, target_stderr=target)
