"""Sequences that can't be measured are left out and counted; the others' spectrum is as it was."""

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from lightning_lyap import LyapunovSpectrumCallback, SpectrumEstimate, lyapunov_spectrum
from lightning_lyap.estimator.remarks import SETTLING
from tests.cells import F64, KINDS, build, random_state, sequences
from tests.compare import assert_near
from tests.exposing import faults_in
from tests.networks import Predictor, fit

OTHERS = torch.tensor([True, False, True, True])


def measured(module: Any, x: Tensor, match: str, **settings: Any) -> SpectrumEstimate:
    with pytest.warns(RuntimeWarning, match=match) as record:
        estimate = lyapunov_spectrum(module, x, **settings)
    assert len(faults_in(record)) == 1
    return estimate


def assert_only_others(estimate: SpectrumEstimate, expected: SpectrumEstimate) -> None:
    assert estimate.valid.tolist() == OTHERS.tolist()
    assert estimate.num_sequences == 3
    assert estimate.certificate.passed
    assert estimate.certificate.checks.keys() == expected.certificate.checks.keys()
    assert bool(estimate.per_sequence[1].isnan().all())
    known = expected.exponents.isfinite()  # dead units have none
    assert torch.equal(estimate.exponents.isfinite(), known)
    assert_near(estimate.exponents[known], expected.exponents[known], 1e-9)
    assert_near(estimate.standard_errors[known], expected.standard_errors[known], 1e-9)


@pytest.mark.grid(every=3)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(("kind", "state"), KINDS)
def test_inputs_that_are_not_finite(kind: str, state: Any, bad: float) -> None:
    module, x = build(kind, num_layers=2), sequences(4)
    start = random_state(module, 4)
    x[1, 3, 0] = bad
    match = "1 of 4 sequences are left out of the spectrum: 1 with inputs that are not finite"
    estimate = measured(module, x, match, state=state, initial_state=start)
    rows = (start,) if isinstance(start, Tensor) else start
    own = tuple(part[:, OTHERS] for part in rows)
    own_start: Any = own if len(own) > 1 else own[0]
    expected = lyapunov_spectrum(module, x[OTHERS], state=state, initial_state=own_start)
    assert_only_others(estimate, expected)


@pytest.mark.parametrize("settings", [{}, {"orthonormalize_every": 2}, {"num_exponents": 2}])
def test_sequences_no_longer_than_the_warmup(settings: dict[str, Any]) -> None:
    module, x = build("gru"), sequences(4)
    settings = settings | {"warmup_steps": 3}
    match = "1 of 4 sequences are left out of the spectrum: 1 no longer than the warm-up"
    estimate = measured(module, x, match, lengths=[12, 3, 12, 9], **settings)
    expected = lyapunov_spectrum(module, x[OTHERS], lengths=[12, 12, 9], **settings)
    assert_only_others(estimate, expected)
    assert estimate.steps.tolist() == [9, 0, 9, 6]


def test_automatic_intervals() -> None:
    """A lost sequence lets them begin with a single step: then they agree to their tolerance."""
    module, x = build("tanh"), sequences(4, 60)
    x[1, 3, 0] = math.nan
    settings: dict[str, Any] = {"orthonormalize_every": "auto", "num_exponents": 2}
    estimate = measured(module, x, "1 with inputs that are not finite", **settings)
    expected = lyapunov_spectrum(module, x[OTHERS], **settings)
    assert estimate.valid.tolist() == OTHERS.tolist()
    assert_near(estimate.exponents, expected.exponents, 1e-5)


def test_chunks_of_time() -> None:
    module, x = build("lstm"), sequences(4, 200)
    x[1, 150] = math.nan
    settings: dict[str, Any] = {"time_chunks": 4, "num_exponents": 1}
    estimate = measured(module, x, "1 with inputs that are not finite", **settings)
    expected = lyapunov_spectrum(module, x[OTHERS], **settings)
    assert estimate.valid.tolist() == OTHERS.tolist()
    assert_near(estimate.exponents, expected.exponents, 1e-6)


def test_step_that_swallows_what_is_not_a_number() -> None:
    """It makes finite numbers of NaN: it is left out all the same."""
    x = torch.randn(4, 12, 2, dtype=F64)
    x[1, 5] = math.nan

    def step(x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(0.5 * torch.nan_to_num(h) + torch.nan_to_num(x))

    estimate = measured(step, x, "1 with inputs", initial_state=torch.zeros(4, 2, dtype=F64))
    assert estimate.valid.tolist() == OTHERS.tolist()


def test_reasons_are_told_apart_in_one_warning() -> None:
    module, x = build("tanh"), sequences(5)
    x[0, 0], x[1, 8] = math.nan, math.nan  # the second one's is padding
    with pytest.warns(RuntimeWarning) as record:
        estimate = lyapunov_spectrum(module, x, lengths=[12, 8, 2, 1, 12], warmup_steps=2)
    (said,) = (str(w.message) for w in record)
    assert "3 of 5 sequences are left out of the spectrum" in said
    assert "1 with inputs that are not finite, 2 no longer than the warm-up" in said
    assert estimate.valid.tolist() == [False, True, False, False, True]


def test_nothing_left_is_refused() -> None:
    x = sequences(2)
    with pytest.raises(ValueError, match="more than the 12 steps of `warmup_steps`"):
        lyapunov_spectrum(build("gru"), x, warmup_steps=12)
    x[:, 3] = math.nan
    with pytest.raises(ValueError, match="Expected finite `inputs`"):
        lyapunov_spectrum(build("gru"), x)


def test_padding_is_never_read() -> None:
    module, x = build("gru"), sequences(2)
    x[1, 6:] = math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", SETTLING)
        assert bool(lyapunov_spectrum(module, x, lengths=[12, 6]).valid.all())


class Packs(Predictor):
    """Runs on packed sequences, one of them of two steps."""

    def forward(self, inputs: Tensor) -> Tensor:
        lengths = torch.full((len(inputs),), inputs.shape[1])
        lengths[0] = 2
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        own: nn.RNNBase = self.rnn
        states = nn.utils.rnn.pad_packed_sequence(own(packed)[0], batch_first=True)[0]
        out: Tensor = self.read_out(states)
        return out


def test_short_sequence_costs_the_callback_nothing_but_itself(tmp_path: Path) -> None:
    callback = LyapunovSpectrumCallback(num_sequences=4, num_steps=8, warmup_steps=3)
    with pytest.warns(UserWarning, match="1 of the sequences of 'rnn' are left out") as record:
        fit(tmp_path, callback, network=Packs)
    assert len([w for w in record if "are left out" in str(w.message)]) == 1
    history = callback.histories["rnn"]
    assert {spectrum.num_sequences for spectrum in history.spectra} == {3}
    assert history.failures == []
