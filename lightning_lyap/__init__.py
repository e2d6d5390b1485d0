"""Lyapunov spectra of recurrent networks while they train.

Names are imported on first use: the estimator needs torch alone, the metric torchmetrics, the
callback Lightning, the figures matplotlib.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lightning_lyap._version import __version__

if TYPE_CHECKING:
    from lightning_lyap.callback import LyapunovSpectrumCallback
    from lightning_lyap.callback.tensorboard_layout import scalar_layout
    from lightning_lyap.dynamics import (
        AutodiffDynamics,
        Dynamics,
        register_recurrence,
        unregister_recurrence,
    )
    from lightning_lyap.estimator.result import SpectrumEstimate
    from lightning_lyap.estimator.spectrum import lyapunov_spectrum
    from lightning_lyap.history import SpectrumHistory
    from lightning_lyap.metric import LyapunovSpectrum
    from lightning_lyap.network.spectra import spectra_of
    from lightning_lyap.statistics.measures import (
        SpectrumMeasures,
        kaplan_yorke_dimension,
        kolmogorov_sinai_entropy,
        num_positive_exponents,
    )

_HOMES = {
    # estimation
    "lyapunov_spectrum": "estimator.spectrum",
    "spectra_of": "network.spectra",
    "SpectrumEstimate": "estimator.result",
    "LyapunovSpectrum": "metric",
    # dynamics
    "AutodiffDynamics": "dynamics",
    "Dynamics": "dynamics",
    "register_recurrence": "dynamics",
    "unregister_recurrence": "dynamics",
    # statistics
    "SpectrumMeasures": "statistics.measures",
    "kaplan_yorke_dimension": "statistics.measures",
    "kolmogorov_sinai_entropy": "statistics.measures",
    "num_positive_exponents": "statistics.measures",
    # training
    "scalar_layout": "callback.tensorboard_layout",
    "LyapunovSpectrumCallback": "callback",
    "SpectrumHistory": "history",
}

__all__ = [
    "AutodiffDynamics",
    "Dynamics",
    "LyapunovSpectrum",
    "LyapunovSpectrumCallback",
    "SpectrumEstimate",
    "SpectrumHistory",
    "SpectrumMeasures",
    "__version__",
    "kaplan_yorke_dimension",
    "kolmogorov_sinai_entropy",
    "lyapunov_spectrum",
    "num_positive_exponents",
    "register_recurrence",
    "scalar_layout",
    "spectra_of",
    "unregister_recurrence",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name == "exact_resume":  # by which configurations of earlier versions name `ExactResume`
        return import_module(f"{__name__}.tasks.exact_resume")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
