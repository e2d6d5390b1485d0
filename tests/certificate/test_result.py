"""The certificate of healthy networks: complete, passed, silent."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from lightning_lyap.certificate import Certificate, Check
from lightning_lyap.certificate.result import worst
from lightning_lyap.dynamics import LayerChoice
from lightning_lyap.estimator.schedule import Interval
from tests.cells import (
    CASES,
    F64,
    INPUT_SIZE,
    LAYERS,
    ONE_OF_EACH,
    Case,
    build,
    random_state,
    sequences,
)
from tests.healthy import ALL, measure


class TestHealthy:
    @pytest.mark.grid(every=5)
    @pytest.mark.parametrize("layers", LAYERS)
    @pytest.mark.parametrize(
        ("case", "every"),
        [
            (case, 1)
            for case in CASES
            if case.num_layers == 2 or (case.bias and case.num_layers != 3)
        ]
        + [(case, every) for case in ONE_OF_EACH for every in (3, "auto")],
        ids=str,
    )
    def test_all_kinds(self, case: Case, every: Interval, layers: LayerChoice) -> None:
        module, x = case.module(), sequences(2, 5)
        settings: dict[str, Any] = {
            "state": case.state,
            "layers": layers,
            "orthonormalize_every": every,
            "initial_state": random_state(module, 2),
        }
        whole = measure(module, x, **settings)
        if case.kind == "relu":  # dead units have no volume
            assert set(whole.checks) >= ALL - {"sum_rule"}
        elif every == 1:  # longer blocks may spread over half of the digits
            assert set(whole.checks) == ALL
        part = measure(module, x, num_exponents=1, **settings)
        assert set(part.checks) == ALL - {"sum_rule"}
        assert part.sum_rule is None

    @pytest.mark.grid(every=3)
    @pytest.mark.parametrize("layers", LAYERS)
    @pytest.mark.parametrize("case", ONE_OF_EACH, ids=str)
    def test_float32(self, case: Case, layers: LayerChoice) -> None:
        module, x = case.module().float(), sequences(3, 20, torch.float32)
        certificate = measure(module, x, state=case.state, layers=layers)
        assert set(certificate.checks) >= ALL - {"sum_rule"}
        if case.kind in ("tanh", "gru"):
            assert certificate.sum_rule is not None
        mixed = measure(module, x, state=case.state, layers=layers, dtype=F64)
        assert mixed.states is not None
        assert mixed.states.bound > 1e-5  # that of the coarser type

    @pytest.mark.parametrize("lengths", [[8, 8, 8], [8, 3, 5]])
    def test_lengths_and_warmup(self, lengths: list[int]) -> None:
        certificate = measure(
            build("gru", num_layers=2), sequences(3, 9), lengths=lengths, warmup_steps=2
        )
        assert set(certificate.checks) == ALL
        assert certificate.num_factorizations == 6

    @pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
    @pytest.mark.parametrize("layers", LAYERS)
    def test_cells(self, kind: Any, layers: LayerChoice) -> None:
        cell, x = kind(INPUT_SIZE, 6).double(), sequences(2, 9)
        assert set(measure(cell, x, layers=layers).checks) == ALL
        start = torch.randn(2, 6, dtype=F64)
        state = (start, -start) if kind is nn.LSTMCell else start
        assert set(measure(cell, x, layers=layers, initial_state=state).checks) == ALL

    def test_step_functions_are_done_again_and_alone(self) -> None:
        certificate = measure(
            lambda x, s: torch.tanh(x + s),
            sequences(2, 8),
            initial_state=torch.zeros(2, 3).double(),
        )
        assert set(certificate.checks) == ALL - {"sum_rule"} | {"precision"}

    def test_what_else_it_tells(self) -> None:
        certificate = measure(build("gru"), sequences(2, 20), orthonormalize_every=7)
        assert certificate.num_factorizations == 3
        assert certificate.num_redone == 0
        assert certificate.rounding_error is not None
        assert 0 < certificate.rounding_error < 1e-6

    def test_no_resolved_exponent_has_no_rounding_error(self) -> None:
        zeros = torch.zeros(1, 2, dtype=F64)
        certificate = measure(
            lambda x, s: 0 * s, torch.zeros(1, 4, 0).double(), initial_state=zeros
        )
        assert certificate.rounding_error is None


class TestCheck:
    @pytest.mark.parametrize(
        ("residual", "passed"), [(0.0, True), (1.0, True), (1.1, False), (math.inf, False)]
    )
    def test_passes_up_to_its_bound(self, residual: float, passed: bool) -> None:
        assert Check(residual, 1.0).passed is passed
        assert Check(residual, 2.0).severity == residual / 2

    def test_nan_fails_and_is_the_worst(self) -> None:
        assert not Check(math.nan, 1.0).passed
        assert Check(math.nan, 1.0).severity == math.inf
        found = worst([Check(5.0, 1.0), Check(math.nan, 1.0)])
        assert found is not None
        assert math.isnan(found.residual)

    def test_worst_is_relative_to_the_bounds(self) -> None:
        assert worst([Check(5.0, 10.0), None, Check(0.1, 0.1)]) == Check(0.1, 0.1)
        assert worst([]) is None
        assert worst([None, None]) is None


def test_certificate_lists_the_checks_that_were_made_and_failed() -> None:
    certificate = Certificate(sum_rule=Check(1.0, 2.0), states=Check(0.3, 1e-4))
    assert certificate.checks == {"sum_rule": Check(1.0, 2.0), "states": Check(0.3, 1e-4)}
    assert certificate.failures == ("states is off by 0.3, rounding explains 0.0001",)
    assert not certificate.passed
    every: dict[str, Any] = dict.fromkeys(ALL, Check(0.0, 1.0))
    assert set(Certificate(**every).checks) == ALL
    assert Certificate(**every).passed


def test_certificate_claims_nothing_that_it_does_not_know() -> None:
    """Neither where nothing was checked, nor where nothing is left to be right."""
    assert Certificate().checks == {}
    assert Certificate().failures == ("nothing was checked",)
    sound = Certificate(states=Check(0.0, 1.0), num_sequences=3)
    assert sound.passed
    lost = replace(sound, num_sequences=0)
    assert lost.failures == ("no sequence stayed finite",)
    assert not lost.passed


def test_failure_says_what_it_may_come_from() -> None:
    certificate = Certificate(states=Check(1.0, 1e-4, "turn it around"))
    assert certificate.failures == (
        "states is off by 1, rounding explains 0.0001 (turn it around)",
    )
