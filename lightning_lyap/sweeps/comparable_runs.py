"""Which runs of a sweep can be compared, at which measurement, and at which early epoch."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_lyap.estimator.result import MeanSpectrum
from lightning_lyap.sweeps.runs import Run

LEFT_OUT = ("num_unresolved", "num_unsettled")  # of the arithmetic, not of the network


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """A run that takes part in a comparison.

    Attributes:
        name: The run's name.
        epoch: Epochs completed when its spectrum was measured.
        spectrum: The spectrum.
        settings: How it was measured.
        best_loss: Its lowest validation loss.
        early_loss: Its validation loss after the early epoch.
    """

    name: str
    epoch: float
    spectrum: MeanSpectrum
    settings: Mapping[str, Any]
    best_loss: float
    early_loss: float

    def statistics(self) -> dict[str, float]:
        """Return the statistics of the spectrum by name."""
        scalars = self.spectrum.measures().scalars()
        return {name: value for name, value in scalars.items() if name not in LEFT_OUT}


def comparable_runs(
    runs: Sequence[Run], epoch: float | None, early_epoch: float | None
) -> tuple[list[ComparedRun], dict[str, str], float]:
    """Separate the runs that can be compared from those that can't.

    Args:
        runs: Runs of distinct names.
        epoch: Epochs completed when the spectra were measured, or None for the last of each run.
        early_epoch: Epochs completed at the early loss, or None for ``epoch``; without one, or
            before training, the first epoch at which most runs have a finite loss.

    Returns:
        The runs whose spectra have the sizes and settings of most, why the others are left out, by
        name, and the early epoch.
    """
    why = {run.name: reason for run in runs if (reason := _why_unusable(run, epoch))}
    usable = [run for run in runs if run.name not in why]
    why |= _unlike_most(usable, epoch)
    alike = [run for run in usable if run.name not in why]
    early = _early_epoch(alike, epoch) if early_epoch is None else early_epoch
    why |= {
        run.name: f"no validation loss after epoch {early:g}, the early one"
        for run in alike
        if not math.isfinite(run.losses.get(early, math.nan))
    }
    return [_compared(run, epoch, early) for run in alike if run.name not in why], why, early


def _compared(run: Run, epoch: float | None, early: float) -> ComparedRun:
    """Return what a comparison needs of a run."""
    index, history, losses = _measured_at(run, epoch), run.history, run.losses
    return ComparedRun(
        run.name,
        history.epochs[index],
        history.spectra[index],
        history.settings,
        best_loss=min(filter(math.isfinite, losses.values())),
        early_loss=losses[early],
    )


def _measured_at(run: Run, epoch: float | None) -> int:
    """Return the index of the last measurement at an epoch, or of all; -1 if there is none."""
    epochs = run.history.epochs
    if epoch is None:
        return len(epochs) - 1
    return max(
        (i for i, e in enumerate(epochs) if math.isclose(e, epoch, abs_tol=1e-9)), default=-1
    )


def _why_unusable(run: Run, epoch: float | None) -> str:
    """Return why a run can't take part by itself, or nothing."""
    history = run.history
    if not len(history):
        failures = [failure["message"] for failure in history.failures]
        return f"no spectrum, {len(failures)} failed" + (f": {failures[-1]}" if failures else "")
    index = _measured_at(run, epoch)
    if index < 0:
        return f"no spectrum of epoch {epoch:g}, only of {_listed(history.epochs)}"
    if not bool(history.spectra[index].exponents.isfinite().any()):
        return f"no finite exponent at epoch {history.epochs[index]:g}"
    # A spectrum that fails its certificate is in the history, and its failure beside it.
    doubts = [f["message"] for f in history.failures if f["step"] == history.steps[index]]
    if doubts:
        return f"its spectrum of epoch {history.epochs[index]:g} can't be trusted: {doubts[-1]}"
    if not run.losses:
        return "no validation loss found: see --losses and --loss-tag"
    if not any(map(math.isfinite, run.losses.values())):
        return "no finite validation loss"
    return ""


def _listed(epochs: Sequence[float]) -> str:
    """List epochs, shortened in the middle."""
    shown = [f"{epoch:g}" for epoch in epochs]
    return ", ".join(shown if len(shown) < 7 else [*shown[:3], "...", *shown[-2:]])


def _unlike_most(runs: Sequence[Run], epoch: float | None) -> dict[str, str]:
    """Return how the runs of other sizes or settings than most differ from these, by name."""
    kinds = [_kind(run, epoch) for run in runs]
    keys = [repr(sorted(kind.items())) for kind in kinds]  # dicts have no hash to count by
    most = kinds[keys.index(Counter(keys).most_common(1)[0][0])] if runs else {}
    why = {}
    for run, kind in zip(runs, kinds, strict=True):
        names = [name for name in sorted({*most, *kind}) if kind.get(name) != most.get(name)]
        if names:
            own, others = (", ".join(f"{n} = {k.get(n)}" for n in names) for k in (kind, most))
            why[run.name] = f"{own}, but {others} in most runs"
    return why


def _kind(run: Run, epoch: float | None) -> dict[str, Any]:
    """Return what must agree for spectra to be compared: the sizes and settings."""
    spectrum = run.history.spectra[_measured_at(run, epoch)]
    sizes = {"K": spectrum.num_exponents, "N": spectrum.tangent_size}
    return {k: v for k, v in run.history.settings.items() if k != "module"} | sizes


def _early_epoch(runs: Sequence[Run], epoch: float | None) -> float:
    """Return the epoch of the early loss where none was chosen; see `comparable_runs`."""
    if epoch is not None and epoch > 0:
        return epoch
    count = Counter(e for run in runs for e, loss in run.losses.items() if math.isfinite(loss))
    return min(count, key=lambda e: (-count[e], e), default=1.0)
