"""The LightningModules of the paper's two tasks."""

from lightning_lyap.modules.charrnn import CharRNN
from lightning_lyap.modules.mocap import MocapRNN

__all__ = ["CharRNN", "MocapRNN"]
