"""One sentence each on sequences that repeat or overlap, and on exponents that have not settled."""

import math
import warnings

import pytest
import torch

from lightning_lyap import LyapunovSpectrum, lyapunov_spectrum
from lightning_lyap.estimator.remarks import overlap_remark, settling_remark
from lightning_lyap.estimator.result import MeanSpectrum
from tests.cells import build, sequences
from tests.compare import assert_near


@pytest.mark.filterwarnings("ignore:.*exponents have")
def test_repetitions_count_no_more_than_the_first() -> None:
    module, x = build("gru"), sequences(3, 40)
    expected = lyapunov_spectrum(module, x)
    with pytest.warns(RuntimeWarning, match="2 of 5 sequences repeat others") as told:
        got = lyapunov_spectrum(module, x[[0, 1, 0, 2, 1]])
    assert told[0].filename == __file__
    assert got.distinct.tolist() == [True, True, False, True, False]
    assert got.num_sequences == 3
    assert got.per_sequence.shape == (5, 7)
    assert_near(got.exponents, expected.exponents)
    assert_near(got.margins, expected.margins)
    assert overlap_remark(expected) is None


@pytest.mark.filterwarnings("ignore:.*exponents have")
def test_windows_that_overlap_have_wider_intervals() -> None:
    """Half of two windows of 40 steps in common: 1.5 times the variance, fewer degrees."""
    module, recording = build("gru"), sequences(1, 60)[0]
    x = torch.stack([recording[:40], recording[20:]])
    with pytest.warns(RuntimeWarning, match="Two sequences have 50 % of their steps in common"):
        got = lyapunov_spectrum(module, x)
    assert got.overlap == 0.5
    other = lyapunov_spectrum(module, sequences(2, 40))
    assert other.overlap == 0
    assert got.sums.repetition == (1.5, 3.0)
    without = got.sums.__class__(**(vars(got.sums) | {"overlap": torch.tensor(0.0)}))
    narrow, _ = without.sorted_mean(7)
    assert bool((got.margins > narrow.margins).all())
    assert got.statistic_errors is not None
    assert narrow.statistic_errors is not None
    assert bool((got.statistic_errors[:4] > narrow.statistic_errors[:4]).all())


@pytest.mark.filterwarnings("ignore:.*exponents have")
def test_in_groups_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    module, recording = build("gru"), sequences(1, 100)[0]
    x = recording.unfold(0, 40, 20).movedim(-1, 1)[[0, 1, 2, 3, 1]]
    with pytest.warns(RuntimeWarning, match="1 of 5 .*; two sequences have 25 %"):
        whole = lyapunov_spectrum(module, x)
    monkeypatch.setattr("lightning_lyap.estimator.spectrum.sequences_that_fit", lambda *_: 2)
    with pytest.warns(RuntimeWarning, match="1 of 5"):
        parts = lyapunov_spectrum(module, x)
    assert parts.overlap == whole.overlap == pytest.approx(0.25)
    assert_near(parts.margins, whole.margins, 1e-9)


def test_what_has_not_settled_is_told_once_where_the_call_stands() -> None:
    forgotten = (-torch.arange(100.0) / 30).exp().reshape(1, -1, 1)
    x, start = forgotten + 0.1 * torch.randn(10, 100, 1), torch.ones(10, 1)
    with pytest.warns(RuntimeWarning, match="1 of 1 exponents have not settled") as told:
        estimate = lyapunov_spectrum(lambda x, s: x.exp() * s, x, initial_state=start)
    assert len(told) == 1
    assert told[0].filename == __file__
    assert "growth over the 100 steps counted" in str(told[0].message)
    assert estimate.steps_to_settle >= 100
    assert f"About {estimate.steps_to_settle:.0f} steps would do" in str(told[0].message)


def spectrum(moving: int, **numbers: float) -> MeanSpectrum:
    """A hundred exponents, of which some have not settled."""
    ones = torch.ones(100, dtype=torch.float64)
    return MeanSpectrum(
        exponents=-ones,
        std=ones,
        standard_errors=ones,
        margins=ones,
        resolved=ones > 0,
        settled=torch.arange(100) >= moving,
        rounding_errors=0 * ones,
        num_sequences=10,
        tangent_size=100,
        **{"num_steps": 50.0, "warmup_steps": 50.0, "steps_to_settle": 400.0} | numbers,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(("moving", "told"), [(0, False), (3, False), (4, True)])
def test_no_more_than_chance_finds_is_not_told(moving: int, told: bool) -> None:
    """One in a hundred, and twice its square root."""
    assert (settling_remark(spectrum(moving)) is not None) is told


def test_steps_beyond_measure_are_a_lower_bound() -> None:
    assert "About 400 steps would do" in str(settling_remark(spectrum(50)))
    assert "More than 6400 steps" in str(settling_remark(spectrum(50, steps_to_settle=6400.0)))


def test_files_of_old_say_nothing() -> None:
    assert settling_remark(spectrum(100, num_steps=math.nan, steps_to_settle=math.nan)) is None


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({}, "10 sequences x 50 steps after 50"),
        ({"warmup_steps": 0.0}, "10 sequences x 50 steps"),
        ({"num_steps": 1.0, "warmup_steps": 0.0}, "10 sequences x 1 step"),
        ({"num_steps": math.nan, "warmup_steps": math.nan}, "10 sequences"),
    ],
)
def test_what_was_counted_in_words(numbers: dict[str, float], words: str) -> None:
    assert spectrum(0, **numbers).counted == words


def test_nothing_is_said_of_what_has_settled() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimate = lyapunov_spectrum(
            lambda x, s: x.exp() * s, torch.randn(10, 64, 1), initial_state=torch.ones(10, 1)
        )
    assert settling_remark(estimate) is None


def test_a_single_block_is_said_to_tell_nothing() -> None:
    with pytest.warns(RuntimeWarning, match="Whether 7 of 7 exponents have settled is not known"):
        lyapunov_spectrum(build("gru"), sequences(1, 10), orthonormalize_every=10)


def test_a_metric_tells_of_its_batches_when_it_knows_all() -> None:
    metric = LyapunovSpectrum(orthonormalize_every=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metric.update(build("gru"), sequences(1, 4))
    assert not bool(metric.compute()["settled"].all())
