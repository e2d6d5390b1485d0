"""The callback: when to measure, what to measure on, and what to log."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn

from lightning_lyap.checks import check_count, check_flag, check_name
from lightning_lyap.compiled import eagerly
from lightning_lyap.driving import SequenceSource, open_source
from lightning_lyap.dynamics import LayerChoice, StateChoice
from lightning_lyap.estimate import SpectrumEstimate
from lightning_lyap.failures import OnError, describe
from lightning_lyap.finding import read_names, split_recurrent_modules
from lightning_lyap.generators import preserved_generators
from lightning_lyap.history import SpectrumHistory
from lightning_lyap.interval import Interval
from lightning_lyap.probe import (
    Measurement,
    ProbeSettings,
    check_modules,
    combine_processes,
    estimate_spectra,
)
from lightning_lyap.progress import spectrum_progress
from lightning_lyap.reporter import SpectrumReporter
from lightning_lyap.trainer_facts import (
    completed_epochs,
    first_reason,
    is_fitting,
    is_last_batch,
    logging_step,
)


class LyapunovSpectrumCallback(Callback):
    """Measures the Lyapunov spectrum of every recurrent module while a network trains.

    Add it to any Trainer: ``Trainer(callbacks=[LyapunovSpectrumCallback()])``. It finds every
    `torch.nn.RNN`, `GRU` and `LSTM` of the LightningModule, every `RNNCell`, `GRUCell` and
    `LSTMCell` that it calls in a loop over time, and every module of a type that was made known by
    `register_recurrence`. It measures, before training and after validations, the spectrum along
    held-out sequences, on the module's device. Training is bitwise the same with and without it.

    The sequences come from the DataModule if it has a method
    ``lyapunov_sequences(num_sequences, num_steps)``, which returns a batch (a tensor, or a tuple of
    tensors) that the LightningModule's ``forward`` takes, one row a sequence: each recurrent module
    is then measured on what it receives in that forward pass, in evaluation mode. Otherwise they
    are the first sequences the modules receive in the validation batches (test batches in
    ``trainer.test``), for the spectrum before training in those of the sanity check. Steps of a
    cell belong to one sequence as long as the cell is given the state it returned; a model that
    changes the state in between (normalizes it, say) has a recurrence with more in it than the
    cell, and that is an error: register a module that does the whole step.

    Logged in the validation epoch, so that ModelCheckpoint and EarlyStopping can monitor them; with
    several modules as ``lyapunov/MODULE/max`` and so on. Values that are not finite are left out.

    ==================================== ========================================================
    ``lyapunov/max``                     largest exponent, nats per step
    ``lyapunov/max_standard_error``      its standard error, from time and sequences, nats per step
    ``lyapunov/max_margin``              half-width of its 95 % interval, nats per step
    ``lyapunov/mean``                    mean of the resolved exponents, nats per step
    ``lyapunov/mean_all``                mean of all finite exponents, nats per step; not the same
                                         where some are lost in rounding noise
    ``lyapunov/variance``                variance of the resolved exponents, (nats per step)^2
    ``lyapunov/variance_all``            variance of all finite exponents, (nats per step)^2
    ``lyapunov/min``                     smallest resolved exponent, nats per step
    ``lyapunov/std_over_sequences``      standard deviation over sequences, averaged over the
                                         resolved exponents, nats per step
    ``lyapunov/num_positive``            number of positive exponents
    ``lyapunov/kaplan_yorke_dimension``  dimension; a lower bound if it equals K < N
    ``lyapunov/kolmogorov_sinai_entropy``  sum of the positive exponents, nats per step; a lower
                                         bound if all K < N are positive
    ``lyapunov/num_unresolved``          number of exponents lost in rounding noise, or -inf
    ``lyapunov/rounding_error``          largest bound of the rounding error of a resolved exponent,
                                         nats per step
    ``lyapunov/certified``               1 if the spectrum obeys the identities that were checked,
                                         0 if not: don't trust it
    ``lyapunov/seconds``                 wall time of the measurement with its figures and files
    ``lyapunov/epoch_fraction``          that time, as a fraction of all wall time since the last
                                         measurement (of the epoch, if every epoch is measured);
                                         logged when that was n validations ago
    ==================================== ========================================================

    To TensorBoard also: the histogram ``lyapunov/exponents`` and the figures ``lyapunov/spectrum``
    (with the spread over sequences and the 95 % interval of the mean), ``lyapunov/convergence``
    (Fig. 2a) and ``lyapunov/history`` (epoch by index). The same figures, the latest of each, and
    ``spectra.npz`` are written to ``LOG_DIR/lyapunov/``; `SpectrumHistory.load` reads the latter.
    The history is part of every checkpoint.

    Args:
        num_sequences: Held-out sequences, over all processes. Default 10 (Section 4.1).
        num_steps: Steps counted in each. Default 100 (Section 4.1).
        warmup_steps: Steps before those that are not counted. Default 0 (Algorithm 1).
        orthonormalize_every: Steps between factorizations. Default 1 (Algorithm 1). ``"auto"``: as
            many as keep the rounding errors small; see `lyapunov_spectrum`.
        num_exponents: K leading exponents, or all of a module that has fewer. Default: all.
        state: ``"full"`` for the map of an LSTM's (h, c), ``"hidden"`` for the paper's dh'/dh; of
            torch's LSTMs, other modules have their whole state.
        layers: ``"joint"`` for a stack as one system, ``"union"`` for each layer of torch's stacks
            by itself, cheaper for large layers, which tells the layer of each exponent; see
            `lyapunov_spectrum`.
        dtype: ``"float32"``, ``"float64"``, or None for the module's own.
        every_n_validations: Measure after the first validation and then after every n-th.
        before_training: Whether to measure before the first step of training, too.
        modules: Names of the modules to measure, as in ``named_modules()``. Default: all.
        figures: Whether to draw figures (needs matplotlib; without it there are none).
        save: Whether to write ``spectra.npz`` and PNGs to the log folder.
        on_error: ``"warn"``: what fails is counted in ``histories[MODULE].failures``, the first of
            its kind is warned about, and training goes on, bitwise the same: an error while
            measuring (memory that runs out, too), no sequence that stays finite, a module without
            a spectrum that was not asked for by name (bidirectional), a DataModule that fails to
            offer its sequences, figures, loggers, files. A spectrum that fails its certificate is
            counted in the same way, and logged. Monitors find the last value that was measured;
            where none was yet, Lightning ends the training. ``"raise"``: all of these raise.
            Wrong arguments raise before training in both cases.
        name: Prefix of tags and name of the folder. Give each a name of its own if a Trainer has
            two of these callbacks.

    Raises:
        TypeError: If a setting has the wrong type.
        ValueError: If a setting is out of range; at the start of the run also if the
            LightningModule has no recurrent module, ``modules`` names others or one without a
            spectrum, one has no known layers for ``"union"``, or the DataModule has too few
            sequences (or says so by a ValueError of its own).
    """

    def __init__(
        self,
        num_sequences: int = 10,
        num_steps: int = 100,
        warmup_steps: int = 0,
        orthonormalize_every: Interval = 1,
        num_exponents: int | None = None,
        state: StateChoice = "full",
        layers: LayerChoice = "joint",
        dtype: str | None = None,
        every_n_validations: int = 1,
        before_training: bool = True,
        modules: Sequence[str] | str | None = None,
        figures: bool = True,
        save: bool = True,
        on_error: OnError = "warn",
        name: str = "lyapunov",
    ) -> None:
        self.settings = ProbeSettings(
            num_sequences,
            num_steps,
            warmup_steps,
            orthonormalize_every,
            num_exponents,
            state,
            layers,
            dtype,
        )
        self.every_n_validations = check_count("every_n_validations", every_n_validations, 1)
        self.before_training = check_flag("before_training", before_training)
        check_flag("figures", figures)
        check_flag("save", save)
        check_name("name", name)
        self.modules = None if modules is None else read_names(modules)
        self.name = name
        self._reporter = SpectrumReporter(name, self.settings.as_dict(), figures, save, on_error)
        self._validations = 0
        self._validations_since = 0
        self._last: dict[str, float] = {}
        self._goes_on = False
        self._found: dict[str, nn.Module] = {}
        self._unsupported: dict[str, str] = {}
        self._source: SequenceSource | None = None
        self._due = False
        self._measured: dict[str, Measurement] | None = None
        self._seconds = 0.0

    def should_measure(self, trainer: Trainer) -> bool:
        """Tell whether the validation that starts now is to be measured; override it at will.

        Args:
            trainer: The Trainer.

        Returns:
            True at the first validation of a run and at every n-th, and always outside of fit.
        """
        if not is_fitting(trainer):
            return True
        return self._validations == 1 or self._validations % self.every_n_validations == 0

    @property
    def histories(self) -> dict[str, SpectrumHistory]:
        """The spectra of the run so far, a history for each module by its name."""
        return self._reporter.histories

    @property
    def on_error(self) -> OnError:
        """What happens when something fails, as given."""
        return self._reporter.on_error

    @property
    def state_key(self) -> str:
        """Tell two of these callbacks apart in a checkpoint."""
        return self._generate_state_key(name=self.name)

    def state_dict(self) -> dict[str, Any]:
        """Return the run so far: tensors, numbers and text."""
        histories = {name: history.state_dict() for name, history in self.histories.items()}
        return {"validations": self._validations, "histories": histories, "last": self._last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the run that `state_dict` returned.

        Raises:
            ValueError: If that is not what `state_dict` holds; nothing has changed then.
        """
        missing = sorted({"validations", "histories", "last"} - state_dict.keys())
        if missing:
            raise ValueError(
                f"Expected a state of a LyapunovSpectrumCallback, but got one without {missing}. "
                "Go on from a checkpoint that this callback has written."
            )
        self._reporter.load(state_dict["histories"])
        self._validations, self._last = state_dict["validations"], state_dict["last"]
        self._goes_on = True

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the modules and the sequences; what is wrong with them is said here."""
        if not self._goes_on and trainer.global_step == 0:
            self._validations, self._last = 0, {}
            self.histories.clear()
        self._goes_on = False
        self._prepare(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the network before training, unless a run goes on."""
        source = self._prepare(trainer, pl_module)
        self._lay_out(trainer)
        wanted, seen = self._is_before_training(trainer), source.is_ready
        if wanted and seen:
            self._measure(trainer, pl_module)
            self._last = values = self._publish(trainer, epoch=0.0)
            for logger in trainer.loggers if values else ():
                with self._reporter.guard(trainer, self._found, "logging"):
                    logger.log_metrics(values, step=logging_step(trainer))
        self._reporter.remark(trainer, unseen=wanted and not seen)
        source.stop()
        self._restart_clock()

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decide whether to measure, and watch the modules if their inputs are needed."""
        source = self._prepare(trainer, pl_module)
        if trainer.sanity_checking:
            self._due = False
            if self._is_before_training(trainer):
                source.watch()
            return
        self._validations += is_fitting(trainer)
        self._validations_since += 1
        self._begin(due=self.should_measure(trainer), source=source)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measure after the last batch, before other callbacks change the weights back (EMA)."""
        if self._due and is_last_batch(trainer):
            self._measure(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log and publish; measure only here if no batch was known to be the last."""
        if trainer.sanity_checking:
            self._prepare(trainer, pl_module).pause()
        elif self._due:
            self._finish(trainer, pl_module)
        else:
            self._recall(trainer)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watch the modules if their inputs are needed."""
        self._begin(due=True, source=self._prepare(trainer, pl_module))

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measure after the last batch."""
        if is_last_batch(trainer):
            self._measure(trainer, pl_module)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log and publish."""
        self._finish(trainer, pl_module)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Take the hooks away."""
        self._let_go()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the hooks away and let go of the network."""
        self._let_go()

    def _let_go(self) -> None:
        """Drop what belongs to one run of the Trainer; the histories stay."""
        if self._source is not None:
            self._source.stop()
        self._found, self._source, self._measured, self._due = {}, None, None, False
        self._unsupported = {}
        self._goes_on = False  # a tuner loads states too, that no run goes on with
        for name in ("log", "log_dict"):  # Lightning gives them, and with them the network
            vars(self).pop(name, None)

    def _prepare(self, trainer: Trainer, pl_module: LightningModule) -> SequenceSource:
        """Find the recurrent modules and their sequences, once a run.

        Args:
            trainer: The Trainer.
            pl_module: The LightningModule.

        Returns:
            Where the sequences come from.

        Raises:
            ValueError: If there is no recurrent module, or one without known layers where they are
                asked for, or there are too few sequences.
            Exception: If errors are to be raised, also if a module has no spectrum, and whatever
                the DataModule raises.
        """
        if self._source is None:
            settings = self.settings
            self._found, self._unsupported = split_recurrent_modules(pl_module, self.modules)
            self._reporter.refuse(self._unsupported)
            check_modules(self._found, settings)
            self._source = open_source(
                trainer, self._found, settings.num_sequences, settings.window, self.on_error
            )
            self._reporter.open(trainer)
        return self._source

    def _is_before_training(self, trainer: Trainer) -> bool:
        """Tell whether a spectrum before the first step is wanted and still possible."""
        fresh = trainer.global_step == 0 and not any(map(len, self.histories.values()))
        return self.before_training and is_fitting(trainer) and fresh

    def _lay_out(self, trainer: Trainer) -> None:
        """Arrange TensorBoard's CUSTOM SCALARS, the first of these callbacks for all of them.

        Args:
            trainer: The Trainer.
        """
        everyone: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        ours = [each for each in everyone if isinstance(each, LyapunovSpectrumCallback)]
        if trainer.is_global_zero and ours[0] is self:
            self._reporter.lay_out(trainer, {each.name: tuple(each._found) for each in ours})

    def _begin(self, due: bool, source: SequenceSource) -> None:
        """Begin a validation or test.

        Args:
            due: Whether to measure at its end.
            source: Where the sequences come from.
        """
        self._due = due
        self._measured = None
        if due:
            source.watch()

    def _measure(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure all modules; nothing of the training changes.

        A process that fails tells the others, so that none waits for it.

        Args:
            trainer: The Trainer.
            pl_module: The LightningModule.
        """
        start = time.perf_counter()
        self._measured = {}
        self._reporter.count_unsupported(trainer, self._unsupported)
        estimates: dict[str, tuple[SpectrumEstimate, float]] = {}
        failure: Exception | None = None
        source = self._prepare(trainer, pl_module)
        shown = trainer.is_global_zero and trainer.progress_bar_callback is not None
        with (
            preserved_generators(),
            torch.no_grad(),
            eagerly(),
            spectrum_progress(shown) as progress,
        ):
            try:
                sequences = source.take(trainer, pl_module)
                estimates = estimate_spectra(
                    self._found, sequences, self.settings, progress, quiet=True
                )
            except Exception as error:
                failure = error
        all_well = trainer.strategy.reduce_boolean_decision(failure is None, all=True)
        with self._reporter.guard(trainer, self._found, "measuring"), torch.no_grad():
            try:
                if not all_well:
                    own = None if failure is None else describe(failure, "measuring")
                    reason = first_reason(trainer, own)
                    raise failure or RuntimeError(f"it failed in another process: {reason}")
            finally:
                failure = None  # holds this frame, and so all that the estimator held
            self._measured = combine_processes(self._found, estimates, self.settings)
            self._reporter.examine(trainer, self._measured)
        source.stop()
        self._seconds = time.perf_counter() - start

    def _finish(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what was measured in the validation or test that ends.

        Args:
            trainer: The Trainer.
            pl_module: The LightningModule.
        """
        if self._measured is None:
            self._measure(trainer, pl_module)
        values = self._publish(trainer, completed_epochs(trainer))
        with self._reporter.guard(trainer, self._found, "logging"):
            if values and not trainer.barebones:
                pl_module.log_dict(values, batch_size=1, sync_dist=True)
        if is_fitting(trainer):
            self._last = self._last | values
            if self._last.keys() - values.keys():
                self._recall(trainer)
        self._restart_clock()

    def _recall(self, trainer: Trainer) -> None:
        """Let monitors find the last value of a key that was not logged in this run of the Trainer.

        After a resumption they then act as in the uninterrupted run, and a measurement that fails
        leaves what was measured before. Logging these values would write them again.

        Args:
            trainer: The Trainer.
        """
        if trainer.barebones:
            return
        for key in self._last.keys() - trainer.callback_metrics.keys():
            trainer.callback_metrics[key] = torch.tensor(self._last[key])

    def _restart_clock(self) -> None:
        """Begin to count the time, and the validations, until the next measurement."""
        self._validations_since = 0
        self._reporter.pace.restart()

    def _publish(self, trainer: Trainer, epoch: float) -> dict[str, float]:
        """Write histories, figures and files, and return the scalars.

        Args:
            trainer: The Trainer.
            epoch: Epochs completed.

        Returns:
            Finite scalars by key; none if the measurement failed.
        """
        start = time.perf_counter()
        measured, self._measured = self._measured or {}, None
        infixes = {name: f"{name}/" if len(self._found) > 1 else "" for name in measured}
        for name, measurement in measured.items():
            with self._reporter.guard(trainer, [name], "logging"):
                self._reporter.show(trainer, epoch, name, infixes[name], measurement)
        # The first measurement, and one after a resumption, come sooner: their cost is no rule.
        regular = self._validations_since == self.every_n_validations
        every = self.every_n_validations if is_fitting(trainer) and regular else None
        values: dict[str, float] = {}
        with self._reporter.guard(trainer, measured, "logging"):
            values = self._reporter.scalars(measured, infixes)
        if values:
            seconds = self._seconds + time.perf_counter() - start
            values |= self._reporter.cost(seconds, every)
        return values
