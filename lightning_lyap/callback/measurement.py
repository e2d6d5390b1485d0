"""One measurement of a network: the settings, the sequences, a spectrum for each module."""

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import nn

from lightning_lyap.dynamics.conversion import as_dynamics
from lightning_lyap.estimator.remarks import OVERLAPPING, SETTLING
from lightning_lyap.estimator.result import LayeredSpectrum, SpectrumEstimate
from lightning_lyap.estimator.settings import MeasurementSettings
from lightning_lyap.metric import LyapunovSpectrum
from lightning_lyap.network.sequences import DrivingSequences
from lightning_lyap.network.spectra import spectrum_on
from lightning_lyap.network.undisturbed import preserved_generators


@dataclass(frozen=True, eq=False)
class Measurement:
    """The spectrum of one module.

    Attributes:
        spectrum: Over the sequences of all processes.
        estimate: Over those of this process, with its log-stretches; None if it had none.
        seconds: Wall time.
        certified: Whether the estimates of all processes passed their certificates.
    """

    spectrum: LayeredSpectrum
    estimate: SpectrumEstimate | None
    seconds: float
    certified: bool = True

    @property
    def is_lost(self) -> bool:
        """Whether no sequence of any process stayed finite, so that there is no spectrum."""
        return self.spectrum.num_sequences == 0

    @property
    def num_lost(self) -> int:
        """How many sequences of this process did not stay finite, short ones apart."""
        estimate = self.estimate
        return 0 if estimate is None else int((~estimate.valid & (estimate.steps > 0)).sum())

    @property
    def num_short(self) -> int:
        """How many sequences of this process have no step beyond the warm-up."""
        return 0 if self.estimate is None else int((self.estimate.steps == 0).sum())

    @property
    def fault(self) -> str | None:
        """Which checks of the certificate failed in this process; None if all is well, or lost."""
        if self.certified or self.is_lost:
            return None
        failures = () if self.estimate is None else self.estimate.certificate.failures
        return "; ".join(failures) or "the certificate fails in another process"


@dataclass(frozen=True, eq=False)
class NetworkMeasurement:
    """The spectra of all modules of a network at one time.

    Attributes:
        by_module: Measurements by module, of those that did not fail.
        seconds: Wall time of all of them, with the forward pass on offered windows.
        missing: Names of the modules whose measurement failed.
    """

    by_module: Mapping[str, Measurement]
    seconds: float
    missing: tuple[str, ...] = ()


def estimate_spectra(
    modules: Mapping[str, nn.Module],
    sequences: Mapping[str, DrivingSequences],
    settings: MeasurementSettings,
    progress: Callable[[str, int, int], None] | None = None,
    quiet: bool = False,
) -> dict[str, tuple[SpectrumEstimate, float]]:
    """Estimate the spectrum of each module on this process's sequences, without communication.

    An estimate that fails its certificate is no reason to warn here: whoever measures again and
    again says so once.

    Args:
        modules: The modules by name.
        sequences: What drives each of them in this process; none for a module without.
        settings: How to measure; K is at most the size of each module.
        progress: Called with (module's name, steps done, steps in all).
        quiet: Whether to leave it to the caller to say that sequences did not stay finite.

    Returns:
        An estimate, with its log-stretches, and its wall time for each module that has sequences.

    Raises:
        ValueError: If a spectrum can't be measured with these settings.
    """
    for name in modules.keys() - sequences.keys():
        # Its size must be known for `combine_processes`: what is missing for that is said here,
        # before the processes meet.
        as_dynamics(modules[name], None, settings.state)
    estimates: dict[str, tuple[SpectrumEstimate, float]] = {}
    for name, driving in sequences.items():
        start = time.perf_counter()
        with warnings.catch_warnings():
            # The callback says these once a run, by the name of the module.
            warnings.filterwarnings("ignore", "The Lyapunov spectrum fails its certificate")
            for said_once in (SETTLING, OVERLAPPING):
                warnings.filterwarnings("ignore", said_once)
            if quiet:
                warnings.filterwarnings("ignore", r"\d+ of \d+ sequences (did not|are left)")
            estimate = spectrum_on(
                modules[name],
                driving,
                settings.num_exponents,
                keep_log_stretches=True,
                progress=None if progress is None else partial(progress, name),
                **settings.estimator_settings(),
            )
        estimates[name] = (estimate, time.perf_counter() - start)
    return estimates


@preserved_generators()
def combine_processes(
    modules: Mapping[str, nn.Module],
    estimates: Mapping[str, tuple[SpectrumEstimate, float]],
    settings: MeasurementSettings,
) -> dict[str, Measurement]:
    """Average the estimates of all processes; every process must call it.

    A registered default state, asked for by a process without sequences, may draw at random: the
    global generators stay as they are.

    Args:
        modules: The modules by name.
        estimates: What `estimate_spectra` returned in this process.
        settings: How it was measured.

    Returns:
        A measurement for each module.
    """
    measured: dict[str, Measurement] = {}
    for name, module in modules.items():
        estimate, seconds = estimates.get(name, (None, 0.0))
        if estimate is None:
            system = as_dynamics(module, None, settings.state)
            size, device = system.tangent_size, system.device
        else:
            size, device = estimate.tangent_size, estimate.exponents.device
        count = min(settings.num_exponents or size, size)
        metric = LyapunovSpectrum(count, **settings.estimator_settings()).to(device)
        if estimate is None:
            metric.expect(module)
        else:
            metric.update(estimate)
        certified = bool(metric.compute()["certified"])
        measured[name] = Measurement(metric.mean_spectrum(), estimate, seconds, certified)
    return measured
