"""Histories made up for tests, and what it means that two are the same."""

import math

import torch
from torch import Tensor

from lightning_lyap import SpectrumHistory
from lightning_lyap.estimator.result import NUMBERS, VECTORS, MeanSpectrum
from lightning_lyap.statistics.measures import OF_THE_WHOLE

F64 = torch.float64


SETTINGS = {"state": "hidden", "num_sequences": 10, "dtype": None, "module": "rnn — λ"}


def spectrum(
    size: int = 4, seed: int = 0, tangent_size: int = 6, num_sequences: int = 3
) -> MeanSpectrum:
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(3, size, generator=generator, dtype=F64)
    exponents = draw[0].sort(descending=True).values
    exponents[-1] = -math.inf
    return MeanSpectrum(
        exponents=exponents,
        std=draw[1].abs(),
        standard_errors=torch.where(exponents.isfinite(), draw[2].abs(), math.nan),
        margins=torch.where(exponents.isfinite(), 2.5 * draw[2].abs(), math.nan),
        resolved=exponents.isfinite(),
        settled=exponents < 0,
        rounding_errors=draw[2].abs() / 100,
        num_sequences=num_sequences,
        tangent_size=tangent_size,
        num_steps=50.0,
        warmup_steps=50.0,
        overlap=0.125,
        statistic_errors=torch.rand(len(OF_THE_WHOLE), 2, generator=generator, dtype=F64),
    )


def filled(length: int = 3, size: int = 4) -> SpectrumHistory:
    history = SpectrumHistory(SETTINGS)
    for i in range(length):
        history.append(i / 3, 10 * i, spectrum(size, i, num_sequences=3 + i), 0.1 + i)
    history.record_failure(1 / 3, 7, "ValueError: NaN, \"quoted\" and 'so' → on")
    return history


def assert_bitwise(got: Tensor, expected: Tensor) -> None:
    assert got.dtype == expected.dtype
    assert got.numpy().tobytes() == expected.numpy().tobytes()


def assert_same(got: SpectrumHistory, expected: SpectrumHistory) -> None:
    assert len(got) == len(expected)
    for one, other in zip(got.spectra, expected.spectra, strict=True):
        for name in VECTORS:
            assert_bitwise(getattr(one, name), getattr(other, name))
        assert one.statistic_errors is not None
        assert other.statistic_errors is not None  # NaN where not known
        assert_bitwise(one.statistic_errors, other.statistic_errors)
        numbers = [[getattr(each, name) for name in NUMBERS] for each in (one, other)]
        assert_bitwise(*torch.tensor(numbers))
        assert (one.num_sequences, one.tangent_size) == (other.num_sequences, other.tangent_size)
        assert isinstance(one.num_sequences, int)
        assert isinstance(one.tangent_size, int)
    for name in ("epochs", "steps", "seconds", "failures", "settings"):
        assert getattr(got, name) == getattr(expected, name)
        assert type(getattr(got, name)) is type(getattr(expected, name))
