"""The spectra of a run over its epochs: checkpointed, saved beside the logs, loaded and plotted."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_lyap._atomic_files import whole_file
from lightning_lyap._version import __version__
from lightning_lyap.estimator.result import NUMBERS, VECTORS, LayeredSpectrum, MeanSpectrum
from lightning_lyap.history.saved_state import (
    WHOLE,
    no_errors,
    saved_json,
    saved_size,
    saved_tensors,
)
from lightning_lyap.plotting import plot_history, plot_spectrum


def draw_spectrum(spectrum: LayeredSpectrum, when: str, ax: Any = None) -> tuple[Any, Any]:
    """Draw a spectrum with all that it tells of itself; see `plotting.plot_spectrum`.

    Args:
        spectrum: What was measured.
        when: Says in the title when this was.
        ax: Axes to draw into, or None.

    Returns:
        Figure and axes.
    """
    return plot_spectrum(
        spectrum.exponents,
        spectrum.std,
        spectrum.resolved,
        settled=spectrum.settled,
        margins=spectrum.margins,
        layer=spectrum.layer,
        title=f"{when} · {spectrum.counted}",
        ax=ax,
    )


class SpectrumHistory:
    """The spectra that were measured in a run, in order.

    Args:
        settings: Plain numbers and strings that say how the spectra were measured.

    Attributes:
        settings: As given.
        epochs: Epochs completed at each measurement; 0 is before training.
        steps: Step of the logger at each measurement.
        seconds: Wall time of each measurement.
        spectra: The spectra.
        failures: Measurements that failed, whose spectra fail their certificate, or that did not
            reach a figure, a logger or a file: epoch, step and message of each.

    Example:
        >>> history = SpectrumHistory({"state": "full"})
        >>> len(history)
        0
    """

    def __init__(self, settings: dict[str, Any] | None = None) -> None:
        self.settings: dict[str, Any] = dict(settings or {})
        self.epochs: list[float] = []
        self.steps: list[int] = []
        self.seconds: list[float] = []
        self.spectra: list[LayeredSpectrum] = []
        self.failures: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self.spectra)

    def append(self, epoch: float, step: int, spectrum: MeanSpectrum, seconds: float) -> None:
        """Add a measurement.

        Args:
            epoch: Epochs completed.
            step: Step of the logger.
            spectrum: What was measured; copied to the CPU, its mean part and its layers alone.
            seconds: Wall time of the measurement.

        Raises:
            ValueError: If it has another size than those before.
        """
        if not self.takes(spectrum):
            before = self.spectra[0]
            raise ValueError(
                f"Expected a spectrum of {before.num_exponents} exponents, N = "
                f"{before.tangent_size}, as before, but got {spectrum.num_exponents}, N = "
                f"{spectrum.tangent_size}. Start a new history for another network."
            )
        # Inference tensors could not be saved or plotted outside inference mode.
        with torch.inference_mode(False):
            rows = {name: getattr(spectrum, name).detach().cpu().clone() for name in VECTORS}
            layer, errors = getattr(spectrum, "layer", None), spectrum.statistic_errors
            numbers: dict[str, Any] = {name: getattr(spectrum, name) for name in NUMBERS}
            self.spectra.append(
                LayeredSpectrum(
                    **rows,
                    **numbers,
                    layer=None if layer is None else layer.cpu().clone(),
                    statistic_errors=no_errors() if errors is None else errors.cpu().clone(),
                    num_sequences=spectrum.num_sequences,
                    tangent_size=spectrum.tangent_size,
                )
            )
        self.epochs.append(float(epoch))
        self.steps.append(int(step))
        self.seconds.append(float(seconds))

    def takes(self, spectrum: MeanSpectrum) -> bool:
        """Return whether a spectrum has the size of those before; a history holds one size alone.

        Args:
            spectrum: What was measured.

        Returns:
            True if it has, and in an empty history.
        """
        sizes = {(one.num_exponents, one.tangent_size) for one in (*self.spectra[:1], spectrum)}
        return len(sizes) == 1

    def record_failure(self, epoch: float, step: int, message: str) -> None:
        """Add a measurement that failed.

        Args:
            epoch: Epochs completed.
            step: Step of the logger.
            message: What went wrong.
        """
        self.failures.append({"epoch": float(epoch), "step": int(step), "message": message})

    def exponents(self) -> Tensor:
        """Return all spectra, ``[E, K]``, nats per step."""
        return self._rows("exponents")

    def plot(self, ax: Any = None) -> tuple[Any, Any]:
        """Draw all spectra as a heat map, epoch by index; see `plotting.plot_history`.

        Args:
            ax: Axes to draw into, or None.

        Returns:
            Figure and axes.
        """
        self._require_spectra()
        epochs = torch.tensor(self.epochs)
        return plot_history(
            epochs,
            self.exponents(),
            self._rows("resolved"),
            settled=self._rows("settled"),
            ax=ax,
        )

    def plot_spectrum(self, index: int = -1, ax: Any = None) -> tuple[Any, Any]:
        """Draw one spectrum with its band and intervals; see `plotting.plot_spectrum`.

        Args:
            index: Which measurement, as in a list.
            ax: Axes to draw into, or None.

        Returns:
            Figure and axes.
        """
        self._require_spectra()
        return draw_spectrum(self.spectra[index], f"epoch {self.epochs[index]:g}", ax)

    def state_dict(self) -> dict[str, Any]:
        """Return tensors, numbers and text only, fit for checkpoints loaded with weights_only."""
        state: dict[str, Any] = {name: self._rows(name) for name in WHOLE} if self.spectra else {}
        if any(spectrum.layer is not None for spectrum in self.spectra):
            # Whether layers are told apart may change within a run.
            unknown = torch.full((self.spectra[0].num_exponents,), -1)
            rows = [unknown if s.layer is None else s.layer for s in self.spectra]
            state["layer"] = torch.stack(rows)
        return state | {
            "epochs": torch.tensor(self.epochs, dtype=torch.float64),
            "steps": torch.tensor(self.steps, dtype=torch.int64),
            "seconds": torch.tensor(self.seconds, dtype=torch.float64),
            "num_sequences": torch.tensor([s.num_sequences for s in self.spectra]).long(),
            **{
                name: torch.tensor([getattr(s, name) for s in self.spectra]).double()
                for name in NUMBERS
            },
            "tangent_size": self.spectra[0].tangent_size if self.spectra else 0,
            "failures": json.dumps(self.failures),
            "settings": json.dumps(self.settings),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned, all of it or nothing.

        Args:
            state: Tensors, numbers and text.

        Raises:
            ValueError: If something is missing or does not fit together.
        """
        # All is read before anything is taken over: a state that is refused changes nothing.
        saved = saved_tensors(state)
        settings = saved_json(state, "settings", dict)
        failures = saved_json(state, "failures", list)
        size = saved_size(state, saved["exponents"].shape[1]) if "exponents" in saved else 0
        told = saved.get("layer", [None] * len(saved["epochs"]))
        layers = [row if row is not None and bool((row >= 0).all()) else None for row in told]
        self.spectra = []
        for index in range(len(saved["epochs"])):
            rows: dict[str, Any] = {name: saved[name][index] for name in WHOLE}
            numbers: dict[str, Any] = {name: float(saved[name][index]) for name in NUMBERS}
            count = int(saved["num_sequences"][index])
            self.spectra.append(
                LayeredSpectrum(
                    **rows,
                    **numbers,
                    layer=layers[index],
                    num_sequences=count,
                    tangent_size=size,
                )
            )
        self.settings, self.failures = settings, failures
        self.epochs = saved["epochs"].tolist()
        self.steps = saved["steps"].tolist()
        self.seconds = saved["seconds"].tolist()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the history as a NumPy archive of numbers and text; the file appears whole.

        Args:
            path: Where; the suffix ``.npz`` is added if it is missing.

        Returns:
            The path written.
        """
        target = Path(path)
        target = target if target.suffix == ".npz" else target.with_name(target.name + ".npz")
        arrays: dict[str, Any] = {k: np.asarray(v) for k, v in self.state_dict().items()}
        with whole_file(target) as partial, partial.open("wb") as file:
            np.savez(file, version=np.asarray(__version__), **arrays)
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "SpectrumHistory":
        """Read a history that `save` has written.

        Args:
            path: The file.

        Returns:
            The history.

        Raises:
            FileNotFoundError: If there is no such file.
            TypeError: If ``path`` is no path.
            ValueError: If it is no such file, or damaged.
        """
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"Expected `path` to be a path, but got {path!r}.")
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            state = {
                name: str(array) if array.dtype.kind == "U" else torch.from_numpy(array.copy())
                for name, array in arrays.items()
            }
            history = cls()
            history.load_state_dict(state)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"Expected {os.fspath(path)!r} to be a file of spectra, but there is none. It is "
                "LOG_DIR/lyapunov/spectra.npz of a run with LyapunovSpectrumCallback(save=True)."
            ) from error
        # A damaged archive can raise anything: errors of zipfile, zlib, NumPy and torch.
        except Exception as error:
            raise ValueError(
                f"Expected {os.fspath(path)!r} to be a file of spectra written by "
                f"lightning_lyap, but it can't be read as one: {error}. The file is left as it "
                "is; every checkpoint of the run holds the spectra, too."
            ) from error
        return history

    def _rows(self, name: str) -> Tensor:
        """Stack one field of all spectra, ``[E, K]``."""
        return torch.stack([getattr(spectrum, name) for spectrum in self.spectra])

    def _require_spectra(self) -> None:
        """Refuse to draw an empty history."""
        if not self.spectra:
            raise ValueError("Expected at least one spectrum to draw, but the history is empty.")
