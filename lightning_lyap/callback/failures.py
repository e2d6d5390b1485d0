"""What fails in one run of the Trainer: counted, warned about once, or raised."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager

from pytorch_lightning import Trainer

from lightning_lyap.callback.errors import OUTCOMES, Doing, OnError, WarnOnce, guarded
from lightning_lyap.callback.measurement import Measurement
from lightning_lyap.callback.run_histories import RunHistories
from lightning_lyap.callback.trainer import completed_epochs, logging_step


class Failures:
    """What fails in one run of the Trainer.

    Args:
        trainer: The Trainer.
        histories: They count what fails.
        on_error: ``"warn"`` to count what fails and warn about the first of its kind, ``"raise"``
            to let errors pass.
        warn_once: Says what a user should know.

    Attributes:
        on_error: As given.
    """

    def __init__(
        self, trainer: Trainer, histories: RunHistories, on_error: OnError, warn_once: WarnOnce
    ) -> None:
        self.on_error = on_error
        self._trainer = trainer
        self._histories = histories
        self._warn_once = warn_once

    def guard(self, modules: Iterable[str], doing: Doing) -> AbstractContextManager[None]:
        """Turn an error into a counted failure and one warning, unless errors are to be raised.

        Args:
            modules: The modules concerned.
            doing: What is being done.

        Returns:
            A context.
        """
        return guarded(self.on_error, doing, lambda message: self.report(modules, message, doing))

    def report(self, modules: Iterable[str], message: str, doing: Doing = "measuring") -> None:
        """Count a failure in the histories and warn about the first of its kind.

        Measurements of different modules fail for different reasons: the first of each is told.

        Args:
            modules: The modules concerned.
            message: What went wrong.
            doing: What was being done.
        """
        names = list(modules)
        for name in names:
            self._count(name, message)
        told_apart = doing == "measuring" and names
        self._warn_once(
            f"{OUTCOMES[doing]}: {message.rstrip('.')}. Training goes on; the history counts each "
            "failure. Use on_error='raise' to stop instead.",
            *([f"failed {doing} {name}" for name in names] if told_apart else [f"failed {doing}"]),
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
            self._warn_once(message, f"unsupported {module}")

    def begin_measurement(self, modules: Iterable[str], unsupported: Mapping[str, str]) -> None:
        """Count a measurement that modules without a spectrum are missing from.

        Args:
            modules: The modules that are measured; their histories stand in this order.
            unsupported: The reason why not, by module.
        """
        for module, reason in unsupported.items():
            self._count(module, reason)
        for module in modules:
            self._histories.of(module)

    def report_all(self, reasons: Mapping[str, str]) -> None:
        """Report why modules have no spectrum, once where it is the same for several.

        Args:
            reasons: By module; in one process or another.

        Raises:
            RuntimeError: With the first, if errors are to be raised.
        """
        for reason in dict.fromkeys(reasons.values()):
            if self.on_error == "raise":
                raise RuntimeError(f"No Lyapunov spectrum: {reason}")
            self.report([name for name in reasons if reasons[name] == reason], reason)

    def examine(self, measured: Mapping[str, Measurement]) -> None:
        """Count spectra that are lost or fail their certificates; all processes agree on which.

        Args:
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
                with self.guard([module], "measuring"):
                    raise RuntimeError(message)
            elif lost:
                self._warn_once(
                    f"{lost} of the sequences of {module!r} did not stay finite and are left out "
                    "of its spectrum: inputs are not finite, or the state or the tangent vectors "
                    "overflowed. Look at the weights and inputs, lower `orthonormalize_every`, or "
                    "use dtype='float64'.",
                    "lost",
                )
            if measurement.num_short and not measurement.is_lost:
                self._warn_once(
                    f"{measurement.num_short} of the sequences of {module!r} are left out of its "
                    "spectrum: they are no longer than the warm-up. Lower `warmup_steps`, or offer "
                    "longer sequences.",
                    "short",
                )
            if fault is not None:
                self.uncertified(module, fault)

    def uncertified(self, module: str, fault: str) -> None:
        """Record a spectrum that fails its certificate and warn about the first.

        Args:
            module: The module's name.
            fault: Which checks failed.

        Raises:
            RuntimeError: If errors are to be raised.
        """
        message = f"fails its certificate: {fault}"
        if self.on_error == "raise":
            raise RuntimeError(f"The Lyapunov spectrum of {module!r} {message}.")
        self._count(module, message)
        self._warn_once(
            f"The Lyapunov spectrum of {module!r} {message}. Don't trust it: `certified` is logged "
            "as 0, the history records each failure. A subclass of torch's modules with a forward "
            "pass of its own must be known by `register_recurrence`; anything else is an error of "
            "lightning_lyap: please report it. Use on_error='raise' to stop instead.",
            "certificate",
        )

    def _count(self, module: str, message: str) -> None:
        """Record a failure in the history of a module, at the epoch and step of the scalars."""
        epoch, step = completed_epochs(self._trainer), logging_step(self._trainer)
        self._histories.of(module).record_failure(epoch, step, message)
