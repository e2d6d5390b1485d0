"""Sums and counts: however the sequences are dealt out, the metric is that of all of them."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_lyap import lyapunov_spectrum
from lightning_lyap.certificate import Check
from lightning_lyap.systems import product_step
from tests.cells import F64, ONE_OF_EACH, Case, build, sequences
from tests.compare import assert_near
from tests.metrics import JOINS, Join, assert_equal, measured


def scaled(*scales: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Sequences of diagonal 2 x 2 matrices for `product_step`, and their zero initial states."""
    rows = torch.tensor([[first, 0.0, 0.0, second] for first, second in scales], dtype=F64)
    return rows[:, None].repeat(1, 5, 1), torch.zeros(len(scales), 2, dtype=F64)


@pytest.mark.grid(every=4)
@pytest.mark.parametrize("join", JOINS)
@pytest.mark.parametrize("case", ONE_OF_EACH, ids=str)
def test_two_metrics_merged_are_one_over_all_sequences(case: Case, join: Join) -> None:
    module, x = case.module(), sequences(7)
    settings: dict[str, Any] = {"state": case.state, "warmup_steps": 2}
    one, other = (measured((module, part), **settings) for part in (x[:3], x[3:]))
    whole = measured((module, x), **settings)
    estimate = lyapunov_spectrum(module, x, **settings)
    assert_equal(join(one, other).mean_spectrum(), whole.mean_spectrum())
    assert_equal(whole.mean_spectrum(), estimate)


@pytest.mark.parametrize("join", JOINS)
def test_parts_that_sort_their_exponents_differently_are_merged_by_direction(join: Join) -> None:
    """The first part grows along the second vector, the second part along the first."""
    x, start = scaled((0.5, 3.0), (0.7, 2.0), (4.0, 0.1))
    one, other = (
        measured((product_step, x[:2], start[:2])),
        measured((product_step, x[2:], start[2:])),
    )
    assert one.cross[0, 0] < 0 < one.cross[0, 1]
    assert other.cross[0, 0] > 0 > other.cross[0, 1]
    spectrum = join(one, other).mean_spectrum()
    logs = torch.tensor([[0.5, 3.0], [0.7, 2.0], [4.0, 0.1]], dtype=F64).log()
    mean, order = logs.mean(0).sort(descending=True)
    assert_near(spectrum.exponents, mean, 1e-12)
    assert_near(spectrum.std, logs.std(0)[order], 1e-12)
    assert_near(spectrum.standard_errors, logs.std(0)[order] / math.sqrt(3), 1e-12)


def test_resolved_means_resolved_in_every_part() -> None:
    """Whatever the order of the parts, and of the exponents within each."""
    module = build("gru", hidden_size=3)
    one, other = (lyapunov_spectrum(module, sequences(2)) for _ in range(2))
    lost = one.order[2].item()  # the vector whose exponent comes last in one part
    unresolved = torch.zeros(3, dtype=torch.int64).index_fill(0, one.order[2:], 2)
    one = replace(one, sums=replace(one.sums, unresolved=unresolved))
    assert bool(other.resolved.all())
    for parts in ((one, other), (other, one)):
        metric = measured(*((part,) for part in parts))
        assert [i for i, times in enumerate(metric.unresolved.tolist()) if times] == [lost]
        assert metric.mean_spectrum().resolved.sum() == 2


def test_an_estimate_given_equals_measuring() -> None:
    module, x = build("gru"), sequences(5)
    estimate = lyapunov_spectrum(module, x, num_exponents=3, orthonormalize_every=2)
    settings = {"num_exponents": 3, "orthonormalize_every": 2}
    assert_equal(
        measured((estimate,), **settings).mean_spectrum(),
        measured((module, x), **settings).mean_spectrum(),
    )


def test_lengths_and_initial_states_are_handed_on() -> None:
    module, x = build("tanh"), sequences(3)
    initial = torch.randn(1, 3, 7, dtype=F64)
    lengths = [12, 4, 7]
    metric = measured((module, x, initial, lengths))
    estimate = lyapunov_spectrum(module, x, initial_state=initial, lengths=lengths)
    assert_equal(metric.mean_spectrum(), estimate)


@pytest.mark.parametrize("num_exponents", [1, 3])
def test_leading_exponents(num_exponents: int) -> None:
    module, x = build("gru"), sequences(6)
    metric = measured((module, x[:2]), (module, x[2:]), num_exponents=num_exponents)
    spectrum = metric.mean_spectrum()
    assert_equal(spectrum, lyapunov_spectrum(module, x, num_exponents=num_exponents))
    assert spectrum.num_exponents == num_exponents
    assert not spectrum.is_complete
    assert spectrum.measures().max == spectrum.exponents[0].item()


def test_automatic_intervals_agree_within_their_tolerance() -> None:
    module, x = build("gru"), sequences(6, 40)
    settings: dict[str, Any] = {"orthonormalize_every": "auto"}
    parts = measured((module, x[:2]), (module, x[2:]), **settings).mean_spectrum()
    assert bool(parts.resolved.all())
    assert float(parts.rounding_errors.max()) <= 1e-6
    assert_near(parts.exponents, lyapunov_spectrum(module, x).exponents, 2e-6)


def test_one_batch_that_fails_its_certificate_is_never_forgotten() -> None:
    module, x = build("gru"), sequences(4)
    good = lyapunov_spectrum(module, x[:2])
    bad = replace(good, certificate=replace(good.certificate, states=Check(1.0, 1e-6)))
    for batches in ((good, bad), (bad, good)):
        assert not bool(measured(*((batch,) for batch in batches)).compute()["certified"])
    merged = measured((good,))
    merged.merge_state(measured((bad,)))
    assert not bool(merged.compute()["certified"])
