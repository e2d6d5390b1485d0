"""The spectra of each module of a run so far."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_lyap.callback.errors import WarnOnce
from lightning_lyap.estimator.result import MeanSpectrum
from lightning_lyap.history import SpectrumHistory


class RunHistories:
    """The spectra of each module so far.

    Args:
        settings: How spectra are measured, plain numbers and text.
        warn_once: Says what a user should know.

    Attributes:
        by_module: The histories.
        ended: Histories that others of the same module follow, by the folder they are still to be
            written to.
    """

    def __init__(self, settings: Mapping[str, Any], warn_once: WarnOnce) -> None:
        self.by_module: dict[str, SpectrumHistory] = {}
        self.ended: dict[Path, SpectrumHistory] = {}
        self._settings = dict(settings)
        self._warn_once = warn_once

    def load(self, states: Mapping[str, dict[str, Any]]) -> None:
        """Go on with the histories of a checkpoint.

        Args:
            states: What `SpectrumHistory.state_dict` returned, by module.

        Raises:
            ValueError: If one of them is something else; nothing has changed then.
        """
        loaded = {module: self._new(module) for module in states}
        for module, history in loaded.items():
            history.load_state_dict(states[module])
        self.by_module.clear()
        self.by_module.update(loaded)
        for module, history in loaded.items():
            expected = self._new(module).settings
            if history.settings != expected:
                self._warn_once(
                    f"The spectra of {module!r} in the checkpoint were measured with "
                    f"{history.settings}, those to come will be with {expected}: one history will "
                    "hold both, or begin anew if their size differs.",
                    "settings",
                )

    def of(self, module: str) -> SpectrumHistory:
        """Return the history of a module, a new one at first.

        Args:
            module: The module's name.

        Returns:
            Its history.
        """
        if module not in self.by_module:
            self.by_module[module] = self._new(module)
        return self.by_module[module]

    def for_spectrum(self, module: str, spectrum: MeanSpectrum) -> SpectrumHistory:
        """Return the history that takes a spectrum, a new one if its size has changed.

        A run may go on with other settings, or with another network.

        Args:
            module: The module's name.
            spectrum: Its spectrum.

        Returns:
            Its history; failures before stay counted.
        """
        before = self.of(module)
        if before.takes(spectrum):
            return before
        self.by_module[module] = self._new(module)
        self.by_module[module].failures += before.failures
        self._warn_once(
            f"The spectra of {module!r} now have {spectrum.num_exponents} exponents, N = "
            f"{spectrum.tangent_size}, and had {before.spectra[0].num_exponents}, N = "
            f"{before.spectra[0].tangent_size}: its history begins anew. Checkpoints written "
            "before hold the one that ends here; where files are written, it goes to "
            "`spectra_until_step_*.npz`.",
            f"size {module}",
        )
        return self.by_module[module]

    def _new(self, module: str) -> SpectrumHistory:
        """Return an empty history of a module."""
        return SpectrumHistory(self._settings | {"module": module})
