"""What a measurement leaves behind: scalars, histories, figures, files, warnings."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from lightning_utilities.core.rank_zero import rank_zero_info
from numpy.typing import NDArray
from pytorch_lightning import LightningModule, Trainer

from lightning_lyap.callback.cost import advice
from lightning_lyap.callback.errors import WarnOnce, guarded
from lightning_lyap.callback.failures import Failures
from lightning_lyap.callback.loggers import log_histogram, log_image, scalars_alone
from lightning_lyap.callback.measurement import Measurement, NetworkMeasurement
from lightning_lyap.callback.outputs import draw_figures, scalars, split_finite, write_files
from lightning_lyap.callback.run_state import RunState
from lightning_lyap.callback.tensorboard_layout import lay_out_scalars, scalar_layout
from lightning_lyap.callback.trainer import (
    completed_epochs,
    is_fitting,
    log_folder,
    logging_step,
    running_method,
    writes_files,
)
from lightning_lyap.estimator.remarks import overlap_remark, settling_remark
from lightning_lyap.history import SpectrumHistory

Images: TypeAlias = dict[str, NDArray[np.uint8]]


class Reporter:
    """Reports the measurements of one callback in one run of the Trainer; every process has one.

    Args:
        trainer: The Trainer.
        modules: Names of the modules that are measured.
        name: Prefix of tags and name of the folder.
        state: The run so far.
        failures: Counts what fails.
        warn_once: Says what a user should know.
        figures: Whether to draw figures.
        save: Whether to write files.
    """

    def __init__(
        self,
        trainer: Trainer,
        modules: Iterable[str],
        name: str,
        state: RunState,
        failures: Failures,
        warn_once: WarnOnce,
        figures: bool,
        save: bool,
    ) -> None:
        self._trainer = trainer
        self._modules = tuple(modules)
        self._name = name
        self._state = state
        self._failures = failures
        self._warn_once = warn_once
        self._figures = figures
        self._folder: Path | None = None
        if save and writes_files(trainer):
            with failures.guard(self._modules, "finding the folder"):
                self._folder = log_folder(trainer) / name
        if is_fitting(trainer):
            with failures.guard((), "logging"):
                self._name_loggers_of_scalars()

    def remark(self, unseen: bool) -> None:
        """Say what the run that begins goes without.

        Args:
            unseen: Whether a spectrum before training was wanted and nothing to measure it on seen.
        """
        validates = self._trainer.enable_validation
        if unseen and validates:
            rank_zero_info(
                "No Lyapunov spectrum before training: the sanity check that would show what the "
                "recurrent modules receive is off (num_sanity_val_steps=0), and the DataModule "
                "offers no `lyapunov_sequences`."
            )
        if not validates:
            self._warn_once(
                "No Lyapunov spectra while this network trains: they are measured after "
                "validations, and there are none. Give the Trainer validation batches.",
                "no validation",
            )
        if self._trainer.barebones:
            self._warn_once(
                "Trainer(barebones=True) logs nothing: Lyapunov spectra are in `histories` of the "
                "callback and in its files alone.",
                "barebones",
            )

    def lay_out(self, modules: Mapping[str, tuple[str, ...]]) -> None:
        """Arrange TensorBoard's CUSTOM SCALARS; for rank zero.

        Args:
            modules: Names of the modules measured, by the prefix of their tags.

        Raises:
            Exception: Whatever a logger raises, if errors are to be raised.
        """

        def report(reason: str) -> None:
            self._warn_once(
                f"The charts of TensorBoard's CUSTOM SCALARS could not be arranged ({reason}). All "
                "scalars are logged nevertheless.",
                "layout",
            )

        with guarded(self._failures.on_error, "arranging them", report):
            lay_out_scalars(self._trainer.loggers, scalar_layout(modules))

    def publish(self, measured: NetworkMeasurement, every: int) -> dict[str, float]:
        """Write histories, figures and files, and return the scalars.

        Args:
            measured: What was measured.
            every: Setting of ``every_n_validations``.

        Returns:
            Finite scalars by key; none if the measurement failed. A module none of whose sequences
            stayed finite has none.
        """
        start = time.perf_counter()
        # Keys do not depend on what fails: with several modules each has its name in them.
        several = len(measured.by_module) + len(measured.missing) > 1
        infixes = {name: f"{name}/" if several else "" for name in measured.by_module}
        # Histories and figures first: their time is part of the cost that is logged below.
        for module, measurement in measured.by_module.items():
            with self._failures.guard([module], "logging"):
                self._record_and_send(module, infixes[module], measurement)
        values: dict[str, float] = {}
        with self._failures.guard(measured.by_module, "logging"):
            for module, measurement in measured.by_module.items():
                if not measurement.is_lost:  # counts of NaN are no numbers to show
                    values |= scalars(f"{self._name}/{infixes[module]}", measurement)
            values = self._without_infinities(values)
        if values:
            values |= self._cost(measured.seconds + time.perf_counter() - start, every)
        return values

    def log(self, network: LightningModule, values: dict[str, float]) -> None:
        """Log values in the validation or test that ends, and keep the last of each in a fit.

        Args:
            network: Whose logging it is.
            values: Finite scalars by key; none if the measurement failed.
        """
        with self._failures.guard(self._modules, "logging"):
            if values and not self._trainer.barebones:
                # All processes hold the same numbers, so their mean is each. Without a batch size
                # Lightning would look for one in the last batch of the user's.
                network.log_dict(values, batch_size=1, sync_dist=True)
        if is_fitting(self._trainer):
            self._state.last = self._state.last | values
            if self._state.last.keys() - values.keys():
                self.recall()

    def log_before_training(self, values: dict[str, float]) -> None:
        """Send the values of the untrained network, which Lightning has no hook to log in.

        Args:
            values: Finite scalars by key; none if the measurement failed.
        """
        self._state.last = values
        for logger in self._trainer.loggers if values else ():
            with self._failures.guard(self._modules, "logging"):
                # A copy each: loggers add to what they are given, or take from it.
                logger.log_metrics(dict(values), step=logging_step(self._trainer))

    def recall(self) -> None:
        """Let monitors find the last value of a key that was not logged in this run of the Trainer.

        After a resumption they then act as in the uninterrupted run, before the first validation
        they find the untrained network's, and a measurement that fails leaves what was measured
        before. Logging these values would write them again.
        """
        if self._trainer.barebones:
            return
        last, metrics = self._state.last, self._trainer.callback_metrics
        for key in last.keys() - metrics.keys():
            metrics[key] = torch.tensor(last[key])

    def _record_and_send(self, module: str, infix: str, measurement: Measurement) -> None:
        """Add a measurement to its history and send out what is no scalar."""
        fitting, spectrum = is_fitting(self._trainer), measurement.spectrum
        self._remark_on(module, measurement)
        before = history = self._state.histories.of(module)
        if fitting:
            history = self._state.histories.for_spectrum(module, spectrum)
            epoch, step = completed_epochs(self._trainer), logging_step(self._trainer)
            history.append(epoch, step, spectrum, measurement.seconds)
        if not self._trainer.is_global_zero:
            return
        images: Images = {}
        if self._figures:
            with self._failures.guard([module], "drawing"):
                images = draw_figures(measurement, history, self._moment())
        self._send(module, f"{self._name}/{infix}", measurement, images)
        if self._folder is not None and fitting:
            folder = self._folder / infix
            if before is not history:
                self._state.histories.ended[folder] = before
            with self._failures.guard([module], "saving"):
                self._save(folder, history, images)

    def _remark_on(self, module: str, measurement: Measurement) -> None:
        """Say once what a user should know of a spectrum."""
        said = {"settling": settling_remark(measurement.spectrum)}
        if measurement.estimate is not None:
            said["overlap"] = overlap_remark(measurement.estimate)
        for key, words in said.items():
            if words is not None:
                self._warn_once(f"The Lyapunov spectrum of {module!r}: {_small(words)}", key)
        spectrum = measurement.spectrum
        asked = self._state.histories.of(module).settings.get("num_steps", 0)
        if spectrum.num_steps + spectrum.warmup_steps < asked:
            self._warn_once.inform(
                f"The sequences of {module!r} are shorter than the {asked} steps asked for: its "
                f"Lyapunov spectra are over {spectrum.counted}.",
                f"short {module}",
            )

    def _moment(self) -> str:
        """Say for the titles of figures when this is."""
        if is_fitting(self._trainer):
            return f"epoch {completed_epochs(self._trainer):g}"
        return f"trainer.{running_method(self._trainer)}"

    def _send(self, module: str, tag: str, measurement: Measurement, images: Images) -> None:
        """Send histogram and images; a logger that fails keeps nothing from the others."""
        step = logging_step(self._trainer)
        for logger in self._trainer.loggers:
            with self._failures.guard([module], "logging"):
                log_histogram(logger, f"{tag}exponents", measurement.spectrum.exponents, step)
                for kind, image in images.items():
                    log_image(logger, f"{tag}{kind}", image, step)

    def _save(self, folder: Path, history: SpectrumHistory, images: Images) -> None:
        """Write history and figures, first a history that ended: until then its file stays."""
        ended = self._state.histories.ended.get(folder)
        if ended is not None:
            ended.save(folder / f"spectra_until_step_{ended.steps[-1]}.npz")
            del self._state.histories.ended[folder]
        write_files(folder, history, images)

    def _without_infinities(self, values: dict[str, float]) -> dict[str, float]:
        """Return the finite values; say once which are not."""
        finite, lost = split_finite(values)
        if lost:
            self._warn_once(
                f"{', '.join(lost)}: not finite, left out of the logs. An exponent of -inf belongs "
                "to a direction the network maps to exactly zero (dead or saturated units); NaN "
                "to states that overflowed.",
                "not finite",
            )
        return finite

    def _cost(self, seconds: float, every: int) -> dict[str, float]:
        """Return what a measurement cost, and warn once when it was too much."""
        values = {f"{self._name}/seconds": seconds}
        if is_fitting(self._trainer) and self._state.pace.is_regular(every):
            fraction = self._state.pace.fraction(seconds)
            values[f"{self._name}/epoch_fraction"] = fraction
            self._warn_once(advice(seconds, fraction, every), "slow")
        return values

    def _name_loggers_of_scalars(self) -> None:
        """Say once which loggers take scalars alone, and where the rest is."""
        names = scalars_alone(self._trainer.loggers)
        where = "not kept" if self._folder is None else f"files in {self._folder}"
        if names:
            self._warn_once.inform(
                f"{' and '.join(names)}: Lyapunov exponents as scalars alone; spectra and figures "
                f"are {where}.",
                "scalars alone",
            )


def _small(sentence: str) -> str:
    """Return a sentence that goes on after a colon."""
    return sentence[0].lower() + sentence[1:]
