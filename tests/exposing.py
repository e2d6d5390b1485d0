"""Measures what has a fault, and sees that the certificate names it."""

from typing import Any

import pytest
from torch import Tensor

from lightning_lyap import SpectrumEstimate
from tests.plain import plain_spectrum

FAULTY = "The Lyapunov spectrum fails its certificate"


def names(estimate: SpectrumEstimate) -> set[str]:
    return {failure.split()[0] for failure in estimate.certificate.failures}


def expose(module: Any, x: Tensor, *expected: str, **settings: Any) -> SpectrumEstimate:
    """Measure a network with a fault that must be found by certain checks."""
    with pytest.warns(RuntimeWarning, match=FAULTY) as record:
        estimate = plain_spectrum(module, x, **settings)
    assert not estimate.certificate.passed
    assert names(estimate) >= set(expected), estimate.certificate.failures
    (warning,) = (w for w in record if w.category is RuntimeWarning)
    assert all(name in str(warning.message) for name in names(estimate))
    assert warning.filename == __file__
    return estimate
