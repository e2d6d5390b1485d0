"""Which runs of a sweep can be compared, at which measurement, and at which early epoch."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from lightning_lyap.sweeps.runs import Run


def measured_at(run: Run, epoch: float | None) -> int:
    """Return which measurement of a run is meant.

    Args:
        run: A run with spectra.
        epoch: Epochs completed, or None for the last.

    Returns:
        Its index; -1 if there is none at that epoch.
    """
    epochs = run.history.epochs
    return len(epochs) - 1 if epoch is None else next(iter(_at(epochs, epoch)), -1)


def _at(epochs: Sequence[float], epoch: float) -> list[int]:
    """Return where an epoch is in a list; later measurements of the same epoch count first."""
    return [i for i in reversed(range(len(epochs))) if math.isclose(epochs[i], epoch, abs_tol=1e-9)]


def why_unusable(run: Run, epoch: float | None) -> str:
    """Say why a run can't take part by itself.

    Args:
        run: The run.
        epoch: Epoch of the spectra, or None for the last.

    Returns:
        The reason, or nothing.
    """
    history = run.history
    if not len(history):
        failures = [failure["message"] for failure in history.failures]
        return f"no spectrum, {len(failures)} failed" + (f": {failures[-1]}" if failures else "")
    index = measured_at(run, epoch)
    if index < 0:
        return f"no spectrum of epoch {epoch:g}, only of {_epochs(history.epochs)}"
    if not bool(history.spectra[index].exponents.isfinite().any()):
        return f"no finite exponent at epoch {history.epochs[index]:g}"
    doubts = [f["message"] for f in history.failures if f["step"] == history.steps[index]]
    if doubts:
        return f"its spectrum of epoch {history.epochs[index]:g} can't be trusted: {doubts[-1]}"
    if not run.losses:
        return "no validation loss found: see --losses and --loss-tag"
    if not any(map(math.isfinite, run.losses.values())):
        return "no finite validation loss"
    return ""


def _epochs(epochs: Sequence[float]) -> str:
    """List epochs, shortened in the middle."""
    shown = [f"{epoch:g}" for epoch in epochs]
    return ", ".join(shown if len(shown) < 7 else [*shown[:3], "...", *shown[-2:]])


def of_one_kind(runs: Sequence[Run], epoch: float | None, why: dict[str, str]) -> list[Run]:
    """Keep the runs whose spectra can be compared: those like most of them.

    Args:
        runs: Runs with spectra.
        epoch: Epoch of the spectra, or None for the last.
        why: Takes the reasons of the others.

    Returns:
        Runs of equal K, N and settings.
    """
    kinds = [_kind(run, epoch) for run in runs]
    keys = [repr(sorted(kind.items())) for kind in kinds]
    if not runs:
        return []
    most = kinds[keys.index(Counter(keys).most_common(1)[0][0])]
    kept = []
    for run, kind in zip(runs, kinds, strict=True):
        names = [name for name in most.keys() | kind.keys() if kind.get(name) != most.get(name)]
        if names:
            own, others = (
                ", ".join(f"{name} = {k.get(name)}" for name in sorted(names)) for k in (kind, most)
            )
            why[run.name] = f"{own}, but {others} in most runs"
        else:
            kept.append(run)
    return kept


def _kind(run: Run, epoch: float | None) -> dict[str, Any]:
    """Return what must agree for spectra to be compared: the sizes and settings."""
    spectrum = run.history.spectra[measured_at(run, epoch)]
    sizes = {"K": spectrum.num_exponents, "N": spectrum.tangent_size}
    return {k: v for k, v in run.history.settings.items() if k != "module"} | sizes


def choose_early_epoch(runs: Sequence[Run], epoch: float | None) -> float:
    """Choose the epoch of the early loss.

    Args:
        runs: The runs.
        epoch: Epoch of the spectra, or None for the last.

    Returns:
        That of the spectra, if that is not before training; else the first at which most runs have
        a finite loss.
    """
    if epoch is not None and epoch > 0:
        return epoch
    count = Counter(e for run in runs for e, loss in run.losses.items() if math.isfinite(loss))
    return min(count, key=lambda e: (-count[e], e), default=1.0)
