"""What a measurement leaves behind: scalars, histories, figures, files, warnings."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning_utilities.core.rank_zero import rank_zero_info
from numpy.typing import NDArray
from pytorch_lightning import Trainer

from lightning_lyap.callback.cost import Pace, advice
from lightning_lyap.callback.errors import OnError
from lightning_lyap.callback.loggers import log_histogram, log_image, scalars_alone
from lightning_lyap.callback.measurement import Measurement, NetworkMeasurement
from lightning_lyap.callback.outputs import (
    draw_figures,
    scalars,
    split_finite,
    write_ended,
    write_files,
)
from lightning_lyap.callback.run_histories import Ledger
from lightning_lyap.callback.tensorboard_layout import lay_out_scalars, scalar_layout
from lightning_lyap.callback.trainer import (
    is_fitting,
    log_folder,
    logging_step,
    running,
    writes_files,
)
from lightning_lyap.history import SpectrumHistory


class SpectrumReporter(Ledger):
    """Reports the measurements of one callback.

    Args:
        name: Prefix of tags and name of the folder.
        settings: How spectra are measured, plain numbers and text.
        figures: Whether to draw figures.
        save: Whether to write files.
        on_error: See `Ledger`.

    Attributes:
        pace: Counts validations, and the time between measurements.

    Raises:
        ValueError: If ``on_error`` is another word.
    """

    def __init__(
        self,
        name: str,
        settings: dict[str, Any],
        figures: bool,
        save: bool,
        on_error: OnError = "warn",
    ) -> None:
        super().__init__(settings, on_error)
        self.pace = Pace()
        self._name = name
        self._figures = figures
        self._save = save
        self._folder: Path | None = None
        self._ended: dict[str, SpectrumHistory] = {}

    def open(self, trainer: Trainer, modules: Iterable[str]) -> None:
        """Ask where files go; every process must ask.

        Args:
            trainer: The Trainer.
            modules: The modules whose files they are.
        """
        before, self._folder = self._folder, None
        if self._save and writes_files(trainer):
            with self.guard(trainer, modules, "finding the folder"):
                self._folder = log_folder(trainer) / self._name
        if self._folder != before:
            self._ended.clear()
        if is_fitting(trainer):
            with self.guard(trainer, (), "logging"):
                self._name_loggers_of_scalars(trainer)

    def remark(self, trainer: Trainer, unseen: bool) -> None:
        """Say what the run that begins goes without.

        Args:
            trainer: The Trainer.
            unseen: Whether a spectrum before training was wanted and nothing to measure it on seen.
        """
        if unseen and trainer.enable_validation:
            rank_zero_info(
                "No Lyapunov spectrum before training: the sanity check that would show what the "
                "recurrent modules receive is off (num_sanity_val_steps=0), and the DataModule "
                "offers no `lyapunov_sequences`."
            )
        if not trainer.enable_validation:
            self.warn_once(
                "no validation",
                "No Lyapunov spectra while this network trains: they are measured after "
                "validations, and there are none. Give the Trainer validation batches.",
            )
        if trainer.barebones:
            self.warn_once(
                "barebones",
                "Trainer(barebones=True) logs nothing: Lyapunov spectra are in `histories` of the "
                "callback and in its files alone.",
            )

    def lay_out(self, trainer: Trainer, modules: Mapping[str, tuple[str, ...]]) -> None:
        """Arrange TensorBoard's CUSTOM SCALARS.

        Args:
            trainer: The Trainer, on rank zero.
            modules: Names of the modules measured, by the prefix of their tags.

        Raises:
            Exception: Whatever a logger raises, if errors are to be raised.
        """
        try:
            lay_out_scalars(trainer.loggers, scalar_layout(modules))
        except Exception as error:
            if self.on_error == "raise":
                raise
            self.warn_once(
                "layout",
                "The charts of TensorBoard's CUSTOM SCALARS could not be arranged "
                f"({type(error).__name__}: {error}). All scalars are logged nevertheless.",
            )

    def publish(
        self, trainer: Trainer, epoch: float, measured: NetworkMeasurement, every: int
    ) -> dict[str, float]:
        """Write histories, figures and files, and return the scalars.

        Args:
            trainer: The Trainer.
            epoch: Epochs completed.
            measured: What was measured.
            every: Setting of ``every_n_validations``.

        Returns:
            Finite scalars by key; none if the measurement failed.
        """
        start = time.perf_counter()
        several = len(measured.by_module) + len(measured.missing) > 1
        infixes = {name: f"{name}/" if several else "" for name in measured.by_module}
        for name, measurement in measured.by_module.items():
            with self.guard(trainer, [name], "logging"):
                self.show(trainer, epoch, name, infixes[name], measurement)
        values: dict[str, float] = {}
        with self.guard(trainer, measured.by_module, "logging"):
            values = self.scalars(measured.by_module, infixes)
        if values:
            seconds = measured.seconds + time.perf_counter() - start
            regular = is_fitting(trainer) and self.pace.is_regular(every)
            values |= self.cost(seconds, every if regular else None)
        return values

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
        before = history = self.history(module)
        spectrum = measurement.spectrum
        if fitting:
            history = self.history_for(module, spectrum)
            history.append(epoch, step, spectrum, measurement.seconds)
        if not trainer.is_global_zero:
            return
        if before is not history and self._folder is not None:
            self._ended[module] = before
        images: dict[str, NDArray[np.uint8]] = {}
        with self.guard(trainer, [module], "drawing"):
            when = f"epoch {epoch:g}" if fitting else f"trainer.{running(trainer)}"
            images = draw_figures(measurement, history, when) if self._figures else {}
        for logger in trainer.loggers:
            with self.guard(trainer, [module], "logging"):
                log_histogram([logger], f"{tag}exponents", spectrum.exponents, step)
                for kind, image in images.items():
                    log_image([logger], f"{tag}{kind}", image, step)
        if self._folder is not None and fitting:
            with self.guard(trainer, [module], "saving"):
                if module in self._ended:  # until it is written, the file before stays as it is
                    write_ended(self._folder / infix, self._ended[module])
                    del self._ended[module]
                write_files(self._folder / infix, history, images)

    def scalars(
        self, measured: Mapping[str, Measurement], infixes: Mapping[str, str]
    ) -> dict[str, float]:
        """Return the statistics of all modules by key; those not finite are left out.

        A module none of whose sequences stayed finite has none.

        Args:
            measured: Measurements by module.
            infixes: Each module's part of the keys.

        Returns:
            Finite numbers by key.
        """
        values: dict[str, float] = {}
        for module, measurement in measured.items():
            if measurement.is_lost:  # counts of NaN are no numbers to show
                continue
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

    def _name_loggers_of_scalars(self, trainer: Trainer) -> None:
        """Say once which loggers take scalars alone, and where the rest is.

        Args:
            trainer: The Trainer.
        """
        names = scalars_alone(trainer.loggers)
        if not names or "scalars alone" in self._warned:
            return
        self._warned.add("scalars alone")
        where = "not kept" if self._folder is None else f"files in {self._folder}"
        rank_zero_info(
            f"{' and '.join(names)}: Lyapunov exponents as scalars alone; spectra and figures are "
            f"{where}."
        )
