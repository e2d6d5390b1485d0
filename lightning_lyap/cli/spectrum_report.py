"""An estimate in words: exponents with their intervals, statistics, certificate."""

import math
from collections.abc import Mapping
from typing import Any

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
    steps = estimate.steps.tolist()
    span = f"{min(steps)}" if min(steps) == max(steps) else f"{min(steps)} to {max(steps)}"
    chosen = ", ".join(f"{key}={settings[key]}" for key in ("state", "layers", "warmup_steps"))
    rest = max(0, estimate.num_exponents - show)
    scalars = estimate.measures().scalars()
    width = max(map(len, scalars))
    return "\n".join(
        [
            f"{name}: {estimate.num_exponents} of {estimate.tangent_size} exponents, {chosen}, "
            f"{estimate.num_sequences} sequences of {span} steps; nats per step",
            f"{'i':>5}  {'exponent':>9}  95 % interval",
            *(_exponent(estimate, index) for index in range(estimate.num_exponents - rest)),
            *([f"... and {rest} more"] if rest else []),
            *(f"  {key:<{width}}  {x:.6g}" for key, x in scalars.items() if not math.isnan(x)),
            _certificate(estimate),
        ]
    )


def _exponent(estimate: SpectrumEstimate, index: int) -> str:
    """Return the line of an exponent: its number from 1, value, interval, layer."""
    low, high = estimate.intervals[index].tolist()
    interval = "-" if math.isnan(low) else f"[{low:.4f}, {high:.4f}]"
    noise = "" if estimate.resolved[index] else "  lost in rounding noise"
    layer = "" if estimate.layer is None else f"  layer {int(estimate.layer[index])}"
    return f"{index + 1:>5}  {estimate.exponents[index].item():>9.4f}  {interval}{layer}{noise}"


def _certificate(estimate: SpectrumEstimate) -> str:
    """Return the line that says whether the identities hold."""
    certificate = estimate.certificate
    if not certificate.passed:
        return f"certificate: FAILED, {'; '.join(certificate.failures)}"
    held = [f"{name} {check.residual:.1e}" for name, check in certificate.checks.items()]
    return f"certificate: passed ({', '.join(held)})"
