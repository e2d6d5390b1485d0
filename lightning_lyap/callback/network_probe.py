"""Measures a network in one run of the Trainer: modules and sequences once, then round by round."""

import sys
import time
from collections.abc import Callable, Iterable, Mapping

import torch
from pytorch_lightning import LightningModule, Trainer

from lightning_lyap.callback.errors import describe, release
from lightning_lyap.callback.measurement import (
    Measurement,
    NetworkMeasurement,
    check_modules,
    combine_processes,
    estimate_spectra,
)
from lightning_lyap.callback.progress_bar import spectrum_progress
from lightning_lyap.callback.run_histories import Ledger
from lightning_lyap.callback.sequence_source import open_source
from lightning_lyap.callback.trainer import first_reason
from lightning_lyap.estimator.result import SpectrumEstimate
from lightning_lyap.estimator.settings import MeasurementSettings
from lightning_lyap.network.compiled import eagerly
from lightning_lyap.network.find_modules import split_recurrent_modules
from lightning_lyap.network.sequences import DrivingSequences
from lightning_lyap.network.undisturbed import preserved_generators

Estimates = dict[str, tuple[SpectrumEstimate, float]]


class NetworkProbe:
    """Watches the recurrent modules of a network and measures them, at most once a round.

    Args:
        trainer: The Trainer.
        network: The LightningModule.
        names: Of the modules to measure, as in ``named_modules()``; None for all.
        settings: How to measure.
        ledger: Counts what fails.

    Attributes:
        modules: The modules that are measured, by name.
        source: Where their sequences come from.
        is_due: Whether this round is to be measured.

    Raises:
        ValueError: If there is no recurrent module, or one without known layers where they are
            asked for, or there are too few sequences.
        Exception: If errors are to be raised, also if a module has no spectrum, and whatever the
            DataModule raises.
    """

    def __init__(
        self,
        trainer: Trainer,
        network: LightningModule,
        names: Iterable[str] | None,
        settings: MeasurementSettings,
        ledger: Ledger,
    ) -> None:
        self.modules, self._unsupported = split_recurrent_modules(network, names)
        ledger.refuse(self._unsupported)
        check_modules(self.modules, settings)
        self.source = open_source(
            trainer, self.modules, settings.num_sequences, settings.window, ledger.on_error
        )
        self._settings = settings
        self._ledger = ledger
        self.is_due = False
        self._measured: NetworkMeasurement | None = None

    def begin(self, due: bool) -> None:
        """Begin a round, a validation or a test, and watch the modules if their inputs are needed.

        Args:
            due: Whether to measure at its end.
        """
        self.is_due = due
        self._measured = None
        if due:
            self.source.watch()

    def measure(self, trainer: Trainer, network: LightningModule) -> NetworkMeasurement:
        """Measure all modules; nothing of the training changes.

        A module that fails costs its own spectrum alone. A process in which it fails tells the
        others, so that none waits for it.

        Args:
            trainer: The Trainer.
            network: The LightningModule.

        Returns:
            The measurement, which is kept until it is taken.
        """
        start = time.perf_counter()
        measured: dict[str, Measurement] = {}
        self._ledger.count_unsupported(trainer, self._unsupported)
        for name in self.modules:  # in this order, whatever fails
            self._ledger.history(name)
        estimates, failures = self._estimate(trainer, network)
        self._share_failures(trainer, failures)
        whole = {name: part for name, part in self.modules.items() if name not in failures}
        self._report(trainer, failures)
        with self._ledger.guard(trainer, whole, "measuring"), torch.no_grad():
            measured = combine_processes(whole, estimates, self._settings)
            self._ledger.examine(trainer, measured)
        self.source.stop()
        missing = tuple(name for name in self.modules if name not in measured)
        self._measured = NetworkMeasurement(measured, time.perf_counter() - start, missing)
        return self._measured

    def take(self, trainer: Trainer, network: LightningModule) -> NetworkMeasurement:
        """Return what was measured in this round, now if it was not yet, and drop it here.

        Args:
            trainer: The Trainer.
            network: The LightningModule.

        Returns:
            The measurement.
        """
        measured = self._measured or self.measure(trainer, network)
        self._measured = None
        return measured

    def _estimate(
        self, trainer: Trainer, network: LightningModule
    ) -> tuple[Estimates, dict[str, Exception]]:
        """Estimate the spectra on this process's sequences.

        Args:
            trainer: The Trainer.
            network: The LightningModule.

        Returns:
            Estimates by module, and why there are none of others. Where errors are to be raised,
            the first is the only one.
        """
        of_the_user = sys.exc_info()[1]
        estimates: Estimates = {}
        shown = trainer.is_global_zero and trainer.progress_bar_callback is not None
        with (
            preserved_generators(),
            torch.no_grad(),
            eagerly(),
            spectrum_progress(shown) as progress,
        ):
            try:
                sequences, failures = self.source.take(trainer, network)
            except Exception as error:
                sequences, failures = {}, dict.fromkeys(self.modules, error)
            self._let_go(failures, of_the_user)
            for name in self.modules:
                if name not in failures:
                    driving = {name: sequences[name]} if name in sequences else {}
                    found, failed = self._attempt(name, driving, progress)
                    self._let_go(failed, of_the_user)
                    estimates |= found
                    failures |= failed
                if name in failures and self._ledger.on_error == "raise":
                    for other in failures.keys() - {name}:
                        del failures[other]
                    return {}, failures
        return estimates, failures

    def _attempt(
        self,
        name: str,
        driving: Mapping[str, DrivingSequences],
        progress: Callable[[str, int, int], None] | None,
    ) -> tuple[Estimates, dict[str, Exception]]:
        """Estimate the spectrum of one module.

        Args:
            name: The module's name.
            driving: Its sequences in this process by its name, if there are any.
            progress: See `estimate_spectra`.

        Returns:
            Its estimate by its name, if it has sequences; and why that failed, if it did.
        """
        module = {name: self.modules[name]}
        try:
            return estimate_spectra(module, driving, self._settings, progress, quiet=True), {}
        except Exception as error:
            return {}, {name: error}

    def _let_go(self, failures: Mapping[str, Exception], of_the_user: BaseException | None) -> None:
        """Let go of what errors hold, unless they are to be raised: the next module may need it.

        Args:
            failures: Errors by module, one may stand for several.
            of_the_user: An error that was being handled before.
        """
        if self._ledger.on_error == "warn":
            for error in {id(error): error for error in failures.values()}.values():
                release(error, of_the_user)

    def _share_failures(self, trainer: Trainer, failures: dict[str, Exception]) -> None:
        """Tell every process which modules failed in one of them; every process must ask.

        Args:
            trainer: The Trainer.
            failures: Errors of this process by module; those of others are added.
        """
        if trainer.strategy.reduce_boolean_decision(not failures, all=True):
            return
        for name in self.modules:
            own = failures.get(name)
            if trainer.strategy.reduce_boolean_decision(own is None, all=True):
                continue
            reason = first_reason(trainer, None if own is None else describe(own, "measuring"))
            if own is None:
                failures[name] = RuntimeError(f"it failed in another process: {reason}")
            own = None  # this frame is part of its traceback

    def _report(self, trainer: Trainer, failures: dict[str, Exception]) -> None:
        """Count and warn about what failed, once where it is the same for several modules.

        Args:
            trainer: The Trainer.
            failures: Errors by module; none are left.

        Raises:
            Exception: The first of them, if errors are to be raised.
        """
        while failures:
            reasons = {
                name: describe(failures[name], "measuring")
                for name in self.modules
                if name in failures
            }
            first = next(iter(reasons.values()))
            names = [name for name, reason in reasons.items() if reason == first]
            with self._ledger.guard(trainer, names, "measuring"):
                try:
                    raise failures[names[0]]
                finally:  # this frame is part of its traceback
                    for name in names:
                        del failures[name]
