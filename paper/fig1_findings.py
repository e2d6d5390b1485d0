"""What Fig. 1 says of the paper and of mean-field theory, by the rules in `paper.fig1`."""

import math
from collections.abc import Sequence

from paper.claims import Verdict
from paper.command import Finding
from paper.driven import predicted_mean_exponent
from paper.readings import READINGS, VALUES, read_as
from paper.regimes import FORGOTTEN, NEAR, Mean, Regime, Regimes

NARROW = 0.1  # of the gain
IN_ORDER: tuple[Regime, ...] = ("stable", "marginal", "chaotic")


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
