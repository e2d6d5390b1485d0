"""Measures a network in one run of the Trainer: modules and sequences once, then round by round."""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar

import torch
from pytorch_lightning import LightningModule, Trainer

from lightning_lyap.callback.errors import describe, drop_frames, free_memory, ran_out_of_memory
from lightning_lyap.callback.failures import Failures
from lightning_lyap.callback.measurement import (
    Measurement,
    NetworkMeasurement,
    check_modules,
    combine_processes,
    estimate_spectra,
)
from lightning_lyap.callback.progress_bar import spectrum_progress
from lightning_lyap.callback.sequence_source import SequenceSource
from lightning_lyap.callback.trainer import first_reason
from lightning_lyap.estimator.result import SpectrumEstimate
from lightning_lyap.estimator.settings import MeasurementSettings
from lightning_lyap.network.compiled import eagerly
from lightning_lyap.network.find_modules import split_recurrent_modules
from lightning_lyap.network.sequences import DrivingSequences
from lightning_lyap.network.undisturbed import preserved_generators

Estimates = dict[str, tuple[SpectrumEstimate, float]]
Reasons = dict[str, str]
Result = TypeVar("Result")
OF_ANOTHER_PROCESS = "RuntimeError while measuring: it failed in another process"


class NetworkProbe:
    """Watches the recurrent modules of a network and measures them, at most once a round.

    Args:
        trainer: The Trainer.
        network: The LightningModule.
        names: Of the modules to measure, as in ``named_modules()``; None for all.
        settings: How to measure.
        failures: Counts what fails.

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
        failures: Failures,
    ) -> None:
        self.modules, self._unsupported = split_recurrent_modules(network, names)
        failures.refuse(self._unsupported)
        check_modules(self.modules, settings)
        count, window = settings.num_sequences, settings.window
        self.source = SequenceSource(
            trainer, network, self.modules, count, window, failures.on_error
        )
        self._trainer = trainer
        self._settings = settings
        self._failures = failures
        self.is_due = False
        self._measured: NetworkMeasurement | None = None

    @property
    def is_ready(self) -> bool:
        """Whether there is a measurement to take, or it is known what to measure on."""
        return self._measured is not None or self.source.is_ready

    def begin(self, due: bool) -> None:
        """Begin a round, a validation or a test, and watch the modules if their inputs are needed.

        Args:
            due: Whether to measure at its end.
        """
        self.is_due = due
        self._measured = None
        if due:
            self.source.watch()

    def measure(self) -> NetworkMeasurement:
        """Measure all modules; nothing of the training changes.

        A module that fails costs its own spectrum alone. A process in which it fails tells the
        others, so that none waits for it.

        Returns:
            The measurement, which is kept until it is taken.

        Raises:
            Exception: If errors are to be raised; in other processes than that of the error a
                RuntimeError with its text.
        """
        start = time.perf_counter()
        measured: dict[str, Measurement] = {}
        self._failures.begin_measurement(self.modules, self._unsupported)
        estimates, reasons = self._estimate()
        reasons = self._agree(reasons)
        self._failures.report_all(reasons)
        # From here on all processes go through the same modules, and none waits for another.
        sound = {name: part for name, part in self.modules.items() if name not in reasons}
        with self._failures.guard(sound, "measuring"), torch.no_grad():
            measured = combine_processes(sound, estimates, self._settings)
            self._failures.examine(measured)
        self.source.stop()
        missing = tuple(name for name in self.modules if name not in measured)
        self._measured = NetworkMeasurement(measured, time.perf_counter() - start, missing)
        return self._measured

    def take(self) -> NetworkMeasurement:
        """Return what was measured in this round, now if it was not yet, and drop it here.

        Returns:
            The measurement.
        """
        measured = self._measured or self.measure()
        self._measured = None
        return measured

    def _estimate(self) -> tuple[Estimates, Reasons]:
        """Estimate the spectra on this process's sequences; return also why there are none."""
        shown = self._trainer.is_global_zero and self._trainer.progress_bar_callback is not None
        estimates: Estimates = {}
        with (
            preserved_generators(),
            torch.no_grad(),
            eagerly(),
            spectrum_progress(shown) as progress,
        ):
            taken, reason = self._attempt(self._take_sequences)
            sequences, reasons = taken or ({}, dict.fromkeys(self.modules, reason))
            for name, module in self.modules.items():
                if name in reasons:
                    continue
                driving = {name: sequences[name]} if name in sequences else {}
                # One by one: what fails in one module leaves the others their spectra.
                given = {name: module}, driving, self._settings, progress
                found, reason = self._attempt(partial(estimate_spectra, *given, quiet=True))
                estimates |= found or {}
                if found is None:
                    reasons[name] = reason
        return estimates, reasons

    def _take_sequences(self) -> tuple[Mapping[str, DrivingSequences], Reasons]:
        """Return what drives each module, and why there is nothing for others."""
        recorded = self.source.take()
        reasons: Reasons = {}
        no_memory = False
        for name, error in recorded.failures.items():
            if self._failures.on_error == "raise":
                raise error
            reasons[name] = describe(error, "measuring")
            no_memory |= ran_out_of_memory(error)
            drop_frames(error)
        if no_memory:
            free_memory()
        return recorded.sequences, reasons

    def _attempt(self, call: Callable[[], Result]) -> tuple[Result | None, str]:
        """Return what a call returns, or None and why it failed; tell all and raise if asked to."""
        try:
            return call(), ""
        # Memory that runs out, the user's modules, an error in this package: training goes on.
        except Exception as error:
            reason, no_memory = describe(error, "measuring"), ran_out_of_memory(error)
            if self._failures.on_error == "raise":
                self._agree(dict.fromkeys(self.modules, reason))
                raise
        if no_memory:
            free_memory()
        return None, reason

    def _agree(self, reasons: Reasons) -> Reasons:
        """Return why modules have no spectrum in some process; every process must ask."""
        # Collective calls: all processes make the same ones in the same order, whatever failed.
        decide = self._trainer.strategy.reduce_boolean_decision
        if decide(not reasons, all=True):
            return {}
        agreed: Reasons = {}
        for name in self.modules:
            if not decide(name not in reasons, all=True):
                reason = first_reason(self._trainer, reasons.get(name))
                agreed[name] = reasons.get(name, f"{OF_ANOTHER_PROCESS}: {reason}")
        return agreed
