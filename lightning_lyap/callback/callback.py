"""The callback: when to measure, what to measure on, and what to log."""

from collections.abc import Sequence
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_lyap._checks import check_count, check_flag, check_name
from lightning_lyap.callback.errors import OnError
from lightning_lyap.callback.network_probe import NetworkProbe
from lightning_lyap.callback.reporter import SpectrumReporter
from lightning_lyap.callback.run_state import LoggedValues, RunSoFar
from lightning_lyap.callback.trainer import completed_epochs, is_fitting, is_last_batch
from lightning_lyap.dynamics import LayerChoice, StateChoice
from lightning_lyap.estimator.schedule import Interval
from lightning_lyap.estimator.settings import MeasurementSettings
from lightning_lyap.history import SpectrumHistory
from lightning_lyap.network.find_modules import read_names


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
        dtype: ``"float32"`` or ``"float64"``, also as torch's types; None for the module's own.
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
        num_sequences: int = MeasurementSettings.num_sequences,
        num_steps: int = MeasurementSettings.num_steps,
        warmup_steps: int = MeasurementSettings.warmup_steps,
        orthonormalize_every: Interval = MeasurementSettings.orthonormalize_every,
        num_exponents: int | None = MeasurementSettings.num_exponents,
        state: StateChoice = MeasurementSettings.state,
        layers: LayerChoice = MeasurementSettings.layers,
        dtype: str | torch.dtype | None = MeasurementSettings.dtype,
        every_n_validations: int = 1,
        before_training: bool = True,
        modules: Sequence[str] | str | None = None,
        figures: bool = True,
        save: bool = True,
        on_error: OnError = "warn",
        name: str = "lyapunov",
    ) -> None:
        self.settings = MeasurementSettings(
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
        self._logged = LoggedValues(self._reporter)
        self._run = RunSoFar(self._reporter, self._reporter.pace, self._logged)
        self._probe: NetworkProbe | None = None

    def should_measure(self, trainer: Trainer) -> bool:
        """Tell whether the validation that starts now is to be measured; override it at will.

        Args:
            trainer: The Trainer.

        Returns:
            True at the first validation of a run and at every n-th, and always outside of fit.
        """
        if not is_fitting(trainer):
            return True
        return self._reporter.pace.is_due(self.every_n_validations)

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
        return self._run.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the run that `state_dict` returned; one in memory outlives validate and test.

        Raises:
            ValueError: If that is not what `state_dict` holds; nothing has changed then.
        """
        self._run.load_state_dict(state_dict)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Note what the Trainer is about to do."""
        self._run.enter(stage)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the modules and the sequences; what is wrong with them is said here."""
        self._run.begin(trainer)
        self._prepare(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the network before training, unless a run goes on."""
        probe = self._prepare(trainer, pl_module)
        self._lay_out(trainer, pl_module)
        wanted, seen = self._is_before_training(trainer), probe.source.is_ready
        if wanted and seen:
            measured = probe.take(trainer, pl_module)
            values = self._reporter.publish(trainer, 0.0, measured, self.every_n_validations)
            self._logged.log_before_training(trainer, probe.modules, values)
        self._logged.recall(trainer)
        self._reporter.remark(trainer, unseen=wanted and not seen)
        probe.source.stop()
        self._reporter.pace.restart()

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decide whether to measure, and watch the modules if their inputs are needed."""
        probe = self._prepare(trainer, pl_module)
        if trainer.sanity_checking:
            probe.begin(due=False)
            if self._is_before_training(trainer):
                probe.source.watch()
            return
        self._reporter.pace.count(is_fitting(trainer))
        probe.begin(due=self.should_measure(trainer))

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
        probe = self._prepare(trainer, pl_module)
        if probe.is_due and is_last_batch(trainer):
            probe.measure(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log and publish; measure only here if no batch was known to be the last."""
        probe = self._prepare(trainer, pl_module)
        if trainer.sanity_checking:
            probe.source.pause()
        elif probe.is_due:
            self._finish(trainer, pl_module)
        else:
            self._logged.recall(trainer)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watch the modules if their inputs are needed."""
        self._prepare(trainer, pl_module).begin(due=True)

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
            self._prepare(trainer, pl_module).measure(trainer, pl_module)

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
        if self._probe is not None:
            self._probe.source.stop()
        self._probe = None
        self._run.end()
        for name in ("log", "log_dict"):  # Lightning gives them, and with them the network
            vars(self).pop(name, None)

    def _prepare(self, trainer: Trainer, pl_module: LightningModule) -> NetworkProbe:
        """Find the recurrent modules and their sequences, once a run of the Trainer.

        Args:
            trainer: The Trainer.
            pl_module: The LightningModule.

        Returns:
            What measures them.

        Raises:
            Exception: See `NetworkProbe`.
        """
        if self._probe is None:
            self._probe = NetworkProbe(
                trainer, pl_module, self.modules, self.settings, self._reporter
            )
            self._reporter.open(trainer, self._probe.modules)
        return self._probe

    def _is_before_training(self, trainer: Trainer) -> bool:
        """Tell whether a spectrum before the first step is wanted and still possible."""
        fresh = trainer.global_step == 0 and not any(map(len, self.histories.values()))
        return self.before_training and is_fitting(trainer) and fresh

    def _lay_out(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Arrange TensorBoard's CUSTOM SCALARS, the first of these callbacks for all of them.

        Args:
            trainer: The Trainer.
            pl_module: The LightningModule.
        """
        everyone: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        ours = [each for each in everyone if isinstance(each, LyapunovSpectrumCallback)]
        if trainer.is_global_zero and ours[0] is self:
            modules = {each.name: tuple(each._prepare(trainer, pl_module).modules) for each in ours}
            self._reporter.lay_out(trainer, modules)

    def _finish(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what was measured in the validation or test that ends.

        Args:
            trainer: The Trainer.
            pl_module: The LightningModule.
        """
        probe = self._prepare(trainer, pl_module)
        measured, epoch = probe.take(trainer, pl_module), completed_epochs(trainer)
        values = self._reporter.publish(trainer, epoch, measured, self.every_n_validations)
        self._logged.log(trainer, pl_module, probe.modules, values)
        self._reporter.pace.restart()
