"""An estimate in words: exponents with their intervals, statistics, certificate."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_lyap.estimator.result import SpectrumEstimate


def format_estimate(
    name: str, estimate: SpectrumEstimate, settings: Mapping[str, Any], show: int = 10
) -> str:
    """Set an estimate as plain text.

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
    count = min(show, estimate.num_exponents)
    return "\n".join(
        [
            f"{name}: {estimate.num_exponents} of {estimate.tangent_size} exponents, {chosen}, "
            f"{estimate.num_sequences} sequences of {span} steps; nats per step",
            *_exponents(estimate, count),
            *([f"... and {rest} more"] if (rest := estimate.num_exponents - count) else []),
            *_measures(estimate),
            _certificate(estimate),
        ]
    )


def _exponents(estimate: SpectrumEstimate, count: int) -> list[str]:
    """List the first exponents.

    Args:
        estimate: The spectrum.
        count: How many.

    Returns:
        A line for each.
    """
    lines = [f"{'i':>5}  {'exponent':>9}  95 % interval"]
    rows = zip(estimate.exponents.tolist(), estimate.intervals.tolist(), strict=True)
    for index, (value, (low, high)) in enumerate(list(rows)[:count]):
        interval = "-" if math.isnan(low) else f"[{low:.4f}, {high:.4f}]"
        noise = "" if estimate.resolved[index] else "  lost in rounding noise"
        layer = "" if estimate.layer is None else f"  layer {int(estimate.layer[index])}"
        lines.append(f"{index + 1:>5}  {value:>9.4f}  {interval}{layer}{noise}")
    return lines


def _measures(estimate: SpectrumEstimate) -> list[str]:
    """List the statistics that exist.

    Args:
        estimate: The spectrum.

    Returns:
        A line for each.
    """
    scalars = estimate.measures().scalars()
    width = max(map(len, scalars))
    return [
        f"  {name:<{width}}  {value:.6g}"
        for name, value in scalars.items()
        if not math.isnan(value)
    ]


def _certificate(estimate: SpectrumEstimate) -> str:
    """Say whether the identities hold.

    Args:
        estimate: The spectrum.

    Returns:
        A line.
    """
    certificate = estimate.certificate
    if not certificate.passed:
        return f"certificate: FAILED, {'; '.join(certificate.failures)}"
    held = [f"{name} {check.residual:.1e}" for name, check in certificate.checks.items()]
    return f"certificate: passed ({', '.join(held)})"


def check_output(folder: Path | None) -> None:
    """Refuse an output folder that can't be made.

    Args:
        folder: The folder, or None.

    Raises:
        NotADirectoryError: If it, or a folder above it, is a file.
    """
    if folder is None:
        return
    for place in (folder, *folder.absolute().parents):
        if place.exists():
            if not place.is_dir():
                raise NotADirectoryError(
                    f"Expected `--output` to name a folder, but {place} is a file. Name another."
                )
            return
