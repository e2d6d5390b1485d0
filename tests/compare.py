"""Comparing tensors with an absolute tolerance alone."""

from typing import Any

import torch


def assert_near(got: Any, expected: Any, tolerance: float = 1e-10) -> None:
    """Fail unless both are equal to an absolute tolerance: same shapes, types and infinities."""
    torch.testing.assert_close(got, expected, atol=tolerance, rtol=0)
