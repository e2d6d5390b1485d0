"""An estimate in words: exponents and statistics with their intervals, what limits them."""

import math
from collections.abc import Mapping
from textwrap import indent
from typing import Any

from lightning_lyap.estimator.remarks import overlap_remark, settling_remark
from lightning_lyap.estimator.result import SpectrumEstimate


def format_estimate(
    name: str, estimate: SpectrumEstimate, settings: Mapping[str, Any], show: int = 10
) -> str:
    """Return an estimate as plain text.

    Args:
        name: The module's name.
        estimate: Its spectrum.
        settings: How it was measured.
        show: How many exponents to list.

    Returns:
        Lines.
    """
    steps = estimate.steps[estimate.valid & estimate.distinct].tolist()
    lengths = f" ({min(steps)} to {max(steps)})" if steps and min(steps) < max(steps) else ""
    chosen = ", ".join(f"{key}={settings[key]}" for key in ("state", "layers"))
    rest = max(0, estimate.num_exponents - show)
    remarks = (overlap_remark(estimate), settling_remark(estimate))
    return "\n".join(
        [
            f"{name}: {estimate.num_exponents} of {estimate.tangent_size} exponents, {chosen}, "
            f"{estimate.counted}{lengths}; nats per step",
            f"{'i':>5}  {'exponent':>9}  95 % interval",
            *(_exponent(estimate, index) for index in range(estimate.num_exponents - rest)),
            *([f"... and {rest} more"] if rest else []),
            indent(str(estimate.measures()), "  "),
            *filter(None, remarks),
            _certificate(estimate),
        ]
    )


def _exponent(estimate: SpectrumEstimate, index: int) -> str:
    """Return the line of an exponent: its number from 1, value, interval, layer."""
    low, high = estimate.intervals[index].tolist()
    interval = "-" if math.isnan(low) else f"[{low:.4f}, {high:.4f}]"
    marks = "" if estimate.settled[index] else "  not settled"
    noise = marks if estimate.resolved[index] else "  lost in rounding noise"
    layer = "" if estimate.layer is None else f"  layer {int(estimate.layer[index])}"
    return f"{index + 1:>5}  {estimate.exponents[index].item():>9.4f}  {interval}{layer}{noise}"


def _certificate(estimate: SpectrumEstimate) -> str:
    """Return the line that says whether the identities hold."""
    certificate = estimate.certificate
    if not certificate.passed:
        return f"certificate: FAILED, {'; '.join(certificate.failures)}"
    held = [f"{name} {check.residual:.1e}" for name, check in certificate.checks.items()]
    return f"certificate: passed ({', '.join(held)})"
