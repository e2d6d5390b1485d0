"""Packs the numbers of all trained networks into one file: `python -m paper.collect out=FOLDER`.

Writes ``FOLDER/results.npz``: spectra of every epoch, losses and settings, a few megabytes for all
networks of the paper. Any figure can be drawn from it on another machine: ``results=FILE``.
"""

from pathlib import Path

from omegaconf import DictConfig

from paper.archive import save_records
from paper.command import run
from paper.records import read_folders


def collect(cfg: DictConfig) -> None:
    """Write the file and say what is in it.

    Args:
        cfg: Settings of the command.

    Raises:
        FileNotFoundError: If no network was trained there.
    """
    out = Path(cfg.out).resolve()
    records = read_folders(sorted((out / "networks").glob("*")))
    if not records:
        raise FileNotFoundError(
            f"Expected trained networks in {out / 'networks'}, but found none. Name the folder "
            "that the commands were given as `out`."
        )
    path = out / "results.npz"
    save_records(records, path)
    for record in records:
        print(f"{record.name}: epoch {record.epochs} of {record.about['epochs']}")
    print(f"{path}: {len(records)} networks, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    run(collect)
