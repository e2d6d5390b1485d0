"""The histories of a run, and what failed in it: counted, warned about once, or raised."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, get_args

from lightning_utilities.core.rank_zero import rank_zero_warn
from pytorch_lightning import Trainer

from lightning_lyap._checks import check_choice
from lightning_lyap.callback.errors import OUTCOMES, Doing, OnError, guarded
from lightning_lyap.callback.measurement import Measurement
from lightning_lyap.callback.trainer import completed_epochs, logging_step
from lightning_lyap.estimator.result import MeanSpectrum
from lightning_lyap.history import SpectrumHistory


class Ledger:
    """Keeps the spectra of each module and the account of what failed.

    Args:
        settings: How spectra are measured, plain numbers and text.
        on_error: ``"warn"`` to count what fails and warn about the first of its kind, ``"raise"``
            to let errors pass.

    Attributes:
        histories: The spectra of each module so far.
        on_error: As given.

    Raises:
        ValueError: If ``on_error`` is another word.
    """

    def __init__(self, settings: dict[str, Any], on_error: OnError = "warn") -> None:
        check_choice("on_error", on_error, get_args(OnError))
        self.histories: dict[str, SpectrumHistory] = {}
        self.on_error = on_error
        self._settings = settings
        self._warned: set[str] = set()

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
        self.histories.clear()
        self.histories.update(loaded)
        for module, history in loaded.items():
            expected = self._new(module).settings
            if history.settings != expected:
                self.warn_once(
                    "settings",
                    f"The spectra of {module!r} in the checkpoint were measured with "
                    f"{history.settings}, those to come will be with {expected}: one history will "
                    "hold both, or begin anew if their size differs.",
                )

    def history(self, module: str) -> SpectrumHistory:
        """Return the history of a module, a new one at first.

        Args:
            module: The module's name.

        Returns:
            Its history.
        """
        if module not in self.histories:
            self.histories[module] = self._new(module)
        return self.histories[module]

    def history_for(self, module: str, spectrum: MeanSpectrum) -> SpectrumHistory:
        """Return the history that takes a spectrum, a new one if its size has changed.

        A run may go on with other settings, or with another network.

        Args:
            module: The module's name.
            spectrum: Its spectrum.

        Returns:
            Its history; failures before stay counted.
        """
        before = self.history(module)
        if before.takes(spectrum):
            return before
        self.histories[module] = self._new(module)
        self.histories[module].failures += before.failures
        self.warn_once(
            f"size {module}",
            f"The spectra of {module!r} now have {spectrum.num_exponents} exponents, N = "
            f"{spectrum.tangent_size}, and had {before.spectra[0].num_exponents}, N = "
            f"{before.spectra[0].tangent_size}: its history begins anew. Checkpoints written "
            "before hold the one that ends here; where files are written, it goes to "
            "`spectra_until_step_*.npz`.",
        )
        return self.histories[module]

    def _new(self, module: str) -> SpectrumHistory:
        """Return an empty history of a module."""
        return SpectrumHistory(self._settings | {"module": module})

    def _count(self, trainer: Trainer, module: str, message: str) -> None:
        """Record a failure in the history of a module.

        Args:
            trainer: The Trainer.
            module: The module's name.
            message: What went wrong.
        """
        epoch, step = completed_epochs(trainer), logging_step(trainer)
        self.history(module).record_failure(epoch, step, message)

    def guard(
        self, trainer: Trainer, modules: Iterable[str], doing: Doing
    ) -> AbstractContextManager[None]:
        """Turn an error into a counted failure and one warning, unless errors are to be raised.

        Args:
            trainer: The Trainer.
            modules: The modules concerned.
            doing: What is being done.

        Returns:
            A context.
        """
        return guarded(
            self.on_error, doing, lambda message: self.failed(trainer, modules, message, doing)
        )

    def failed(
        self, trainer: Trainer, modules: Iterable[str], message: str, doing: Doing = "measuring"
    ) -> None:
        """Count a failure in the histories and warn about the first of its kind.

        Measurements of different modules fail for different reasons: the first of each is told.

        Args:
            trainer: The Trainer.
            modules: The modules concerned.
            message: What went wrong.
            doing: What was being done.
        """
        for module in modules:
            self._count(trainer, module, message)
        kinds = {f"failed {doing} {module}" for module in modules}
        kinds = kinds if doing == "measuring" and kinds else {f"failed {doing}"}
        if kinds <= self._warned:
            return
        self._warned |= kinds
        rank_zero_warn(
            f"{OUTCOMES[doing]}: {message.rstrip('.')}. Training goes on; the history counts each "
            "failure. Use on_error='raise' to stop instead.",
        )

    def refuse(self, unsupported: Mapping[str, str]) -> None:
        """Say which modules have no spectrum, before training starts.

        Args:
            unsupported: The reason why not, by module.

        Raises:
            ValueError: If there is one and errors are to be raised.
        """
        for module, reason in unsupported.items():
            message = (
                f"{reason} Choose others by `modules=[...]`, or let each direction be a module of "
                "its own (bidirectional=False)."
            )
            if self.on_error == "raise":
                raise ValueError(message)
            self.warn_once(f"unsupported {module}", message)

    def count_unsupported(self, trainer: Trainer, unsupported: Mapping[str, str]) -> None:
        """Count a measurement that modules without a spectrum are missing from.

        Args:
            trainer: The Trainer.
            unsupported: The reason why not, by module.
        """
        for module, reason in unsupported.items():
            self._count(trainer, module, reason)

    def examine(self, trainer: Trainer, measured: Mapping[str, Measurement]) -> None:
        """Count spectra that are lost or fail their certificates; all processes agree on which.

        Args:
            trainer: The Trainer.
            measured: Measurements by module.

        Raises:
            RuntimeError: If there is one and errors are to be raised.
        """
        for module, measurement in measured.items():
            lost, fault = measurement.num_lost, measurement.fault
            if measurement.is_lost:
                message = (
                    f"none of the sequences of {module!r} stayed finite: its weights or inputs are "
                    "not finite, or the state or the tangent vectors overflowed. Look at them, "
                    "lower `orthonormalize_every`, or use dtype='float64'"
                )
                with self.guard(trainer, [module], "measuring"):
                    raise RuntimeError(message)
            elif lost:
                self.warn_once(
                    "lost",
                    f"{lost} of the sequences of {module!r} did not stay finite and are left out "
                    "of its spectrum: the state or the tangent vectors overflowed. Look at the "
                    "weights and inputs, lower `orthonormalize_every`, or use dtype='float64'.",
                )
            if fault is not None and self.on_error == "raise":
                raise RuntimeError(
                    f"The Lyapunov spectrum of {module!r} fails its certificate: {fault}."
                )
            if fault is not None:
                self.uncertified(trainer, module, fault)

    def uncertified(self, trainer: Trainer, module: str, fault: str) -> None:
        """Record a spectrum that fails its certificate and warn about the first.

        Args:
            trainer: The Trainer.
            module: The module's name.
            fault: Which checks failed.
        """
        message = f"fails its certificate: {fault}"
        self._count(trainer, module, message)
        self.warn_once(
            "certificate",
            f"The Lyapunov spectrum of {module!r} {message}. Don't trust it: `certified` is logged "
            "as 0, the history records each failure. A subclass of torch's modules with a forward "
            "pass of its own must be known by `register_recurrence`; anything else is an error of "
            "lightning_lyap: please report it. Use on_error='raise' to stop instead.",
        )

    def warn_once(self, key: str, message: str | None) -> None:
        """Warn on rank zero, once for each key.

        Args:
            key: What counts as the same warning.
            message: What to say; None says nothing.
        """
        if message is not None and key not in self._warned:
            self._warned.add(key)
            rank_zero_warn(message)
