"""The comparison of a sweep in words: a table of correlations, and what to mind about it."""

from lightning_lyap.sweeps.comparison import Comparison, Row
from lightning_lyap.sweeps.correlation import Association

FEW_RUNS = 10
HEADER = ("", "n", "Spearman", "Pearson", "Spearman given early loss")


def format_comparison(comparison: Comparison) -> str:
    """Set a comparison as plain text.

    Args:
        comparison: The comparison.

    Returns:
        Lines: runs that were skipped, the table, and notes.
    """
    skipped = [f"skipped {name}: {why}" for name, why in comparison.skipped.items()]
    lines = [
        *skipped,
        _headline(comparison),
        "Correlation with the lowest validation loss (negative: larger goes with better), "
        "[95 % bootstrap interval]",
        "",
        *_table(comparison),
        "",
        *_notes(comparison),
    ]
    return "\n".join(lines)


def format_association(association: Association) -> str:
    """Set a coefficient with its interval.

    Args:
        association: The coefficient.

    Returns:
        Text; a dash for what is not defined.

    Example:
        >>> format_association(Association(-0.5, (-0.75, 0.125)))
        '-0.50 [-0.75, +0.12]'
    """
    if association.value is None:
        return "-"
    if association.interval is None:
        return f"{association.value:+.2f} [-]"
    low, high = association.interval
    return f"{association.value:+.2f} [{low:+.2f}, {high:+.2f}]"


def _headline(comparison: Comparison) -> str:
    """Say how many runs take part and what was measured.

    Args:
        comparison: The comparison.

    Returns:
        A line.
    """
    subjects, settings = comparison.subjects, comparison.settings
    spectrum = subjects[0].spectrum
    facts = [f"{spectrum.num_exponents} of {spectrum.tangent_size} exponents"]
    facts += [f"{name}={settings[name]}" for name in ("module", "state") if name in settings]
    return f"n = {len(subjects)} runs, spectra of {when_measured(comparison)} ({', '.join(facts)})"


def when_measured(comparison: Comparison) -> str:
    """Say when the spectra were measured.

    Args:
        comparison: The comparison.

    Returns:
        An epoch, or the first and the last.
    """
    epochs = sorted({subject.epoch for subject in comparison.subjects})
    if len(epochs) == 1:
        return f"epoch {epochs[0]:g}"
    return f"epochs {epochs[0]:g} to {epochs[-1]:g}"


def _table(comparison: Comparison) -> list[str]:
    """Set the table.

    Args:
        comparison: The comparison.

    Returns:
        Lines of columns.
    """
    baseline = f"early loss (epoch {comparison.early_epoch:g})"
    cells = [
        HEADER,
        *(_cells(row, row.name) for row in comparison.rows),
        _cells(comparison.baseline, baseline),
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADER))]
    aligned = [(str.ljust, str.rjust, str.ljust, str.ljust, str.ljust)] * len(cells)
    return [
        "  ".join(
            put(cell, width) for put, cell, width in zip(puts, line, widths, strict=True)
        ).rstrip()
        for puts, line in zip(aligned, cells, strict=True)
    ]


def _cells(row: Row, name: str) -> tuple[str, ...]:
    """Set a row.

    Args:
        row: The row.
        name: What to call it.

    Returns:
        A cell for each column.
    """
    given = row.given_early_loss
    last = "(the baseline)" if given is None else format_association(given)
    numbers = (format_association(row.spearman), format_association(row.pearson))
    return name, str(row.num_runs), *numbers, last


def _notes(comparison: Comparison) -> list[str]:
    """Say what keeps readers from fooling themselves.

    Args:
        comparison: The comparison.

    Returns:
        Sentences, a line each.
    """
    subjects, early = comparison.subjects, comparison.early_epoch
    last = max(subject.epoch for subject in subjects)
    notes = [
        "The early loss costs nothing: exponents say more where the last interval excludes zero.",
        "By chance alone one interval in twenty does.",
    ]
    shown = [a for row in comparison.rows for a in (row.spearman, row.given_early_loss) if a]
    if any(a.value is None or a.interval is None for a in shown):
        notes.append(
            "A dash: the statistic is the same in all runs, or the early loss orders them as it or "
            "the lowest loss does; [-]: so in half of the resamples."
        )
    if last > early:
        notes.append(
            f"The spectra ({when_measured(comparison)}) are later than the early loss and may know "
            f"more by that alone: --epoch {early:g} takes both at the same time, --early-epoch "
            "another loss."
        )
    if last < early:
        notes.append(f"The spectra ({when_measured(comparison)}) are earlier than the early loss.")
    if all(subject.early_loss == subject.best_loss for subject in subjects):
        notes.append("The early loss is the lowest of every run: train longer, or take it earlier.")
    if len({subject.epoch for subject in subjects}) > 1:
        notes.append("Not all runs got equally far: the lowest loss is that of the epochs done.")
    if any(not subject.spectrum.is_complete for subject in subjects):
        notes.append("The spectra are not complete: statistics are those of their leading part.")
    if len(subjects) < FEW_RUNS:
        notes.append(
            f"With fewer than {FEW_RUNS} runs intervals are rough, most often too narrow: add runs."
        )
    return notes
