"""Measures a network in one run of the Trainer: modules and sequences once, then round by round."""

import time
from collections.abc import Iterable

import torch
from pytorch_lightning import LightningModule, Trainer

from lightning_lyap.compiled import eagerly
from lightning_lyap.driving import open_source
from lightning_lyap.estimate import SpectrumEstimate
from lightning_lyap.failures import describe
from lightning_lyap.finding import split_recurrent_modules
from lightning_lyap.generators import preserved_generators
from lightning_lyap.ledger import Ledger
from lightning_lyap.probe import (
    Measurement,
    NetworkMeasurement,
    ProbeSettings,
    check_modules,
    combine_processes,
    estimate_spectra,
)
from lightning_lyap.progress import spectrum_progress
from lightning_lyap.trainer_facts import first_reason

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
        settings: ProbeSettings,
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

        A process that fails tells the others, so that none waits for it.

        Args:
            trainer: The Trainer.
            network: The LightningModule.

        Returns:
            The measurement, which is kept until it is taken.
        """
        start = time.perf_counter()
        measured: dict[str, Measurement] = {}
        self._ledger.count_unsupported(trainer, self._unsupported)
        estimates, failure = self._estimate(trainer, network)
        all_well = trainer.strategy.reduce_boolean_decision(failure is None, all=True)
        with self._ledger.guard(trainer, self.modules, "measuring"), torch.no_grad():
            try:
                if not all_well:
                    own = None if failure is None else describe(failure, "measuring")
                    reason = first_reason(trainer, own)
                    raise failure or RuntimeError(f"it failed in another process: {reason}")
            finally:
                failure = None  # holds this frame, and so all that the estimator held
            measured = combine_processes(self.modules, estimates, self._settings)
            self._ledger.examine(trainer, measured)
        self.source.stop()
        self._measured = NetworkMeasurement(measured, time.perf_counter() - start)
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
    ) -> tuple[Estimates, Exception | None]:
        """Estimate the spectra on this process's sequences.

        Args:
            trainer: The Trainer.
            network: The LightningModule.

        Returns:
            Estimates by module, and why there are none.
        """
        shown = trainer.is_global_zero and trainer.progress_bar_callback is not None
        with (
            preserved_generators(),
            torch.no_grad(),
            eagerly(),
            spectrum_progress(shown) as progress,
        ):
            try:
                sequences = self.source.take(trainer, network)
                estimates = estimate_spectra(
                    self.modules, sequences, self._settings, progress, quiet=True
                )
            except Exception as error:
                return {}, error
        return estimates, None
