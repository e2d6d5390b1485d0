"""Maps and flows of low dimension."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lightning_lyap import SpectrumEstimate, lyapunov_spectrum
from lightning_lyap.systems import (
    LORENZ,
    LORENZ_FIXED,
    LORENZ_STEP,
    bernoulli_lattice_exponents,
    bernoulli_lattice_step,
    henon_step,
    ikeda_step,
    kaplan_yorke_step,
    logistic_step,
    lorenz_fixed_point,
    lorenz_step,
)
from validation import references
from validation.row import Effort, Row, farthest

F64 = torch.float64
TRANSIENT = 100
NUMPY = "average of log stretches along orbits, NumPy"


def _autonomous(step: Any, start: Tensor, steps: int, **settings: Any) -> SpectrumEstimate:
    """Measure a map without input.

    Args:
        step: A step function.
        start: ``[B, N]``.
        steps: Steps counted.
        settings: Further arguments of `lyapunov_spectrum`.

    Returns:
        The estimate.
    """
    warmup = settings.setdefault("warmup_steps", TRANSIENT)
    inputs = torch.zeros(start.shape[0], warmup + steps, 0, dtype=F64)
    return lyapunov_spectrum(step, inputs, initial_state=start, **settings)


def _measured(estimate: SpectrumEstimate, k: int, unit: float = 1.0) -> tuple[float, float]:
    """Return the k-th exponent and its standard error, both divided by a unit."""
    return float(estimate.exponents[k]) / unit, float(estimate.standard_errors[k]) / unit


def logistic(effort: Effort) -> list[Row]:
    """Logistic map: the closed form at r = 4, a Birkhoff average at r = 3.9."""
    rows = []
    reference = references.logistic(3.9, effort.reference_steps, effort.seed)
    for r, source, (known, error) in (
        (4.0, "log 2 (Ulam, von Neumann 1947)", (math.log(2), 0.0)),
        (3.9, NUMPY, reference),
    ):
        start = 0.1 + 0.8 * torch.rand(effort.orbits, 1, dtype=F64)
        estimate = _autonomous(partial(logistic_step, r=r), start, effort.steps)
        measured = _measured(estimate, 0)
        rows.append(Row(f"logistic map, r = {r:g}", "exponent", source, known, *measured, error))
    return rows


def henon(effort: Effort) -> list[Row]:
    """Henon map; Sprott (2003) lists 0.4192 and -1.6232."""
    known, error = references.henon(effort.reference_steps, effort.seed)
    start = 0.1 * torch.rand(effort.orbits, 2, dtype=F64)
    estimate = _autonomous(henon_step, start, effort.steps)
    name, total = "Henon map, (1.4, 0.3)", math.log(0.3)
    return [
        Row(
            name,
            "exponent 1",
            f"{NUMPY}; Sprott 2003: 0.4192",
            known,
            *_measured(estimate, 0),
            error,
        ),
        Row(
            name,
            "exponent 2",
            "log 0.3 minus the first; Sprott 2003: -1.6232",
            total - known,
            *_measured(estimate, 1),
            error,
        ),
        _sum(name, "log 0.3, at every step", total, estimate),
    ]


def ikeda(effort: Effort) -> list[Row]:
    """Ikeda map, u = 0.9, on its chaotic attractor."""
    known, error = references.ikeda(0.9, effort.reference_steps, effort.seed)
    start = 0.1 * torch.rand(effort.orbits, 2, dtype=F64)
    estimate = _autonomous(ikeda_step, start, effort.steps)
    name, total = "Ikeda map, u = 0.9", 2 * math.log(0.9)
    second = Row(
        name,
        "exponent 2",
        "2 log u minus the first",
        total - known,
        *_measured(estimate, 1),
        error,
    )
    return [
        Row(name, "exponent 1", NUMPY, known, *_measured(estimate, 0), error),
        second,
        _sum(name, "2 log u, at every step", total, estimate),
    ]


def _sum(name: str, source: str, known: float, estimate: SpectrumEstimate) -> Row:
    """Compare a sum that is exact at every step."""
    total = float(estimate.exponents.sum())
    return Row(name, "sum", source, known, total, tolerance=1e-12)


def kaplan_yorke(effort: Effort) -> list[Row]:
    """Kaplan-Yorke map: constant stretches under a shear that turns the basis, below 3/T."""
    name, steps = "Kaplan-Yorke map, a = 0.2", effort.steps
    estimate = lyapunov_spectrum(
        kaplan_yorke_step,
        torch.rand(100, TRANSIENT + steps, 1, dtype=F64),
        initial_state=torch.rand(100, 2, dtype=F64),
        warmup_steps=TRANSIENT,
    )
    known = torch.tensor([math.log(2), math.log(0.2)], dtype=F64)
    dimension = estimate.measures().kaplan_yorke_dimension
    source = "Kaplan, Yorke 1979"
    return [
        farthest(
            name, "both exponents", f"log 2, log a: {source}", known, estimate.exponents, 3 / steps
        ),
        _sum(name, "log 2a, at every step", math.log(0.4), estimate),
        Row(
            name,
            "Kaplan-Yorke dimension",
            f"1 + log 2 / |log a|: {source}",
            1 + math.log(2) / -math.log(0.2),
            dimension,
            tolerance=3 / steps,
        ),
    ]


def bernoulli_lattice(effort: Effort) -> list[Row]:
    """Eight doubling maps on a ring: symmetric Jacobian, so exact once the basis has turned."""
    estimate = lyapunov_spectrum(
        bernoulli_lattice_step,
        torch.rand(4, 300, 8, dtype=F64),
        initial_state=torch.rand(4, 8, dtype=F64),
        warmup_steps=200,
    )
    source = "log(2 |1 - e + e cos(2 pi k/N)|)"
    known = bernoulli_lattice_exponents(8)
    name = "Bernoulli lattice, N = 8, e = 0.4"
    return [farthest(name, "all 8 exponents", source, known, estimate.exponents, 1e-10)]


def lorenz(effort: Effort) -> list[Row]:
    """Lorenz system on its attractor, per unit of time.

    Orbits that start close to each other go in step for tens of time units: hence 50 units without
    tangents before the warm-up.
    """
    start = torch.tensor([0.0, 0.0, 25.0], dtype=F64) + 5 * torch.randn(effort.orbits, 3, dtype=F64)
    for _ in range(5000):
        start = lorenz_step(start[:, :0], start)
    estimate = _autonomous(
        lorenz_step, start, effort.steps, warmup_steps=400, orthonormalize_every=5
    )
    name = "Lorenz system, (10, 28, 8/3)"
    rows = [
        Row(
            name,
            f"exponent {k + 1} per unit of time",
            "Sprott 2003",
            known,
            *_measured(estimate, k, LORENZ_STEP),
        )
        for k, known in enumerate(LORENZ)
    ]
    total = float(estimate.exponents.sum()) / LORENZ_STEP
    source = "-(10 + 1 + 8/3), but for the Runge-Kutta step"
    known = -(10 + 1 + 8 / 3)
    return [*rows, Row(name, "sum per unit of time", source, known, total, tolerance=1e-3)]


def lorenz_at_rest(effort: Effort) -> list[Row]:
    """Lorenz system at its stable fixed point for rho = 20.

    974 steps are 27.00 half turns of the complex pair, after which the basis is back where it was;
    what is left is the error of the Runge-Kutta step. The interval does not divide them: without
    the last, shorter block the exponents would be off by 0.2 %.
    """
    step = partial(lorenz_step, rho=20.0)
    estimate = _autonomous(step, lorenz_fixed_point(20.0)[None], 974, orthonormalize_every=3)
    known = torch.tensor(LORENZ_FIXED, dtype=F64)
    source = "eigenvalues at the fixed point: -0.154792 twice, -13.357083"
    name, measured = "Lorenz system, rho = 20", estimate.exponents / LORENZ_STEP
    return [farthest(name, "all 3 exponents per unit of time", source, known, measured, 1e-4)]
