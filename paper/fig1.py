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

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig

from lightning_lyap.systems import mean_field_exponent
from paper.command import Figure, Result, main
from paper.driven import DRIVE_VARIANCE
from paper.fig1_findings import findings
from paper.fig1_panels import draw
from paper.readings import READINGS, read_as
from paper.records import Record
from paper.regimes import Regimes, measure


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


FIGURE = Figure("fig1", lambda cfg: [], make)

if __name__ == "__main__":
    main(FIGURE)
