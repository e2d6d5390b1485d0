"""The callback: when to measure, what to measure on, and what to log."""

from lightning_lyap.callback.callback import LyapunovSpectrumCallback

__all__ = ["LyapunovSpectrumCallback"]
