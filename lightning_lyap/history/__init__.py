"""The spectra of a run over its epochs: checkpointed, saved beside the logs, loaded and plotted."""

from lightning_lyap.history.spectrum_history import SpectrumHistory, draw_spectrum

__all__ = ["SpectrumHistory", "draw_spectrum"]
