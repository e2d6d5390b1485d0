"""The paper's networks under the name that configurations of earlier versions hold."""

from lightning_lyap.tasks import CharRNN, MocapRNN

__all__ = ["CharRNN", "MocapRNN"]
