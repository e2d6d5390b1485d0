"""Measures healthy networks, and sees that their certificates pass and nothing warns."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from lightning_lyap.certificate import Certificate
from lightning_lyap.estimator.remarks import SETTLING
from tests.plain import plain_spectrum

# Of torch's modules; of step functions also `precision`, and no sum rule.
ALL = {"sum_rule", "tangent_map", "states", "orthogonality"}


@contextmanager
def silence() -> Iterator[None]:
    """Fail on any warning of this package's, but for steps too few to settle in."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.filterwarnings("ignore", SETTLING)
        yield


def measure(module: Any, x: Tensor, **settings: Any) -> Certificate:
    """Measure a healthy network: no warning, all checks passed."""
    with silence():
        certificate = plain_spectrum(module, x, **settings).certificate
    assert certificate.passed, certificate.failures
    return certificate
