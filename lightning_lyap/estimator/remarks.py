"""What users should know of a spectrum, in a sentence each; nothing where all is well."""

import math
import sys
import warnings
from pathlib import Path

from lightning_lyap.estimator.result import MeanSpectrum, SpectrumEstimate
from lightning_lyap.statistics.stationarity import FACTORS, PROBABILITY

# What the sentences match, for those who say them in another way.
SETTLING = r".* exponents have (not )?settled"
OVERLAPPING = r".* sequences (repeat others|have .* of their steps in common)"

# Overlaps that make variances larger by less are not worth a warning.
UNHEARD = 0.05
# Part of the exponents that `drift` takes for unsettled by chance.
FALSE_ALARMS = 2 * (1 - PROBABILITY)
PACKAGE = str(Path(__file__).parents[1])


def warn_user(message: str) -> None:
    """Warn where the package was called.

    Args:
        message: What to say.

    Warns:
        RuntimeWarning: Always.
    """
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _is_inside(frame.f_code.co_filename):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, RuntimeWarning, stacklevel=level)


def _is_inside(path: str) -> bool:
    """Return whether a file is one of the package, or of what torch wraps its functions in."""
    return path.startswith(PACKAGE) or path.endswith("_contextlib.py")


def overlap_remark(estimate: SpectrumEstimate) -> str | None:
    """Say that sequences repeat each other, or overlap.

    Args:
        estimate: The estimate.

    Returns:
        A sentence or two, or None.
    """
    repeated, total = int((estimate.valid & ~estimate.distinct).sum()), int(estimate.valid.sum())
    said = []
    if repeated:
        said.append(
            f"{repeated} of {total} sequences repeat others, from the same state on the same "
            "inputs, and count no more than these"
        )
    if (estimate.num_sequences - 1) * estimate.overlap > UNHEARD:
        said.append(
            f"two sequences have {100 * estimate.overlap:.2g} % of their steps in common, on "
            "average, and all errors are wider for that"
        )
    if not said:
        return None
    words = "; ".join(said)
    return f"{words[0].upper()}{words[1:]}. Take sequences that are other ones, or start elsewhere."


def settling_remark(spectrum: MeanSpectrum) -> str | None:
    """Say that exponents have not settled, and how many steps would do.

    Args:
        spectrum: The spectrum.

    Returns:
        A sentence or two, or None: also if they are no more than chance alone finds.
    """
    resolved = int(spectrum.resolved.sum())
    moving = int((spectrum.resolved & ~spectrum.settled).sum())
    if not moving or math.isnan(spectrum.num_steps):
        return None
    by_chance = FALSE_ALARMS * resolved
    if not math.isnan(spectrum.steps_to_settle) and moving <= by_chance + 2 * by_chance**0.5:
        return None
    steps = f"{spectrum.num_steps:g} step" + ("s" if spectrum.num_steps != 1 else "")
    if math.isnan(spectrum.steps_to_settle):
        return (
            f"Whether {moving} of {resolved} exponents have settled is not known: the {steps} "
            "counted are a single block. Their values are growth over these; take more steps."
        )
    most = max(FACTORS) * (spectrum.num_steps + spectrum.warmup_steps)
    about = "About" if spectrum.steps_to_settle < most else "More than"
    return (
        f"{moving} of {resolved} exponents have not settled: they are growth over the {steps} "
        "counted, on its way to the exponents, and their intervals do not cover these. "
        f"{about} {spectrum.steps_to_settle:.0f} steps would do, half of them as `warmup_steps`."
    )
