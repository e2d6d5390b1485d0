"""What every command does: train what is missing, draw, and write PNG, table, settings, claims."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lightning_lyap.sweeps.csv_tables import write_table
from paper.archive import load_records
from paper.claims import Claim, Verdict, save_claims
from paper.drawing import save_small_png
from paper.jobs import Work, plan, train_all
from paper.measured import plain_sizes
from paper.measuring import Measure, measure_missing
from paper.networks import Network
from paper.records import Record, read_folders
from paper.settings import Settings
from paper.training import folder_of, write_whole

CONF = str(Path(__file__).resolve().parent / "conf")
SETTINGS_FILE = "settings.yaml"
# Where and how fast, not what: left out of the command in docs/REPRODUCTION.md.
PRIVATE = ("out", "results", "data_dir", "jobs", "deadline", "accelerator", "hydra", "full")


@dataclass(frozen=True)
class Finding:
    """What came of a claim; the command adds scale and command line.

    Attributes:
        item: Figure, table or section.
        claim: What the paper says.
        result: What came out, with its uncertainty.
        agree: The verdict.
        task: Whose networks it is about; nothing for those of no task.
        scale: At which scale, on which data; nothing for what the networks say.
    """

    item: str
    claim: str
    result: str
    agree: Verdict
    task: str = ""
    scale: str = ""


@dataclass(frozen=True, eq=False)
class Result:
    """What a figure module makes.

    Attributes:
        figure: A matplotlib figure.
        rows: Of the table, values by column; the first has all columns.
        findings: Claims and what came of them.
    """

    figure: Any
    rows: list[dict[str, Any]]
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class Figure:
    """A figure or table of the paper.

    Attributes:
        name: Of its command and files.
        networks: Lists the networks it needs; none for a figure that trains nothing.
        make: Makes it of their records and the settings; a ValueError says what is missing.
        measure: Measures a trained network, for figures that need more than the spectra of
            training; its sizes are those of the scale, under the figure's name and the task.
        trains: Whether networks that are not there are trained; else it makes do with what is.
    """

    name: str
    networks: Callable[[DictConfig], list[Network]]
    make: Callable[[Sequence[Record], DictConfig], Result]
    measure: Measure | None = None
    trains: bool = True


def run(task: Callable[[DictConfig], None]) -> None:
    """Run a command with Hydra's settings from the command line.

    Args:
        task: Takes the settings.
    """
    hydra.main(version_base="1.3", config_path=CONF, config_name="config")(task)()


def main(figure: Figure) -> None:
    """Run the command of a figure.

    Args:
        figure: The figure.
    """
    run(lambda cfg: produce(figure, cfg))


def produce(figure: Figure, cfg: DictConfig) -> None:
    """Train or load, draw and write.

    Args:
        figure: The figure.
        cfg: Settings of the command.

    Raises:
        SystemExit: If networks failed, after everything else is done.
        ValueError: If there is too little to draw, and not because time was over.
    """
    networks = figure.networks(cfg)
    if cfg.results is None:
        records, failures = compute([figure], cfg)
    else:
        records, failures = choose(load_records(_paths(cfg.results)), networks, cfg), []
    folder = Path(cfg.out).resolve() / figure.name
    write_whole(folder / SETTINGS_FILE, OmegaConf.to_yaml(cfg, resolve=True))
    try:
        write(figure.make(records, cfg), folder, figure.name, records)
    except ValueError as error:
        if cfg.deadline is None and not failures:
            raise
        print(f"Not drawn yet: {error}")
    if failures:
        sys.exit("\n".join([f"{len(failures)} of {len(networks)} networks failed:", *failures]))


def networks_of(figures: Sequence[Figure], cfg: DictConfig) -> list[Network]:
    """List the networks of the figures, each once.

    Args:
        figures: The figures.
        cfg: Settings of the command.

    Returns:
        Networks in the order of the figures.
    """
    networks: dict[str, Network] = {}
    for figure in figures:
        for network in figure.networks(cfg):
            networks.setdefault(network.name, network)
    return list(networks.values())


def compute(figures: Sequence[Figure], cfg: DictConfig) -> tuple[list[Record], list[str]]:
    """Train what is missing, then measure what is missing.

    Args:
        figures: The figures that networks are trained and measured for.
        cfg: Settings of the command.

    Returns:
        What is known of their networks, as far as they got, and what went wrong with others.
    """
    settings, networks = Settings.of(cfg), networks_of(figures, cfg)
    work = plan(networks, settings)
    trained = networks_of([figure for figure in figures if figure.trains], cfg)
    failures = train_all(_own(work, trained), settings.jobs)
    for figure in figures:
        if figure.measure is not None:
            own = _own(work, figure.networks(cfg))
            sizes = plain_sizes(cfg, figure.name)
            failures += measure_missing(own, figure.name, figure.measure, sizes)
    records = read_folders(folder_of(*item) for item in work)
    return cut(records, networks), failures


def _own(work: Sequence[Work], networks: Sequence[Network]) -> list[Work]:
    """Choose the part of the work that belongs to some networks.

    Args:
        work: Networks and settings.
        networks: The networks.

    Returns:
        Their part.
    """
    names = {network.name for network in networks}
    return [item for item in work if item[0].name in names]


def cut(records: Sequence[Record], networks: Sequence[Network]) -> list[Record]:
    """Leave out what is beyond the epochs wanted, in records of networks that were trained longer.

    Args:
        records: Records.
        networks: The networks wanted.

    Returns:
        Their records, complete if they were trained as long as wanted.
    """
    epochs = {network.name: network.epochs for network in networks}
    return [record.cut(epochs[record.name]) for record in records]


def choose(found: Sequence[Record], networks: Sequence[Network], cfg: DictConfig) -> list[Record]:
    """Choose the networks of a figure out of files of results.

    Args:
        found: All records of the files.
        networks: The networks wanted.
        cfg: Settings of the command.

    Returns:
        Their records, in order.

    Raises:
        ValueError: If there are none, or several of one network.
    """
    names = [network.name for network in networks]
    fitting = [r for r in found if r.name in names and r.about["scale"] == cfg.scale.name]
    if not fitting and networks:
        there = sorted({f"{record.task} at scale={record.about['scale']}" for record in found})
        raise ValueError(
            f"Expected networks of this figure at scale={cfg.scale.name} in {cfg.results}, but got "
            f"{', '.join(there) or 'none'}. Choose another scale, or other files."
        )
    kinds = {(r.name, r.data) for r in fitting}
    if len(kinds) < len(fitting) or len({name for name, _ in kinds}) < len(kinds):
        raise ValueError(
            f"Expected one record of each network in {cfg.results}, but got several: of other "
            "settings or other data. Collect them from separate folders `out`."
        )
    return cut(sorted(fitting, key=lambda record: names.index(record.name)), networks)


def write(result: Result, folder: Path, name: str, records: Sequence[Record]) -> None:
    """Write everything a figure consists of, and say where.

    Args:
        result: The figure.
        folder: Its folder.
        name: Its name.
        records: What it was made of.
    """
    save_small_png(result.figure, folder / f"{name}.png")
    if result.rows:
        write_table(folder / f"{name}.csv", list(result.rows[0]), result.rows)
    command = command_line(name)
    claims = [
        Claim(f.item, f.claim, f.result, f.agree, f.scale or conditions(records, f.task), command)
        for f in result.findings
    ]
    save_claims(claims, folder)
    for claim in claims:
        print(f"{claim.item}: {claim.claim}\n  {claim.agree}: {claim.result} ({claim.scale})")
    print(folder / f"{name}.png")


def conditions(records: Sequence[Record], task: str) -> str:
    """Say at which scale, on which data and for how many epochs networks were trained.

    Args:
        records: The networks.
        task: Those of this task alone, or of all.

    Returns:
        Text.
    """
    chosen = [record for record in records if not task or record.task == task]
    said = {
        f"{r.about['scale']}, {r.data} data, {r.about['epochs']} epochs of {r.task}" for r in chosen
    }
    return "; ".join(sorted(said))


def command_line(name: str) -> str:
    """Write the command that runs, without what belongs to one machine.

    Args:
        name: Of the command.

    Returns:
        Text.
    """
    given = HydraConfig.get().overrides.task
    public = [word for word in given if word.lstrip("+~").split("=")[0] not in PRIVATE]
    return " ".join([f"python -m paper.{name}", *public])


def _paths(results: Any) -> list[Path]:
    """Return the files of results as a list."""
    return [Path(path) for path in ([results] if isinstance(results, str) else results)]
