"""Metrics of given batches, the ways to merge them, and what makes two of them equal."""

from collections.abc import Callable
from typing import Any

import torch
from torchmetrics import Metric

from lightning_lyap import LyapunovSpectrum
from lightning_lyap.estimator.result import MeanSpectrum
from lightning_lyap.statistics.batch_means import join_samples

VECTORS = ("exponents", "std", "standard_errors", "margins", "resolved", "rounding_errors")


def measured(*batches: tuple[Any, ...], **settings: Any) -> LyapunovSpectrum:
    metric = LyapunovSpectrum(**settings)
    for batch in batches:
        metric.update(*batch)
    return metric


def assert_equal(got: MeanSpectrum, expected: MeanSpectrum, tolerance: float = 1e-12) -> None:
    for name in VECTORS:
        torch.testing.assert_close(
            getattr(got, name), getattr(expected, name), atol=tolerance, rtol=0, equal_nan=True
        )
    assert got.statistic_errors is not None
    assert expected.statistic_errors is not None
    torch.testing.assert_close(
        got.statistic_errors, expected.statistic_errors, atol=1e-9, rtol=1e-9, equal_nan=True
    )
    assert got.num_sequences == expected.num_sequences
    assert got.tangent_size == expected.tangent_size


def summed(one: LyapunovSpectrum, other: LyapunovSpectrum) -> LyapunovSpectrum:
    """Add the sums by hand."""
    one.samples = join_samples([one.samples, other.samples])
    for name in ("squares", "cross", "weights", "terms", "rounding", "unresolved"):
        setattr(one, name, getattr(one, name) + getattr(other, name))
    return one


def merged(one: LyapunovSpectrum, other: LyapunovSpectrum) -> LyapunovSpectrum:
    one.merge_state(other)
    return one


def merged_by_sums(one: LyapunovSpectrum, other: LyapunovSpectrum) -> LyapunovSpectrum:
    one.merge_state(other.metric_state)
    return one


JOINS = [summed, *([merged, merged_by_sums] if hasattr(Metric, "merge_state") else [])]
Join = Callable[[LyapunovSpectrum, LyapunovSpectrum], LyapunovSpectrum]
