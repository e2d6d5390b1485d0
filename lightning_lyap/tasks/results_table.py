"""The table at the end of a run: losses and spectra by epoch."""

from collections.abc import Mapping

from lightning_lyap.history import SpectrumHistory
from lightning_lyap.sweeps.report import align

COLUMNS = {
    "epoch": "epoch",
    "train/loss": "train loss",
    "val/loss": "val. loss",
    "max": "max",
    "mean": "mean",
    "variance": "variance",
    "kaplan_yorke_dimension": "dimension",
    "seconds": "seconds",
}
FORMATS = {"epoch": "g", "seconds": ".2f"}


def results_table(
    losses: Mapping[int, Mapping[str, float]], history: SpectrumHistory
) -> list[dict[str, float]]:
    """Join losses and spectra by epoch.

    Args:
        losses: Losses by name, by epochs completed.
        history: The spectra of one module.

    Returns:
        A row for each spectrum, its values by the names in `COLUMNS`.
    """
    rows = []
    for epoch, spectrum, seconds in zip(
        history.epochs, history.spectra, history.seconds, strict=True
    ):
        at_epoch = losses.get(int(epoch), {}) if epoch.is_integer() else {}
        rows.append(
            {"epoch": epoch, **at_epoch, **spectrum.measures().scalars(), "seconds": seconds}
        )
    return rows


def format_table(rows: list[dict[str, float]]) -> str:
    """Return rows as plain text in columns.

    Args:
        rows: Values by the names in `COLUMNS`; what a row lacks is shown as a dash.

    Returns:
        Lines of equal length, the header first.

    Example:
        >>> print(format_table([{"epoch": 1.0, "max": -0.5}]).splitlines()[1].split())
        ['1', '-', '-', '-0.5000', '-', '-', '-', '-']
    """
    cells = [
        [format(row[name], FORMATS.get(name, ".4f")) if name in row else "-" for name in COLUMNS]
        for row in rows
    ]
    return align([list(COLUMNS.values()), *cells], ">" * len(COLUMNS))
