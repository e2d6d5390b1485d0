"""What the spectra of many runs say about their losses, and what early losses say already."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import ne
from statistics import median, stdev
from typing import Any

from lightning_lyap.sweeps.comparable_runs import ComparedRun, comparable_runs
from lightning_lyap.sweeps.correlation import (
    Association,
    associate,
    partial_spearman,
    pearson,
    spearman,
)
from lightning_lyap.sweeps.runs import Run

MIN_RUNS = 3


@dataclass(frozen=True)
class Correlations:
    """How one quantity goes together with the lowest loss.

    Attributes:
        name: A statistic of the spectrum, or ``"early loss"``.
        num_runs: n, the runs in which it is finite.
        noise: Half-width of its 95 % interval, the median over the runs, in parts of its standard
            deviation between runs; None where that is not known.
        spearman: On ranks.
        pearson: On values.
        given_early_loss: On ranks, beyond what the early loss says; None for that itself.
    """

    name: str
    num_runs: int
    noise: float | None
    spearman: Association
    pearson: Association
    given_early_loss: Association | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """The runs of a sweep side by side.

    Attributes:
        runs: The runs that take part.
        skipped: Why the others don't, by name.
        early_epoch: Epoch of the early loss.
        settings: How the spectra were measured.
        rows: The correlations of each statistic of the spectrum.
        baseline: Those of the early loss.
    """

    runs: list[ComparedRun]
    skipped: dict[str, str]
    early_epoch: float
    settings: dict[str, Any]
    rows: list[Correlations]
    baseline: Correlations


def compare_runs(
    runs: Sequence[Run],
    skipped: Mapping[str, str] | None = None,
    *,
    epoch: float | None = None,
    early_epoch: float | None = None,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Correlate each statistic of the spectra with the lowest validation losses.

    Args:
        runs: The runs.
        skipped: Why other runs could not be read, by name.
        epoch: Epochs completed when the spectra were measured. Default: the last spectrum of each
            run.
        early_epoch: Epochs completed at the early loss. Default: ``epoch``, so that both are known
            at the same time; without one the first epoch after which most runs have a loss.
        num_resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        The comparison.

    Raises:
        ValueError: If fewer than three runs can be compared.
    """
    compared, unusable, early = comparable_runs(runs, epoch, early_epoch)
    why = {**(skipped or {}), **unusable}
    if len(compared) < MIN_RUNS:
        lines = "".join(f"\n  {name}: {reason}" for name, reason in why.items())
        raise ValueError(
            f"Expected at least {MIN_RUNS} runs to compare, but got {len(compared)}. Train more, "
            f"or see why these were skipped:{lines or ' none was.'}"
        )
    correlate = partial(_correlate, compared, num_resamples=num_resamples, seed=seed)
    rows = [correlate(name, values) for name, values in _statistics(compared).items()]
    rows = [replace(row, noise=_noise(compared, row.name)) for row in rows]
    baseline = correlate("early loss", [run.early_loss for run in compared])
    baseline = replace(baseline, given_early_loss=None)
    return Comparison(compared, why, early, dict(compared[0].settings), rows, baseline)


def _statistics(runs: Sequence[ComparedRun]) -> dict[str, list[float]]:
    """Return the statistics to compare; of those with noise included only what noise changes."""
    of_runs = [run.statistics() for run in runs]
    table = {name: [one[name] for one in of_runs] for name in of_runs[0]}
    return {
        name: values
        for name, values in table.items()
        if any(map(ne, values, table[name.removesuffix("_all")])) or not name.endswith("_all")
    }


def _noise(runs: Sequence[ComparedRun], name: str) -> float | None:
    """Return the median half-width of a statistic's interval in parts of the spread of runs."""
    measures = [run.spectrum.measures() for run in runs]
    widths = [(high - low) / 2 for low, high in (each.intervals[name] for each in measures)]
    values = [getattr(each, name) for each in measures]
    known = [
        (value, width)
        for value, width in zip(values, widths, strict=True)
        if math.isfinite(value) and math.isfinite(width)
    ]
    if len(known) < MIN_RUNS:
        return None
    spread = stdev(value for value, _ in known)
    return median(width for _, width in known) / spread if spread > 0 else None


def _correlate(
    runs: Sequence[ComparedRun], name: str, values: Sequence[float], **bootstrap: int
) -> Correlations:
    """Correlate a quantity with the lowest losses, over the runs in which it is finite."""
    known = [(x, run) for x, run in zip(values, runs, strict=True) if math.isfinite(x)]
    finite = [x for x, _ in known]
    best, early = [run.best_loss for _, run in known], [run.early_loss for _, run in known]
    return Correlations(
        name,
        len(known),
        None,
        associate(spearman, finite, best, **bootstrap),
        associate(pearson, finite, best, **bootstrap),
        associate(partial_spearman, finite, best, early, **bootstrap),
    )
