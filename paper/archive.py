"""All numbers of many networks in one small file, to be drawn elsewhere.

Exponents are rounded to 1e-5 nats per step, their standard deviations over sequences to 1e-4; both
are stored as differences along the spectrum, which deflate well. Which exponents are resolved is
kept; their standard errors, margins and rounding errors stay behind and read as NaN. What figures
measured after training is rounded to 1e-5, too; what of it is not finite reads as NaN.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_lyap import SpectrumHistory
from lightning_lyap._atomic_files import whole_file
from lightning_lyap.estimator.result import MeanSpectrum
from paper.measured import Measured
from paper.records import Record

STEPS = {"exponents": 1e-5, "std": 1e-4}
MEASURED_STEP = 1e-5
ROUNDED = "~"  # ends the names of arrays that were rounded
LOST = np.iinfo(np.int32).min  # for what is not finite: -inf of exponents, NaN of the others


def save_records(records: Sequence[Record], path: Path) -> None:
    """Write records; the file appears whole.

    Args:
        records: Networks.
        path: The file.
    """
    arrays: dict[str, NDArray[Any]] = {}
    index = []
    for number, record in enumerate(records):
        histories = {"training": record.history, **record.best}
        for label, history in histories.items():
            for name, array in _pack(history).items():
                arrays[f"{number}.{label}.{name}"] = array
        entry: dict[str, Any] = {"about": record.about, "histories": list(histories)}
        entry["losses"] = sorted(record.losses.items())
        entry["measured"] = {name: one.about() for name, one in record.measured.items()}
        for label, one in record.measured.items():
            for name, array in one.arrays.items():
                for key, small in _shorten(name, array).items():
                    arrays[f"{number}.{label}.{key}"] = small
        index.append(entry)
    arrays["index"] = np.asarray(json.dumps(index))
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_records(paths: Iterable[Path]) -> list[Record]:
    """Read files that `save_records` has written.

    Args:
        paths: The files.

    Returns:
        Records, in order.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    records = []
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(
                f"Expected `results` to name files of `python -m paper.collect`, but got {path}, "
                "which is none."
            )
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        for number, entry in enumerate(json.loads(str(arrays["index"]))):
            histories = {
                label: _unpack(arrays, f"{number}.{label}") for label in entry["histories"]
            }
            losses = {float(epoch): float(loss) for epoch, loss in entry["losses"]}
            history = histories.pop("training")
            about = entry["about"]
            measured = {
                label: Measured.of(said, _lengthen(arrays, f"{number}.{label}."))
                for label, said in entry.get("measured", {}).items()
            }
            records.append(Record(str(about["name"]), about, history, losses, histories, measured))
    return records


def _pack(history: SpectrumHistory) -> dict[str, NDArray[Any]]:
    """Turn a history into small arrays.

    Args:
        history: Spectra.

    Returns:
        Arrays by name.
    """
    spectra = history.spectra
    facts = {
        "epochs": history.epochs,
        "steps": history.steps,
        "seconds": history.seconds,
        "settings": history.settings,
        "failures": history.failures,
        "num_sequences": [spectrum.num_sequences for spectrum in spectra],
        "tangent_size": [spectrum.tangent_size for spectrum in spectra],
    }
    packed: dict[str, NDArray[Any]] = {"facts": np.asarray(json.dumps(facts))}
    if spectra:
        for name, step in STEPS.items():
            packed[name] = _differences(torch.stack([getattr(s, name) for s in spectra]), step)
        packed["resolved"] = np.stack([spectrum.resolved.numpy() for spectrum in spectra])
    return packed


def _unpack(arrays: dict[str, NDArray[Any]], prefix: str) -> SpectrumHistory:
    """Restore a history.

    Args:
        arrays: All arrays of a file.
        prefix: Of those of this history.

    Returns:
        The history.
    """
    facts = json.loads(str(arrays[f"{prefix}.facts"]))
    history = SpectrumHistory(facts["settings"])
    history.failures = facts["failures"]
    for index, epoch in enumerate(facts["epochs"]):
        exponents = _sums(arrays[f"{prefix}.exponents"][index], STEPS["exponents"], -np.inf)
        unknown = torch.full_like(exponents, np.nan)
        spectrum = MeanSpectrum(
            exponents=exponents,
            std=_sums(arrays[f"{prefix}.std"][index], STEPS["std"], np.nan),
            standard_errors=unknown,
            margins=unknown,
            resolved=torch.from_numpy(arrays[f"{prefix}.resolved"][index].copy()),
            settled=torch.zeros(len(exponents), dtype=torch.bool),  # not kept
            rounding_errors=unknown,
            num_sequences=facts["num_sequences"][index],
            tangent_size=facts["tangent_size"][index],
        )
        history.append(epoch, facts["steps"][index], spectrum, facts["seconds"][index])
    return history


def _shorten(name: str, array: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Turn an array of a measurement into a small one.

    Args:
        name: Its name.
        array: Numbers; floating-point ones are rounded.

    Returns:
        The small array by its name, which tells whether it was rounded.
    """
    if array.dtype.kind != "f":
        return {name: array}
    return {name + ROUNDED: _differences(torch.from_numpy(array), MEASURED_STEP)}


def _lengthen(arrays: dict[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """Invert `_shorten` for all arrays of a measurement.

    Args:
        arrays: All arrays of a file.
        prefix: Of those of this measurement.

    Returns:
        Arrays by name.
    """
    restored = {}
    for key, array in arrays.items():
        if key.startswith(prefix):
            name = key.removeprefix(prefix)
            rounded = name.endswith(ROUNDED)
            whole = _sums(array, MEASURED_STEP, np.nan).numpy() if rounded else array
            restored[name.removesuffix(ROUNDED)] = whole
    return restored


def _differences(values: Tensor, step: float) -> NDArray[np.int64]:
    """Round values and take their differences along the last dimension.

    Args:
        values: ``[..., K]``.
        step: What they are rounded to.

    Returns:
        ``[..., K]``, whole numbers of steps.
    """
    array = values.double().numpy()
    finite = np.isfinite(array)
    whole = np.where(finite, np.rint(np.where(finite, array, 0) / step), LOST).astype(np.int64)
    return np.diff(whole, axis=-1, prepend=0)


def _sums(differences: NDArray[np.int64], step: float, lost: float) -> Tensor:
    """Invert `_differences`.

    Args:
        differences: ``[..., K]``.
        step: What values were rounded to.
        lost: What is not finite.

    Returns:
        ``[..., K]``, float64.
    """
    whole = differences.cumsum(-1)
    return torch.from_numpy(np.where(whole == LOST, lost, whole * step))
