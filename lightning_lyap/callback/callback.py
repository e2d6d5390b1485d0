"""The callback: when to measure, what to measure on, and what to log."""

from collections.abc import Sequence
from typing import Any, get_args

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_lyap._checks import check_choice, check_count, check_flag, check_name
from lightning_lyap.callback.errors import OnError, WarnOnce
from lightning_lyap.callback.failures import Failures
from lightning_lyap.callback.network_probe import NetworkProbe
from lightning_lyap.callback.reporter import Reporter
from lightning_lyap.callback.run_histories import RunHistories
from lightning_lyap.callback.run_state import RunState
from lightning_lyap.callback.trainer import is_fitting, is_last_batch
from lightning_lyap.dynamics import LayerChoice, StateChoice
from lightning_lyap.estimator.inputs import Warmup
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
    ``lyapunov/num_positive``            number of exponents that lie above zero with their whole
                                         95 % interval
    ``lyapunov/num_positive_estimates``  number of exponents whose value is above zero
    ``lyapunov/kaplan_yorke_dimension``  dimension; a lower bound if it equals K < N
    ``lyapunov/kolmogorov_sinai_entropy``  sum of the positive exponents, nats per step; a lower
                                         bound if all K < N are positive
    ``lyapunov/num_unresolved``          number of exponents lost in rounding noise, or -inf
    ``lyapunov/num_unsettled``           number of others that have not settled: their values are
                                         growth over the steps counted, on its way to an exponent
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
        num_steps: Steps of each at most. Default 100 (Section 4.1).
        warmup_steps: Steps before those, which are not counted. Default ``"auto"``: none before
            them, but the first half of them; see `lyapunov_spectrum`. 0 is Algorithm 1.
        orthonormalize_every: Steps between factorizations. Default 1 (Algorithm 1). ``"auto"``: as
            many as keep the rounding errors small; see `lyapunov_spectrum`.
        num_exponents: K leading exponents, or all of a module that has fewer. Default: all.
        state: ``"full"`` for the map of an LSTM's (h, c), ``"hidden"`` for the paper's dh'/dh; of
            torch's LSTMs, other modules have their whole state.
        layers: ``"union"`` for each layer of torch's stacks by itself, which tells the layer of
            each exponent; ``"joint"`` for a stack as one system; see `lyapunov_spectrum`.
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
            spectrum, or the DataModule has too few sequences (or says so by a ValueError of its
            own).
    """

    def __init__(
        self,
        num_sequences: int = MeasurementSettings.num_sequences,
        num_steps: int = MeasurementSettings.num_steps,
        warmup_steps: Warmup = MeasurementSettings.warmup_steps,
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
        self._figures = check_flag("figures", figures)
        self._save = check_flag("save", save)
        self.name = check_name("name", name)
        self.modules = None if modules is None else read_names(modules)
        check_choice("on_error", on_error, get_args(OnError))
        self.on_error = on_error
        self._warn_once = WarnOnce()
        self._run = RunState(RunHistories(self.settings.as_dict(), self._warn_once))
        # Of one run of the Trainer, while it lasts: they hold on to it and to the network.
        self._probe: NetworkProbe | None = None
        self._reporter: Reporter | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to one run of the Trainer: copies would copy the Trainer, too."""
        return vars(self) | {"_probe": None, "_reporter": None}

    def should_measure(self, trainer: Trainer) -> bool:
        """Return whether the validation that starts now is to be measured; may be overridden.

        Args:
            trainer: The Trainer.

        Returns:
            True at the first validation of a run and at every n-th, and always outside of fit.
        """
        return not is_fitting(trainer) or self._run.pace.is_due(self.every_n_validations)

    @property
    def histories(self) -> dict[str, SpectrumHistory]:
        """The spectra of the run so far, a history for each module by its name."""
        return self._run.histories.by_module

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
        probe, reporter = self._prepare(trainer, pl_module)
        self._lay_out(trainer, pl_module)
        # Measured in a watched sanity check, or with windows of the DataModule's.
        wanted, ready = self._is_before_training(trainer), probe.is_ready
        if wanted and ready:
            reporter.log_before_training(reporter.publish(probe.take(), self.every_n_validations))
        reporter.recall()
        reporter.remark(unseen=wanted and not ready)
        probe.source.stop()
        self._run.pace.restart()

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decide whether to measure, and watch the modules if their inputs are needed."""
        probe, _ = self._prepare(trainer, pl_module)
        if trainer.sanity_checking:
            probe.begin(due=False)
            if self._is_before_training(trainer):
                probe.source.watch()
            return
        self._run.pace.count(is_fitting(trainer))
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
        probe, _ = self._prepare(trainer, pl_module)
        sought = trainer.sanity_checking and probe.source.is_watching
        if (probe.is_due or sought) and is_last_batch(trainer):
            probe.measure()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log and publish; measure only here if no batch was known to be the last."""
        probe, reporter = self._prepare(trainer, pl_module)
        if trainer.sanity_checking:
            probe.source.pause()
        elif probe.is_due:
            reporter.log(pl_module, reporter.publish(probe.take(), self.every_n_validations))
            self._run.pace.restart()
        else:
            reporter.recall()

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watch the modules if their inputs are needed; tests are always measured."""
        self._prepare(trainer, pl_module)[0].begin(due=True)

    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end

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
        self._probe = self._reporter = None
        self._run.end()
        for name in ("log", "log_dict"):  # Lightning gives them, and with them the network
            vars(self).pop(name, None)

    def _prepare(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> tuple[NetworkProbe, Reporter]:
        """Return what measures and what reports, made once a run of the Trainer."""
        # Any hook may be the first: `validate` and `test` have no `on_fit_start`.
        if self._probe is None or self._reporter is None:
            failures = Failures(trainer, self._run.histories, self.on_error, self._warn_once)
            self._probe = NetworkProbe(trainer, pl_module, self.modules, self.settings, failures)
            self._reporter = Reporter(
                trainer,
                self._probe.modules,
                self.name,
                self._run,
                failures,
                self._warn_once,
                self._figures,
                self._save,
            )
        return self._probe, self._reporter

    def _is_before_training(self, trainer: Trainer) -> bool:
        """Return whether a spectrum before the first step is wanted and still possible."""
        fresh = trainer.global_step == 0 and not any(map(len, self.histories.values()))
        return self.before_training and is_fitting(trainer) and fresh

    def _lay_out(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Arrange TensorBoard's CUSTOM SCALARS, the first of these callbacks for all of them."""
        everyone: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        spectra = [each for each in everyone if isinstance(each, LyapunovSpectrumCallback)]
        # TensorBoard keeps one layout a run, the last that was written: one callback writes it.
        if trainer.is_global_zero and spectra[0] is self:
            prepared = {each.name: each._prepare(trainer, pl_module) for each in spectra}
            modules = {name: tuple(probe.modules) for name, (probe, _) in prepared.items()}
            prepared[self.name][1].lay_out(modules)
