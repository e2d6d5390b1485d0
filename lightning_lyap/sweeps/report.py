"""The comparison of a sweep in words: a table of correlations, and what limits it."""

from collections.abc import Sequence

from lightning_lyap.sweeps.comparison import Comparison, Correlations
from lightning_lyap.sweeps.correlation import Association

FEW_RUNS = 10
HEADER = ("", "n", "noise", "Spearman", "Pearson", "Spearman given early loss")


def format_comparison(comparison: Comparison) -> str:
    """Return a comparison as plain text.

    Args:
        comparison: The comparison.

    Returns:
        Lines: runs that were skipped, the table, and notes.
    """
    baseline = f"early loss (epoch {comparison.early_epoch:g})"
    cells = [_cells(row, row.name) for row in comparison.rows]
    return "\n".join(
        [
            *(f"skipped {name}: {why}" for name, why in comparison.skipped.items()),
            _headline(comparison),
            *_counted(comparison),
            "Correlation with the lowest validation loss (negative: larger goes with better), "
            "[95 % bootstrap interval]",
            "",
            align([HEADER, *cells, _cells(comparison.baseline, baseline)], "<>><<<"),
            "",
            *_notes(comparison),
        ]
    )


def align(lines: Sequence[Sequence[str]], sides: str) -> str:
    """Return lines of cells as text in columns, two spaces apart.

    Args:
        lines: Equally many cells each, the header first.
        sides: Where the cells of each column begin (``<``) or end (``>``).

    Returns:
        Text, without spaces at the ends of its lines.

    Example:
        >>> print(align([["name", "n"], ["max", "12"]], "<>"))
        name   n
        max   12
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(line, sides, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def format_association(association: Association) -> str:
    """Return a coefficient with its interval as text.

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


def when_measured(comparison: Comparison) -> str:
    """Return when the spectra were measured.

    Args:
        comparison: The comparison.

    Returns:
        An epoch, or the first and the last.
    """
    epochs = sorted({run.epoch for run in comparison.runs})
    if len(epochs) == 1:
        return f"epoch {epochs[0]:g}"
    return f"epochs {epochs[0]:g} to {epochs[-1]:g}"


def _headline(comparison: Comparison) -> str:
    """Return how many runs take part and what was measured."""
    spectrum, settings = comparison.runs[0].spectrum, comparison.settings
    facts = [f"{spectrum.num_exponents} of {spectrum.tangent_size} exponents"]
    facts += [f"{name}={settings[name]}" for name in ("module", "state") if name in settings]
    return (
        f"n = {len(comparison.runs)} runs, spectra of {when_measured(comparison)} "
        f"({', '.join(facts)})"
    )


def _counted(comparison: Comparison) -> list[str]:
    """Return what was counted in each run, and in how many not all of it has settled."""
    spectra = [run.spectrum for run in comparison.runs]
    sizes = sorted({spectrum.counted for spectrum in spectra})
    moving = sum(bool((s.resolved & ~s.settled).any()) for s in spectra)
    lines = ["counted: " + ("; ".join(sizes) if len(sizes) < 4 else f"{sizes[0]} to {sizes[-1]}")]
    if moving:
        lines.append(
            f"In {moving} of {len(spectra)} runs exponents have not settled, or it is not known "
            "that they have: these are growth over the steps counted."
        )
    return lines


def _cells(row: Correlations, name: str) -> list[str]:
    """Return the cells of a row, under the name it is shown by."""
    shown = [format_association(a) for a in (row.spearman, row.pearson, row.given_early_loss) if a]
    noise = "-" if row.noise is None else f"{row.noise:.0%}"
    return [name, str(row.num_runs), noise, *shown, *["(the baseline)"] * (3 - len(shown))]


def _notes(comparison: Comparison) -> list[str]:
    """Return what keeps readers from fooling themselves, a sentence or two a line."""
    runs, early, when = comparison.runs, comparison.early_epoch, when_measured(comparison)
    last = max(run.epoch for run in runs)
    shown = [a for row in comparison.rows for a in (row.spearman, row.given_early_loss) if a]
    notes = {
        "The early loss costs nothing: exponents say more where the last interval excludes zero.\n"
        "By chance alone one interval in twenty does.": True,
        "noise: half-width of the 95 % interval of a run's statistic, the median over the runs, in "
        "parts of\nthe standard deviation between runs; what is not small hides relations.": True,
        "A dash: the statistic is the same in all runs, or the early loss orders them as it or "
        "the lowest loss does; [-]: so in half of the resamples.": any(
            a.interval is None for a in shown
        ),
        f"The spectra ({when}) are later than the early loss and may know more by that alone: "
        f"--epoch {early:g} takes both at the same time, --early-epoch another loss.": last > early,
        f"The spectra ({when}) are earlier than the early loss.": last < early,
        "The early loss is the lowest of every run: train longer, or take it earlier.": all(
            run.early_loss == run.best_loss for run in runs
        ),
        "Not all runs got equally far: the lowest loss is that of the epochs done.": (
            len({run.epoch for run in runs}) > 1
        ),
        "The spectra are not complete: statistics are those of their leading part.": any(
            not run.spectrum.is_complete for run in runs
        ),
        f"With fewer than {FEW_RUNS} runs intervals are rough, most often too narrow: add runs.": (
            len(runs) < FEW_RUNS
        ),
    }
    return [note for note, applies in notes.items() if applies]
