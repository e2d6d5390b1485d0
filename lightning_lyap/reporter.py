"""What a measurement leaves behind: scalars, histories, figures, files, warnings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_warn
from pytorch_lightning import Trainer

from lightning_lyap.history import SpectrumHistory
from lightning_lyap.pacing import Pace, advice
from lightning_lyap.probe import Measurement
from lightning_lyap.publishing import (
    draw_figures,
    log_histogram,
    log_image,
    scalars,
    split_finite,
    write_files,
)
from lightning_lyap.trainer_facts import (
    completed_epochs,
    is_fitting,
    logging_step,
    running,
    writes_files,
)


class SpectrumReporter:
    """Reports the measurements of one callback.

    Args:
        name: Prefix of tags and name of the folder.
        settings: How spectra are measured, plain numbers and text.
        figures: Whether to draw figures.
        save: Whether to write files.

    Attributes:
        histories: The spectra of each module so far.
        pace: The clock between measurements.
    """

    def __init__(self, name: str, settings: dict[str, Any], figures: bool, save: bool) -> None:
        self.histories: dict[str, SpectrumHistory] = {}
        self.pace = Pace()
        self._name = name
        self._settings = settings
        self._figures = figures
        self._save = save
        self._folder: Path | None = None
        self._warned: set[str] = set()

    def load(self, states: Mapping[str, dict[str, Any]]) -> None:
        """Go on with the histories of a checkpoint.

        Args:
            states: What `SpectrumHistory.state_dict` returned, by module.
        """
        self.histories.clear()
        for module, state in states.items():
            history = self.history(module)
            expected = history.settings
            history.load_state_dict(state)
            if history.settings != expected:
                self.warn_once(
                    "settings",
                    f"The spectra of {module!r} in the checkpoint were measured with "
                    f"{history.settings}, those to come will be with {expected}: one history will "
                    "hold both.",
                )

    def open(self, trainer: Trainer) -> None:
        """Ask where files go; every process must ask.

        Args:
            trainer: The Trainer.
        """
        self._folder = None
        if self._save and writes_files(trainer):
            self._folder = Path(trainer.log_dir or trainer.default_root_dir) / self._name

    def show(
        self, trainer: Trainer, epoch: float, module: str, infix: str, measurement: Measurement
    ) -> None:
        """Add a measurement to its history and send out what is no scalar.

        Args:
            trainer: The Trainer.
            epoch: Epochs completed.
            module: The module's name.
            infix: The module's part of tags and folders, with the closing slash.
            measurement: Its measurement.
        """
        step, tag, fitting = logging_step(trainer), f"{self._name}/{infix}", is_fitting(trainer)
        history = self.history(module)
        if fitting:
            history.append(epoch, step, measurement.spectrum, measurement.seconds)
        if not trainer.is_global_zero:
            return
        log_histogram(trainer.loggers, f"{tag}exponents", measurement.spectrum.exponents, step)
        images = {}
        if self._figures:
            when = f"epoch {epoch:g}" if fitting else f"trainer.{running(trainer)}"
            images = draw_figures(measurement, history, when)
            for kind, image in images.items():
                log_image(trainer.loggers, f"{tag}{kind}", image, step)
        if self._folder is not None and fitting:
            write_files(self._folder / infix, history, images)

    def scalars(
        self, measured: Mapping[str, Measurement], infixes: Mapping[str, str]
    ) -> dict[str, float]:
        """Return the statistics of all modules by key; those not finite are left out.

        Args:
            measured: Measurements by module.
            infixes: Each module's part of the keys.

        Returns:
            Finite numbers by key.
        """
        values: dict[str, float] = {}
        for module, measurement in measured.items():
            values |= scalars(f"{self._name}/{infixes[module]}", measurement)
        finite, lost = split_finite(values)
        if lost:
            self.warn_once(
                "not finite",
                f"{', '.join(lost)}: not finite, left out of the logs. An exponent of -inf belongs "
                "to a direction the network maps to exactly zero (dead or saturated units); NaN "
                "to states that overflowed.",
            )
        return finite

    def cost(self, seconds: float, every: int | None) -> dict[str, float]:
        """Return what a measurement cost, and warn once when it was too much.

        Args:
            seconds: Its wall time.
            every: Validations since the one before, None where there was none to compare with.

        Returns:
            Numbers by key.
        """
        values = {f"{self._name}/seconds": seconds}
        if every is not None:
            fraction = self.pace.fraction(seconds)
            values[f"{self._name}/epoch_fraction"] = fraction
            self.warn_once("slow", advice(seconds, fraction, every))
        return values

    def failed(self, trainer: Trainer, modules: Mapping[str, Any], message: str) -> None:
        """Count a failure in the histories and warn about the first.

        Args:
            trainer: The Trainer.
            modules: The modules concerned.
            message: What went wrong.
        """
        for module in modules:
            step = logging_step(trainer)
            self.history(module).record_failure(completed_epochs(trainer), step, message)
        self.warn_once(
            "failed",
            f"No complete Lyapunov spectrum from this validation: {message.rstrip('.')}. Training "
            "goes on; the history counts each failure. Use on_error='raise' to stop instead.",
        )

    def uncertified(self, trainer: Trainer, module: str, fault: str) -> None:
        """Record a spectrum that fails its certificate and warn about the first.

        Args:
            trainer: The Trainer.
            module: The module's name.
            fault: Which checks failed.
        """
        message = f"fails its certificate: {fault}"
        step = logging_step(trainer)
        self.history(module).record_failure(completed_epochs(trainer), step, message)
        self.warn_once(
            "certificate",
            f"The Lyapunov spectrum of {module!r} {message}. Don't trust it: `certified` is logged "
            "as 0, the history records each failure. A subclass of torch's modules with a forward "
            "pass of its own must be known by `register_recurrence`; anything else is an error of "
            "lightning_lyap: please report it. Use on_error='raise' to stop instead.",
        )

    def history(self, module: str) -> SpectrumHistory:
        """Return the history of a module, a new one at first.

        Args:
            module: The module's name.

        Returns:
            Its history.
        """
        if module not in self.histories:
            self.histories[module] = SpectrumHistory(self._settings | {"module": module})
        return self.histories[module]

    def warn_once(self, key: str, message: str | None) -> None:
        """Warn on rank zero, once for each key.

        Args:
            key: What counts as the same warning.
            message: What to say; None says nothing.
        """
        if message is not None and key not in self._warned:
            self._warned.add(key)
            rank_zero_warn(message)
