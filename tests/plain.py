"""Spectra by the paper's Algorithm 1: every step counts, and a stack is one system."""

from functools import partial

from lightning_lyap import lyapunov_spectrum

plain_spectrum = partial(lyapunov_spectrum, warmup_steps=0, layers="joint")
