"""The runs of a sweep: found below folders, loaded with their spectra and validation losses."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from os.path import commonpath
from pathlib import Path

from lightning_lyap.history import SpectrumHistory
from lightning_lyap.sweeps.losses import Losses, read_losses

SPECTRA_FILE = "spectra.npz"


@dataclass(frozen=True, eq=False)
class Run:
    """What a run left.

    Attributes:
        name: What its folder has not in common with those of the other runs.
        folder: Its log folder.
        history: Its spectra.
        losses: Its validation losses by epochs completed.
    """

    name: str
    folder: Path
    history: SpectrumHistory
    losses: Losses


def find_spectra(
    places: Iterable[str], callback: str = "lyapunov", module: str | None = None
) -> dict[Path, Path]:
    """Find the files of spectra below folders.

    Args:
        places: Folders, at whatever height above the runs, or glob patterns of such.
        callback: Name of the callback, that of the folder the spectra are in.
        module: Which recurrent module, where runs have several.

    Returns:
        Files by the log folder of the run, in natural order of the folders.

    Raises:
        FileNotFoundError: If a place does not exist, or none has spectra below it.
        ValueError: If runs have several recurrent modules and none is chosen.
    """
    places = list(places)
    found: dict[Path, dict[str, Path]] = {}
    for folder in _folders(places):
        for file in folder.rglob(SPECTRA_FILE):
            # LOG_DIR/CALLBACK/spectra.npz, or with several modules LOG_DIR/CALLBACK/MODULE/...
            *_, above, parent = file.parent.parts
            if parent == callback:
                found.setdefault(file.parent.parent, {})[""] = file
            elif above == callback:
                found.setdefault(file.parent.parent.parent, {})[parent] = file
    if not found:
        raise FileNotFoundError(
            f"Expected runs with {callback}/{SPECTRA_FILE} below {', '.join(places)}, but found "
            "none. Train with LyapunovSpectrumCallback(save=True) and a logger, and name folders "
            "above what it wrote; a callback with a name of its own takes `--name`."
        )
    chosen = {each: _choose(found[each], module) for each in sorted(found, key=_natural_order)}
    return {folder: file for folder, file in chosen.items() if file is not None}


def _folders(places: Sequence[str]) -> list[Path]:
    """Return absolute folders for folders and patterns; a folder named like a pattern is meant."""
    folders: list[Path] = []
    for place in places:
        here = [place] if Path(place).is_dir() else sorted(glob(place, recursive=True))
        matched = [Path(path).resolve() for path in here if Path(path).is_dir()]
        if not matched:
            raise FileNotFoundError(
                f"Expected folders of runs, but got {place!r}, which is or matches none. Name "
                "folders with runs below them, such as those that `train.py -m` makes in multirun/."
            )
        folders.extend(matched)
    return folders


def _choose(files: Mapping[str, Path], module: str | None) -> Path | None:
    """Return the spectra of the module asked for; None if a run has several, but not this one."""
    if len(files) == 1 and (module is None or "" in files):
        return next(iter(files.values()))
    if module is None:
        names = sorted(files)
        raise ValueError(
            f"Expected `--module` to choose one of the recurrent modules, but got none of {names}."
        )
    return files.get(module)


def _natural_order(folder: Path) -> list[tuple[int, str]]:
    """Order folders as people do: 2 before 10."""
    return [
        (int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", str(folder))
    ]


def short_names(folders: Sequence[Path]) -> list[str]:
    """Name runs by what their folders don't have in common.

    Args:
        folders: Absolute and distinct.

    Returns:
        A name for each: whole folders, and of folders named ``KEY=VALUE,KEY=VALUE`` those settings
        that not all runs have.

    Example:
        >>> short_names([Path("/m/0/charrnn"), Path("/m/1/charrnn")])
        ['0', '1']
        >>> short_names([Path("/m/p=0.1,seed=1/mocap"), Path("/m/p=0.3,seed=1/mocap")])
        ['p=0.1', 'p=0.3']
    """
    if len(folders) == 1:
        return [folders[0].name]
    common = len(Path(commonpath(folders)).parts)
    rests = [folder.parts[common:] for folder in folders]
    while all(len(rest) > 1 for rest in rests) and len({rest[-1] for rest in rests}) == 1:
        rests = [rest[:-1] for rest in rests]
    whole = ["/".join(rest) or "." for rest in rests]
    short = _without_common_settings(whole)
    return short if len({*short}) == len(short) else whole


def _without_common_settings(names: Sequence[str]) -> list[str]:
    """Leave out what all of the names ``KEY=VALUE,KEY=VALUE`` have in common."""
    settings = [name.split(",") for name in names]
    common = {part for part in settings[0] if "=" in part}.intersection(*settings)
    kept = [[part for part in parts if part not in common] for parts in settings]
    return [",".join(parts) or name for parts, name in zip(kept, names, strict=True)]


def load_runs(
    files: Mapping[Path, Path], tag: str, given: Mapping[str, Losses] | None = None
) -> tuple[list[Run], dict[str, str]]:
    """Load spectra and losses.

    Args:
        files: Files of spectra by log folder.
        tag: Name of the validation loss.
        given: Losses of the user's by run (its name, or a folder at or above its log folder), which
            replace those the runs left; or None.

    Returns:
        The runs that can be read, and why the others can't, by name.

    Raises:
        ValueError: If the user's losses are those of no run.
    """
    names = short_names(list(files))
    own = None if given is None else _by_name(given, dict(zip(names, files, strict=True)))
    runs, skipped = [], {}
    for name, (folder, file) in zip(names, files.items(), strict=True):
        try:
            history = SpectrumHistory.load(file)
            losses = read_losses(folder, tag) if own is None else own.get(name, {})
        except (ValueError, OSError) as error:  # noqa: PERF203 - the other runs are read
            skipped[name] = str(error)
        else:
            runs.append(Run(name, folder, history, losses))
    return runs, skipped


def _by_name(given: Mapping[str, Losses], folders: Mapping[str, Path]) -> dict[str, Losses]:
    """Return the user's losses by names of runs; refuse those of no run, or of several.

    They are given by name, or by a folder at or above that of the run.
    """
    owners = {
        key: [
            name
            for name, folder in folders.items()
            if key == name or (key and folder.is_relative_to(Path(key).resolve()))
        ]
        for key in given
    }
    wrong = [key for key, names in owners.items() if len(names) != 1]
    if wrong:
        raise ValueError(
            f"Expected the column `run` of the losses to name the runs {list(folders)}, or a "
            f"folder with a single one of them, but got {wrong}."
        )
    return {name: given[key] for key, (name,) in owners.items()}
