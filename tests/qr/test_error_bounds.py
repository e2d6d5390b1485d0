"""Bounds of the errors of rounding: they hold, and are not far above the errors."""

import math

import pytest
import torch

from lightning_lyap.dynamics import from_torch_module
from lightning_lyap.qr.orthonormalize import orthonormalize
from tests.cells import INPUT_SIZE, ONE_OF_EACH, Case, random_state
from tests.factoring import assert_bounds_hold, error_ratios


def test_bounds_are_the_same_at_any_scale() -> None:
    q, _ = torch.linalg.qr(torch.randn(2, 20, 20, dtype=torch.float64))
    p, _ = torch.linalg.qr(torch.randn(2, 20, 20, dtype=torch.float64))
    basis = (q * torch.logspace(0, -5, 20, dtype=torch.float64)) @ p
    near, far = (orthonormalize((scale * basis).float()) for scale in (1.0, 1e38))
    assert bool(near.resolved.all())
    assert bool(far.resolved.all())
    torch.testing.assert_close(far.rounding_error, near.rounding_error, rtol=0.5, atol=0)


def errors_of_float32(basis: torch.Tensor) -> torch.Tensor:
    """Errors of float32's resolved stretches, in units of their bounds; float64 knows them."""
    single = basis.float()
    return error_ratios(orthonormalize(single), orthonormalize(single.double()))


def random_bases(kind: str, lowest: float, size: int) -> torch.Tensor:
    """Make bases with rows, columns or singular values from 1 down to ``exp(lowest)``."""
    scales = torch.linspace(0, lowest, size, dtype=torch.float64).exp()
    left, right = (torch.linalg.qr(torch.randn(20, size, size).double()).Q for _ in range(2))
    if kind == "columns":
        return torch.randn(20, size, size).double() * scales
    if kind == "singular values":
        return left @ (scales.unsqueeze(-1) * right)
    rows = scales[torch.stack([torch.randperm(size) for _ in range(20)])].unsqueeze(-1) * left
    return rows if kind == "rows" else rows[..., : size // 2]


@pytest.mark.grid(every=2)
@pytest.mark.parametrize(
    ("kind", "lowest"),
    [("columns", low) for low in (0, -4, -10, -20, -40)]
    + [("singular values", low) for low in (0, -4, -10, -20, -40)]
    + [("rows", low) for low in (0, -4)]
    + [("fewer columns", low) for low in (0, -4, -10)],
)
def test_bounds_hold_for_random_bases(kind: str, lowest: float) -> None:
    """The median lies at 0.02 to 0.16 of the bound, 99 % below 0.9."""
    ratios = torch.cat([errors_of_float32(random_bases(kind, lowest, n)) for n in (4, 10, 32, 64)])
    assert_bounds_hold(ratios, count=500, median=0.02)


@pytest.mark.parametrize("lowest", [-10, -20])
def test_bounds_of_graded_rows_are_less_sure(lowest: float) -> None:
    """Cox and Higham pivot the columns; in a run earlier steps have ordered them, here nothing."""
    ratios = torch.cat(
        [errors_of_float32(random_bases("rows", lowest, n)) for n in (4, 10, 32, 64)]
    )
    assert 0.02 < float(ratios.median()) < 0.2
    assert float((ratios > 1).float().mean()) < 0.05
    assert float(ratios.max()) < 30


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=str)
@torch.no_grad()
def test_bounds_hold_for_products_of_jacobians(case: Case) -> None:
    """Blocks of one to four steps of every kind of network."""
    ratios = []
    for _ in range(4):
        module = case.module()
        system = from_torch_module(module, case.state)
        state = system.initial_state(random_state(module, 8), 8)
        basis = torch.eye(system.tangent_size, dtype=torch.float64).expand(8, -1, -1)
        for steps in (1, 2, 3, 4) * 3:
            for drive in system.drive(torch.randn(8, steps, INPUT_SIZE, dtype=torch.float64)):
                state, push = system.step(drive, state)
                basis = push(basis)
            ratios.append(errors_of_float32(basis))
            basis = orthonormalize(basis).basis
    assert_bounds_hold(torch.cat(ratios), count=1000, median=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bounds_in_closed_form(dtype: torch.dtype) -> None:
    """Orthogonal columns have the condition 1, whatever their lengths."""
    eps = torch.finfo(dtype).eps
    basis = torch.eye(4, dtype=dtype) * torch.tensor([1.0, 3.0, 0.1, 20.0], dtype=dtype)
    error = orthonormalize(basis[None]).rounding_error
    expected = torch.full((1, 4), 3 * eps, dtype=torch.float64)
    torch.testing.assert_close(error, expected, rtol=1e-6, atol=0)
    column = torch.randn(1, 5, 1, dtype=dtype)
    parallel = orthonormalize(column.repeat(1, 1, 2))
    assert parallel.rounding_error[0, 1] > 1 or parallel.log_stretch[0, 1] == -math.inf
    assert parallel.resolved.tolist() == [[True, False]]


def test_bounds_grow_as_columns_close_in() -> None:
    """Two columns at a small angle: the second keeps what is left, so the error goes as 1/angle."""
    angles = torch.tensor([1e-1, 1e-2, 1e-3], dtype=torch.float64)
    turned = torch.stack([0 * angles, angles]) + math.pi / 4
    basis = torch.stack([turned.cos(), turned.sin()]).permute(2, 0, 1)
    error = orthonormalize(basis).rounding_error
    growth = error[1:, 1] / error[:-1, 1]
    torch.testing.assert_close(growth, torch.full_like(growth, 10.0), rtol=0.1, atol=0)
    torch.testing.assert_close(error[:, 0], error[:1, 0].expand(3))


def test_zero_columns_have_no_error() -> None:
    basis = torch.zeros(2, 3, 3)
    basis[0, 0, 1] = 1.0
    assert orthonormalize(basis).rounding_error[:, 1:].tolist() == [[0.0, 0.0]] * 2
    assert orthonormalize(basis).rounding_error.isfinite().all()
