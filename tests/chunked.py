"""Runs in chunks of time beside plain ones."""

from typing import Any

import torch
from torch import Tensor, nn

from lightning_lyap import SpectrumEstimate
from tests.cells import INPUT_SIZE
from tests.compare import assert_near
from tests.plain import plain_spectrum

F64 = torch.float64
TENSORS = (
    "exponents",
    "std",
    "standard_errors",
    "margins",
    "resolved",
    "per_sequence",
    "valid",
    "steps",
    "order",
    "final_basis",
    "block_ends",
    "log_stretches",
)


def both(
    dynamics: Any, inputs: Tensor, time_chunks: int, **settings: Any
) -> tuple[SpectrumEstimate, SpectrumEstimate]:
    """Run in chunks, and plainly."""
    settings = {"keep_log_stretches": True} | settings
    chunked = plain_spectrum(dynamics, inputs, time_chunks=time_chunks, **settings)
    plain = plain_spectrum(dynamics, inputs, **settings)
    assert plain.chunks is None
    assert chunked.chunks is not None
    return chunked, plain


def assert_same(chunked: SpectrumEstimate, plain: SpectrumEstimate, tolerance: float) -> None:
    for name in TENSORS:
        got, expected = getattr(chunked, name), getattr(plain, name)
        assert torch.equal(got.isnan(), expected.isnan()), name
        assert_near(got.nan_to_num(0.0), expected.nan_to_num(0.0), tolerance)
    # An error of a stretch is a matter of the condition of the basis: half of it tells nothing.
    torch.testing.assert_close(chunked.rounding_errors, plain.rounding_errors, rtol=0.5, atol=1e-12)
    assert chunked.num_sequences == plain.num_sequences
    assert (chunked.layer is None) == (plain.layer is None)
    own = (chunked.certificate, plain.certificate)
    assert all(certificate.passed for certificate in own)
    assert own[0].checks.keys() == own[1].checks.keys()
    assert own[0].num_factorizations == own[1].num_factorizations
    for got, expected in zip(_states(chunked), _states(plain), strict=True):
        assert torch.equal(got, expected)


def _states(estimate: SpectrumEstimate) -> tuple[Tensor, ...]:
    state = estimate.final_state
    return state if isinstance(state, tuple) else (state,)


def driving(batch: int, steps: int, dtype: torch.dtype = F64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, steps, INPUT_SIZE, generator=generator, dtype=dtype)


def gapped() -> nn.RNN:
    """Exponents near the logarithms of 0.9, 0.45, 0.2 and 0.1."""
    generator = torch.Generator().manual_seed(2)
    q = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=F64)).Q
    rnn = nn.RNN(INPUT_SIZE, 4, bias=False, batch_first=True, dtype=F64)
    rnn.weight_hh_l0.data = q @ torch.diag(torch.tensor([0.9, 0.45, -0.2, 0.1]).double()) @ q.T
    rnn.weight_ih_l0.data = torch.randn(4, INPUT_SIZE, generator=generator, dtype=F64) / 4
    return rnn
