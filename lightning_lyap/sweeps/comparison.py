"""What the spectra of many runs tell about their losses, and what early losses tell already."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_lyap.estimator.result import MeanSpectrum
from lightning_lyap.sweeps.comparable_runs import (
    choose_early_epoch,
    measured_at,
    of_one_kind,
    why_unusable,
)
from lightning_lyap.sweeps.correlation import (
    Association,
    associate,
    partial_spearman,
    pearson,
    spearman,
)
from lightning_lyap.sweeps.runs import Run

MIN_RUNS = 3
LEFT_OUT = ("num_unresolved",)  # of the arithmetic, not of the network


@dataclass(frozen=True, eq=False)
class Subject:
    """A run that takes part in a comparison.

    Attributes:
        name: The run's name.
        epoch: Epochs completed when its spectrum was measured.
        spectrum: The spectrum.
        best_loss: Its lowest validation loss.
        early_loss: Its validation loss after the early epoch.
    """

    name: str
    epoch: float
    spectrum: MeanSpectrum
    best_loss: float
    early_loss: float

    def statistics(self) -> dict[str, float]:
        """Return the statistics of the spectrum by name."""
        scalars = self.spectrum.measures().scalars()
        return {name: value for name, value in scalars.items() if name not in LEFT_OUT}


@dataclass(frozen=True)
class Row:
    """How one quantity goes together with the lowest loss.

    Attributes:
        name: A statistic of the spectrum, or ``"early loss"``.
        num_runs: n, the runs in which it is finite.
        spearman: On ranks.
        pearson: On values.
        given_early_loss: On ranks, beyond what the early loss tells; None for that itself.
    """

    name: str
    num_runs: int
    spearman: Association
    pearson: Association
    given_early_loss: Association | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """The runs of a sweep side by side.

    Attributes:
        subjects: The runs that take part.
        skipped: Why the others don't, by name.
        early_epoch: Epoch of the early loss.
        settings: How the spectra were measured.
        rows: A row for each statistic of the spectrum.
        baseline: The row of the early loss.
    """

    subjects: list[Subject]
    skipped: dict[str, str]
    early_epoch: float
    settings: dict[str, Any]
    rows: list[Row]
    baseline: Row


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
    why = dict(skipped or {})
    usable = []
    for run in runs:
        reason = why_unusable(run, epoch)
        if reason:
            why[run.name] = reason
        else:
            usable.append(run)
    alike = of_one_kind(usable, epoch, why)
    early = choose_early_epoch(alike, epoch) if early_epoch is None else early_epoch
    subjects = []
    for run in alike:
        if math.isfinite(run.losses.get(early, math.nan)):
            subjects.append(_subject(run, epoch, early))
        else:
            why[run.name] = f"no validation loss after epoch {early:g}, the early one"
    if len(subjects) < MIN_RUNS:
        lines = "".join(f"\n  {name}: {reason}" for name, reason in why.items())
        raise ValueError(
            f"Expected at least {MIN_RUNS} runs to compare, but got {len(subjects)}. Train more, "
            f"or see why these were skipped:{lines or ' none was.'}"
        )
    options = {"num_resamples": num_resamples, "seed": seed}
    settings = alike[0].history.settings
    rows = [_row(name, subjects, options) for name in _statistics(subjects)]
    best, first = [s.best_loss for s in subjects], [s.early_loss for s in subjects]
    baseline = Row(
        "early loss",
        len(subjects),
        associate(spearman, first, best, **options),
        associate(pearson, first, best, **options),
        None,
    )
    return Comparison(subjects, why, early, settings, rows, baseline)


def _subject(run: Run, epoch: float | None, early: float) -> Subject:
    """Take what a comparison needs from a run.

    Args:
        run: The run.
        epoch: Epoch of the spectra, or None for the last.
        early: Epoch of the early loss.

    Returns:
        The subject.
    """
    losses = run.losses
    index = measured_at(run, epoch)
    return Subject(
        run.name,
        run.history.epochs[index],
        run.history.spectra[index],
        min(filter(math.isfinite, losses.values())),
        losses[early],
    )


def _statistics(subjects: Sequence[Subject]) -> list[str]:
    """Name the statistics to compare.

    Args:
        subjects: The runs.

    Returns:
        Names; of those over all exponents only what differs from that over the resolved ones.
    """
    table = [subject.statistics() for subject in subjects]
    resolved = {name: name.removesuffix("_all") for name in table[0]}
    return [
        name
        for name, other in resolved.items()
        if name == other or any(row[name] != row[other] for row in table)
    ]


def _row(name: str, subjects: Sequence[Subject], options: Mapping[str, int]) -> Row:
    """Correlate a statistic of the spectra with the lowest losses.

    Args:
        name: The statistic.
        subjects: The runs.
        options: Of the bootstrap.

    Returns:
        The row, of the runs in which the statistic is finite.
    """
    pairs = [(subject.statistics()[name], subject) for subject in subjects]
    known = [(value, subject) for value, subject in pairs if math.isfinite(value)]
    values = [value for value, _ in known]
    best = [subject.best_loss for _, subject in known]
    early = [subject.early_loss for _, subject in known]
    return Row(
        name,
        len(known),
        associate(spearman, values, best, **options),
        associate(pearson, values, best, **options),
        associate(partial_spearman, values, best, early, **options),
    )
