"""``python -m lightning_lyap compare``: what do the spectra of a sweep tell about its losses?"""

from argparse import ArgumentParser, Namespace
from os.path import commonpath
from pathlib import Path

from lightning_lyap.estimator.result import NUMBERS
from lightning_lyap.plotting import plotting_available, render, save_png
from lightning_lyap.sweeps.comparison import Comparison, compare_runs
from lightning_lyap.sweeps.csv_tables import write_table
from lightning_lyap.sweeps.losses import read_given_losses
from lightning_lyap.sweeps.plots import plot_spectra_by_loss, plot_statistics_by_loss
from lightning_lyap.sweeps.report import format_comparison
from lightning_lyap.sweeps.runs import find_spectra, load_runs

DESCRIPTION = """Correlate each statistic of the Lyapunov spectra of many runs with their lowest
validation loss, against the early loss as baseline, and draw the spectra by loss."""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of the command.

    Args:
        parser: Its parser.
    """
    parser.description = DESCRIPTION
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUNS", help="folders above the runs (multirun/...), or globs")
    add("--epoch", type=float, help="epochs trained at the spectra; default: each run's last")
    add(
        "--early-epoch",
        type=float,
        help="epochs trained at the early loss; default: --epoch, else the first epoch",
    )
    add("--losses", type=Path, help="CSV with the columns run,epoch,val_loss, for other code's")
    add("--loss-tag", default="val/loss", help="name the loss was logged under; default: val/loss")
    add("--module", help="which recurrent module, where runs have several")
    add("--name", default="lyapunov", help="`name` of the callback; default: lyapunov")
    add("--output", type=Path, help="folder of the figures; default: comparison/ beside the runs")
    add("--resamples", type=int, default=2000, help="of the bootstrap; default: 2000")
    add("--seed", type=int, default=0, help="of the bootstrap; default: 0")


def run(arguments: Namespace) -> None:
    """Print the table and draw the figures.

    Args:
        arguments: As parsed.

    Raises:
        FileNotFoundError: If there are no runs.
        ValueError: If they can't be compared.
    """
    given = None if arguments.losses is None else read_given_losses(arguments.losses)
    files = find_spectra(arguments.runs, arguments.name, arguments.module)
    runs, skipped = load_runs(files, arguments.loss_tag, given)
    comparison = compare_runs(
        runs,
        skipped,
        epoch=arguments.epoch,
        early_epoch=arguments.early_epoch,
        num_resamples=arguments.resamples,
        seed=arguments.seed,
    )
    print(format_comparison(comparison))
    folder = arguments.output or Path(commonpath(files)) / "comparison"
    print()
    for path in _write(comparison, folder):
        print(path)
    if not plotting_available():
        print('No figures: they need matplotlib, `pip install "lightning-lyap[plots]"`.')


def _write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write the numbers of all runs, and with matplotlib the figures; return the files."""
    rows = [
        {"run": s.name, "epoch": s.epoch, "best_loss": s.best_loss, "early_loss": s.early_loss}
        | {name: getattr(s.spectrum, name) for name in ("num_sequences", *NUMBERS[:2])}
        | {"num_unsettled": s.spectrum.measures().num_unsettled}
        | s.statistics()
        for s in comparison.runs
    ]
    table = folder / "runs.csv"
    write_table(table, list(rows[0]), rows)
    if not plotting_available():
        return [table]
    figures = {
        folder / "spectra_by_loss.png": plot_spectra_by_loss(comparison),
        folder / "statistics_by_loss.png": plot_statistics_by_loss(comparison),
    }
    for path, (figure, _) in figures.items():
        save_png(render(figure), path)
    return [table, *figures]
