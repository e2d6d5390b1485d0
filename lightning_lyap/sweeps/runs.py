"""The runs of a sweep: found below folders, loaded with their spectra and validation losses."""

import re
from collections import Counter
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
        name: What tells its folder from those of the other runs.
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
    chosen = {
        folder: _choose(found[folder], module) for folder in sorted(found, key=_natural_order)
    }
    return {folder: file for folder, file in chosen.items() if file is not None}


def _folders(places: Sequence[str]) -> list[Path]:
    """Expand glob patterns; a folder with such a name goes first.

    Args:
        places: Folders or patterns.

    Returns:
        Absolute folders.

    Raises:
        FileNotFoundError: If a place stands for none.
    """
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
    """Choose the spectra of one module.

    Args:
        files: By module; a run with a single one does not name it.
        module: The module asked for, or None.

    Returns:
        The file; None if the run has several modules, but not this one.

    Raises:
        ValueError: If there are several and none is asked for.
    """
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
    """Leave out the settings that all names have.

    Args:
        names: ``KEY=VALUE,KEY=VALUE``, or anything else, which stays as it is.

    Returns:
        A name for each.
    """
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
    if given is not None:
        _refuse_strangers(given, files, names)
    loaded = {
        name: _load(name, folder, file, tag, given)
        for name, (folder, file) in zip(names, files.items(), strict=True)
    }
    runs = [run for run in loaded.values() if isinstance(run, Run)]
    return runs, {name: why for name, why in loaded.items() if isinstance(why, str)}


def _load(
    name: str, folder: Path, file: Path, tag: str, given: Mapping[str, Losses] | None
) -> Run | str:
    """Load one run; see `load_runs`.

    Args:
        name: The run's name.
        folder: Its log folder.
        file: Its spectra.
        tag: Name of the validation loss.
        given: Losses of the user's by run, or None.

    Returns:
        The run, or why it can't be read.
    """
    try:
        history = SpectrumHistory.load(file)
        if given is None:
            return Run(name, folder, history, read_losses(folder, tag))
    except (ValueError, OSError) as error:
        return str(error)
    own = (losses for key, losses in given.items() if _is_of(key, name, folder))
    return Run(name, folder, history, next(own, {}))


def _is_of(key: str, name: str, folder: Path) -> bool:
    """Tell whether a key of the user's stands for a run.

    Args:
        key: The run's name, or a folder at or above its log folder.
        name: The run's name.
        folder: Its log folder.

    Returns:
        Whether it does.
    """
    return key == name or (bool(key) and folder.is_relative_to(Path(key).resolve()))


def _refuse_strangers(
    given: Mapping[str, Losses], folders: Iterable[Path], names: Sequence[str]
) -> None:
    """Refuse losses of no run, or of several: they would be mistaken.

    Args:
        given: Losses by run.
        folders: The runs' log folders.
        names: The runs' names.

    Raises:
        ValueError: If there are any.
    """
    pairs = list(zip(names, folders, strict=True))
    count = Counter({key: sum(_is_of(key, *pair) for pair in pairs) for key in given})
    wrong = [key for key in given if count[key] != 1]
    if wrong:
        raise ValueError(
            f"Expected the column `run` of the losses to name the runs {list(names)}, or a folder "
            f"with a single one of them, but got {wrong}."
        )
