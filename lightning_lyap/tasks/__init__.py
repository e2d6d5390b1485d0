"""The paper's two tasks as LightningModules, and what train.py needs beside them."""

from lightning_lyap.tasks.charrnn import CharRNN
from lightning_lyap.tasks.mocap import MocapRNN

__all__ = ["CharRNN", "MocapRNN"]
