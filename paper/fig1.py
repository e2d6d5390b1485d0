"""Fig. 1: three regimes of a driven vanilla RNN, told apart by the largest exponent.

``python -m paper.fig1 [scale=paper]``; nothing is trained. V = g O with O orthogonal (Haar). An
orthogonal V has the largest exponent of a Gaussian one, ``log(g^2 E sech^4(sqrt(q) z)) / 2`` as N
goes to infinity: O turns a tangent vector into a random direction whatever the singular values of
the V before it, so that only their mean square, g^2, and that of the slopes count.

Rules, fixed before the results. Intervals are Student's 95 % over draws of V, each with drives of
its own. A regime is marginal if the interval of the largest exponent lies within 0.02 nats per step
of zero (a perturbation keeps its size within a factor e for 50 steps), stable if it lies below
that, chaotic if above, else undecided. The marginal gain is the mean of the draws' roots. Theory is
for infinite N, so it is compared with 2 g(N) - g(N/2), what is left if deviations go like 1/N: yes
if the interval holds the theory's gain and is no wider than a tenth of it. Initial states are
forgotten if in the last quarter of the steps the variance of a unit over ten of them is less than
5 % of that between different drives.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig

from lightning_lyap.systems import mean_field_exponent
from paper.claims import Verdict
from paper.command import Figure, Finding, Result, main
from paper.driven import DRIVE_VARIANCE, predicted_mean_exponent
from paper.fig1_panels import draw
from paper.records import Record
from paper.regimes import FORGOTTEN, NEAR, Mean, Regime, Regimes, measure

NARROW = 0.1  # of the gain
VALUES = (1 / 500, 100.0, 500.0)  # sigma_V^2 of (a), (b), (c) in the caption
IN_ORDER: tuple[Regime, ...] = ("stable", "marginal", "chaotic")
# What the caption's variances may be: the gain by value and N.
READINGS: dict[str, Callable[[float, int], float]] = {
    "the variance of V's entries": lambda value, size: math.sqrt(size * value),
    "the variance of V's entries, 1/500 being left out of 100 and 500": lambda value, size: (
        math.sqrt(size * (value / 500 if value > 1 else value))
    ),
    "the square of the gain": lambda value, size: math.sqrt(value),
    "the gain": lambda value, size: value,
    "the standard deviation of V's entries": lambda value, size: math.sqrt(size) * value,
    "the sum of the squares of V's entries": lambda value, size: math.sqrt(value / size),
}


def make(records: Sequence[Record], cfg: DictConfig) -> Result:
    """Make Fig. 1.

    Args:
        records: None are needed.
        cfg: Settings of the command.

    Returns:
        The figure.

    Raises:
        ValueError: If no gain between the stable and the chaotic one is marginal.
    """
    chosen = cfg.scale.gains
    read = {gain for name in READINGS for gain in read_as(name, chosen.size)}
    seen = measure(chosen, [*chosen.curve, *read])
    scale = f"{cfg.scale.name}, {seen.size} units, nothing trained"
    found = [replace(finding, scale=scale) for finding in findings(seen)]
    return Result(draw(seen, chosen.curve), table(seen), found)


def read_as(name: str, size: int) -> tuple[float, ...]:
    """Turn the caption's values into gains.

    Args:
        name: Of the reading.
        size: N.

    Returns:
        Gains of (a), (b) and (c).
    """
    return tuple(READINGS[name](value, size) for value in VALUES)


def table(seen: Regimes) -> list[dict[str, Any]]:
    """List all exponents.

    Args:
        seen: What was measured.

    Returns:
        The largest one at every gain, with its interval over draws, then the complete spectra.
    """
    rows: list[dict[str, Any]] = [
        {
            "gain": gain,
            "index": 1,
            "exponent": mean.value,
            "low": mean.low,
            "high": mean.high,
            "regime": mean.regime,
            "mean_field": mean_field_exponent(gain, DRIVE_VARIANCE),
        }
        for gain, mean in seen.largest.items()
    ]
    for name, one in seen.examples.items():
        spectrum = one.spectrum
        ends = spectrum.intervals.tolist()
        rows += [
            {
                "gain": one.gain,
                "index": i + 1,
                "exponent": value,
                "low": ends[i][0],
                "high": ends[i][1],
                "regime": f"spectrum of the {name} one",
                "mean_field": "",
            }
            for i, value in enumerate(spectrum.exponents.tolist())
        ]
    return rows


def findings(seen: Regimes) -> list[Finding]:
    """Test what the caption and Section 3 say, and mean-field theory.

    Args:
        seen: What was measured.

    Returns:
        Findings.
    """
    return [
        three_regimes(seen),
        *(forgetting(seen, panel, name) for panel, name in zip("abc", IN_ORDER, strict=True)),
        *(reading(seen, name) for name in READINGS),
        marginal_gain(seen),
        mean_exponents(seen),
    ]


def three_regimes(seen: Regimes) -> Finding:
    """Test whether the three regimes are there.

    Args:
        seen: What was measured.

    Returns:
        The finding.
    """
    found = [seen.largest[one.gain] for one in seen.examples.values()]
    said = ", ".join(
        f"{mean:.3f} at gain {one.gain:.4g}"
        for mean, one in zip(found, seen.examples.values(), strict=True)
    )
    return Finding(
        "Fig. 1",
        "An orthogonal V gives stability, marginal stability or chaos by its variance, told by the "
        "sign of the largest exponent.",
        f"largest exponent {said} (mean and 95 % interval over {seen.draws} draws of V of "
        f"{seen.size} units; the marginal gain was found on other draws)",
        in_order([mean.regime for mean in found]),
    )


def in_order(regimes: Sequence[Regime]) -> Verdict:
    """Judge whether regimes are stable, marginal, chaotic.

    Args:
        regimes: Three.

    Returns:
        No if one is known to be another, undecided if one is not known.

    Example:
        >>> in_order(["stable", "chaotic", "undecided"])
        'no'
    """
    pairs = list(zip(regimes, IN_ORDER, strict=True))
    if any(found not in (wanted, "undecided") for found, wanted in pairs):
        return "no"
    return "undecided" if "undecided" in regimes else "yes"


def forgetting(seen: Regimes, panel: str, name: str) -> Finding:
    """Test whether activity forgets its initial state, as it does unless it is chaotic.

    Args:
        seen: What was measured.
        panel: Its letter.
        name: Of the regime.

    Returns:
        The finding.
    """
    left = seen.examples[name].unforgotten
    steps = seen.examples[name].activity.shape[-1]
    late = f"steps {steps - steps // 4 + 1} to {steps}"
    kept = name == "chaotic"
    return Finding(
        f"Fig. 1{panel}",
        f"{name.capitalize()} activity {'depends on' if kept else 'forgets'} its initial state.",
        f"variance over 10 initial states is {left:.2g} of that between drives in {late} (mean and "
        f"95 % interval over {seen.draws} draws of V)",
        above(left, FORGOTTEN) if kept else below(left, FORGOTTEN),
    )


def below(mean: Mean, bound: float) -> Verdict:
    """Judge whether a mean lies below a bound.

    Args:
        mean: The mean.
        bound: The bound.

    Returns:
        Yes or no if its interval excludes the bound, else undecided.

    Example:
        >>> below(Mean(0.1, 0.0, 0.2), 0.3)
        'yes'
    """
    return "yes" if mean.high < bound else "no" if mean.low > bound else "undecided"


def above(mean: Mean, bound: float) -> Verdict:
    """Judge whether a mean lies above a bound; see `below`.

    Args:
        mean: The mean.
        bound: The bound.

    Returns:
        The verdict.

    Example:
        >>> above(Mean(0.1, 0.0, 0.2), 0.15)
        'undecided'
    """
    return "yes" if mean.low > bound else "no" if mean.high < bound else "undecided"


def reading(seen: Regimes, name: str) -> Finding:
    """Test whether the caption's variances give its regimes, if they are read in a certain way.

    Args:
        seen: What was measured.
        name: Of the reading.

    Returns:
        The finding.
    """
    gains = read_as(name, seen.size)
    found = [seen.largest[gain] for gain in gains]
    said = ", ".join(
        f"{mean.regime} ({mean.value:.3g} at gain {gain:.4g})"
        for mean, gain in zip(found, gains, strict=True)
    )
    return Finding(
        "Fig. 1 (caption)",
        f"Variances 1/500, 100, 500 give stability, marginal stability, chaos, read as {name}.",
        f"{said}, with {seen.size} units",
        in_order([mean.regime for mean in found]),
    )


def marginal_gain(seen: Regimes) -> Finding:
    """Compare the marginal gain with mean-field theory.

    Args:
        seen: What was measured.

    Returns:
        The finding.
    """
    factor = seen.predicted**2 / VALUES[1]
    return Finding(
        "Fig. 1 (beyond)",
        "The marginal gain is that of mean-field theory as N goes to infinity.",
        f"theory {seen.predicted:.4f}; found {seen.marginal:.4f} with {seen.size} units, "
        f"{seen.marginal.value - seen.predicted:+.4f} from theory, and {seen.limit:.4f} with what "
        f"goes like 1/N removed by {seen.size // 2} units (mean and 95 % interval over "
        f"{seen.draws} draws of V). The caption's 100 is marginal if g^2 is {factor:.3f} of it, so "
        f"as the sum of the squares of V's entries, with about {1 / factor:.0f} units",
        agrees(seen.limit, seen.predicted),
    )


def agrees(mean: Mean, predicted: float) -> Verdict:
    """Judge whether a mean is the predicted one.

    Args:
        mean: The mean.
        predicted: The prediction.

    Returns:
        No if its interval excludes the prediction, undecided if it is wider than a tenth of it.

    Example:
        >>> agrees(Mean(2.0, 1.99, 2.01), 2.02)
        'no'
    """
    if not mean.low <= predicted <= mean.high:
        return "no" if math.isfinite(mean.high - mean.low) else "undecided"
    return "yes" if mean.high - mean.low <= NARROW * predicted else "undecided"


def mean_exponents(seen: Regimes) -> Finding:
    """Compare the means of the complete spectra with mean-field theory.

    Args:
        seen: What was measured.

    Returns:
        The finding.
    """
    pairs = [
        (float(one.spectrum.exponents.mean()), predicted_mean_exponent(one.gain))
        for one in seen.examples.values()
    ]
    said = ", ".join(f"{value:.3f} ({predicted:.3f})" for value, predicted in pairs)
    near = all(abs(value - predicted) <= NEAR for value, predicted in pairs)
    return Finding(
        "Fig. 1 (beyond)",
        "The mean exponent is log g + E log sech^2(sqrt(q) z), that of mean-field theory for an "
        f"orthogonal V, within {NEAR} nats per step.",
        f"mean exponent (and theory) of the three regimes: {said}",
        "yes" if near else "no",
    )


FIGURE = Figure("fig1", lambda cfg: [], make)

if __name__ == "__main__":
    main(FIGURE)
