"""The LightningModules of the paper's two tasks."""

from lightning_lyap.tasks.charrnn import CharRNN
from lightning_lyap.tasks.mocap import MocapRNN

__all__ = ["CharRNN", "MocapRNN"]
