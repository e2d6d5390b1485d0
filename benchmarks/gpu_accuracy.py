"""Bases that are hard to orthonormalize, and how right the result is; see `gpu.py`."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_lyap.qr.householder import householder_qr
from lightning_lyap.qr.orthonormalize import Cascade


@dataclass(frozen=True)
class Case:
    """A kind of basis.

    Attributes:
        kind: What falls off: ``"singular values"``, ``"rows"``, ``"columns"``; ``"silent units"``
            for rows that are zero, ``"zero columns"``, ``"half rank"``.
        lowest: From 1 to ``exp(lowest)``.
        dtype: Type of the basis.
    """

    kind: str
    lowest: float
    dtype: torch.dtype

    def __str__(self) -> str:
        return f"{self.kind}, 1 to e^{self.lowest:g}, {str(self.dtype).removeprefix('torch.')}"

    def basis(self, batch: int, size: int) -> Tensor:
        """Draw bases, ``[B, N, N]``, on the CPU; float64 holds them exactly."""
        generator = torch.Generator().manual_seed(0)

        def gaussian() -> Tensor:
            return torch.randn(batch, size, size, generator=generator, dtype=torch.float64)

        left, right = (torch.linalg.qr(gaussian()).Q for _ in range(2))
        scales = torch.linspace(0, self.lowest, size, dtype=torch.float64).exp()
        mixed = scales[torch.randperm(size, generator=generator)]
        if self.kind == "singular values":
            basis = left @ (scales.unsqueeze(-1) * right)
        elif self.kind == "columns":
            basis = gaussian() * mixed
        elif self.kind == "half rank":
            basis = gaussian()[..., : size // 2] @ gaussian()[:, : size // 2] / size
        else:
            basis = mixed.unsqueeze(-1) * left
        if self.kind == "silent units":
            basis[:, torch.randperm(size, generator=generator)[: size // 3]] = 0.0
        if self.kind == "zero columns":
            basis[..., torch.randperm(size, generator=generator)[: size // 8]] = 0.0
        return basis.to(self.dtype)


F32, F64 = torch.float32, torch.float64
CASES = [
    *[Case("singular values", low, F32) for low in (-1, -7, -13.8, -30)],
    *[Case("singular values", low, F64) for low in (-13.8, -23, -32.2)],
    *[Case("rows", low, dtype) for dtype in (F32, F64) for low in (-10, -30, -50, -80)],
    Case("rows", -150, F64),
    *[Case("columns", low, F32) for low in (-10, -40)],
    *[Case(kind, -5, dtype) for kind in ("silent units", "zero columns") for dtype in (F32, F64)],
    *[Case("half rank", 0, dtype) for dtype in (F32, F64)],
]


def loss_of_orthogonality(q: Tensor) -> float:
    """Return the largest entry of ``|Q^T Q - I|`` of bases ``[B, N, K]``, computed in float64."""
    q = q.double()
    return (q.mT @ q - torch.eye(q.shape[-1], dtype=F64, device=q.device)).abs().max().item()


def compare(case: Case, size: int, device: torch.device, batch: int = 4) -> dict[str, Any]:
    """Factorize by the cascade on a device, and by reflections in float64 on the CPU.

    Args:
        case: The kind of basis.
        size: N and K.
        device: The device.
        batch: B.

    Returns:
        The level that was needed, loss of orthogonality, largest difference of a resolved stretch
        (nats, and in units of its bound), and how many are resolved of how many. In float64 the
        reference has an error of its own, of the size of the bound.
    """
    basis = case.basis(batch, size)
    cascade = Cascade()
    result = cascade(basis.to(device))
    while not cascade.holds():
        result = cascade(basis.to(device))
    exact = householder_qr(basis.double())
    resolved = result.resolved.cpu()
    difference = (result.log_stretch.cpu() - exact.log_stretch).abs()
    share = difference / result.rounding_error.cpu()
    return {
        "level": cascade.level,
        "orthogonality": loss_of_orthogonality(result.basis),
        "largest_difference": difference[resolved].max().item(),
        "in_bounds": share[resolved].max().item(),
        "resolved": f"{int(resolved.sum())}/{resolved.numel()}",
        "resolved_by_reflections": int(householder_qr(basis).resolved.sum()),
        "zeros": int(result.log_stretch.isneginf().sum()),
        "zeros_by_reflections": int(exact.log_stretch.isneginf().sum()),
    }
