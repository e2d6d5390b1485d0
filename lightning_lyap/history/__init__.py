"""The spectra of a run over its epochs: checkpointed, saved beside the logs, loaded and plotted."""

from lightning_lyap.history.spectrum_history import SpectrumHistory

__all__ = ["SpectrumHistory"]
