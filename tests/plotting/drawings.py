"""The figures of a small spectrum, one of each kind."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lightning_lyap.plotting import plot_convergence, plot_history, plot_spectrum

EXPONENTS = torch.tensor([0.5, 0.1, -0.4, -2.0], dtype=torch.float64)
STD = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
EPOCHS = torch.tensor([0.0, 1.0, 3.0])
STEPS = torch.tensor([2, 4, 5])
Draw = Callable[..., tuple[Any, Any]]
DRAWINGS: dict[str, Draw] = {
    "spectrum": lambda **kw: plot_spectrum(EXPONENTS, STD, **kw),
    "convergence": lambda **kw: plot_convergence(EXPONENTS.repeat(3, 1), STEPS, **kw),
    "history": lambda **kw: plot_history(EPOCHS, EXPONENTS.repeat(3, 1), **kw),
}
drawings = pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)


def bar_of(figure: Any) -> Any:
    """The axes of the colorbar."""
    return figure.axes[1]
