"""Figures of spectra: their shape, their convergence and their history.

Every function returns ``(figure, axes)`` and draws into ``ax`` where one is given. Figures are made
without pyplot, so nothing is registered globally and no display is needed. Only this package knows
matplotlib, and only when it draws.
"""

from lightning_lyap.plotting.canvas import plotting_available, render, save_png
from lightning_lyap.plotting.convergence import plot_convergence
from lightning_lyap.plotting.history import plot_history
from lightning_lyap.plotting.spectrum import plot_spectrum

__all__ = [
    "plot_convergence",
    "plot_history",
    "plot_spectrum",
    "plotting_available",
    "render",
    "save_png",
]
