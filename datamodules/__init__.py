"""The paper's two tasks as DataModules: characters of a text and frames of motion recordings."""

from datamodules.mocap import MocapDataModule
from datamodules.text import CharTextDataModule

__all__ = ["CharTextDataModule", "MocapDataModule"]
