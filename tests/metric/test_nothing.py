"""Nothing to add: no sequences, sequences that overflow, directions that vanish."""

import math

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import LyapunovSpectrum, lyapunov_spectrum
from lightning_lyap.systems import linear_relu_network
from tests.cells import F64, build, sequences
from tests.metrics import assert_equal, measured


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_without_a_sequence_nothing_is_known() -> None:
    spectrum = LyapunovSpectrum(3, layers="joint").mean_spectrum()
    assert spectrum.num_exponents == 3
    assert bool(spectrum.exponents.isnan().all())
    assert bool(spectrum.std.isnan().all())
    assert not bool(spectrum.resolved.any())
    assert (spectrum.num_sequences, spectrum.tangent_size) == (0, 0)
    assert LyapunovSpectrum().mean_spectrum().num_sequences == 0


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
@pytest.mark.parametrize("num_exponents", [None, 2])
def test_a_metric_without_sequences_merges_as_zero(num_exponents: int | None) -> None:
    module, x = build("gru"), sequences(3)
    full = measured((module, x), num_exponents=num_exponents)
    expected = full.mean_spectrum()
    empty = LyapunovSpectrum(num_exponents)
    empty.merge_state(full)
    full.merge_state(LyapunovSpectrum(num_exponents))
    assert_equal(empty.mean_spectrum(), expected, 0)
    assert_equal(full.mean_spectrum(), expected, 0)


def with_infinite_state(*broken: bool) -> tuple[nn.RNNBase, Tensor, Tensor]:
    module = build("relu")
    initial = torch.zeros(1, len(broken), 7, dtype=F64)
    initial[0, torch.tensor(broken), 0] = math.inf
    return module, sequences(len(broken)), initial


def test_sequences_that_overflow_are_left_out() -> None:
    module, x, initial = with_infinite_state(False, True, False)
    with pytest.warns(RuntimeWarning, match="1 of 3 sequences"):
        metric = measured((module, x, initial))
    assert_equal(metric.mean_spectrum(), lyapunov_spectrum(module, x[[0, 2]]))


def test_a_batch_that_overflows_altogether_changes_nothing() -> None:
    module, x, initial = with_infinite_state(True, True)
    good = sequences(3)
    with pytest.warns(RuntimeWarning, match="2 of 2 sequences"):
        metric = measured((module, x, initial), (module, good))
    assert_equal(metric.mean_spectrum(), lyapunov_spectrum(module, good))


def test_directions_mapped_to_zero_stay_at_minus_infinity() -> None:
    rnn = linear_relu_network(torch.diag(torch.tensor([0.5, 0.0], dtype=F64)))
    x = torch.ones(2, 6, 1, dtype=F64)
    spectrum = measured((rnn, x), (rnn, x)).mean_spectrum()
    assert spectrum.exponents.tolist() == pytest.approx([math.log(0.5), -math.inf])
    assert spectrum.resolved.tolist() == [True, False]
    assert spectrum.std[1].isnan()
