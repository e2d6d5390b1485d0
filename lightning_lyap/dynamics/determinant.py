"""Volumes that a linear map stretches by."""

import torch
from torch import Tensor


def log_abs_det(matrix: Tensor) -> Tensor:
    """Compute ``log |det A|`` in float64, by QR on rows scaled to one size.

    Saturated units make rows that differ by tens of orders of magnitude; scaled, all of them keep
    their relative accuracy. Not by LU (`torch.linalg.slogdet`): batches of float64 matrices hang
    with several threads in the LAPACK of some CPU builds of torch.

    Args:
        matrix: ``[..., N, N]``.

    Returns:
        ``[...]``, nats, float64; ``-inf`` for a matrix with a zero row.

    Example:
        >>> log_abs_det(torch.diag(torch.tensor([-1.0, 0.5])))
        tensor(-0.6931, dtype=torch.float64)
    """
    sizes = matrix.double().abs().amax(-1)
    scaled = matrix.double() / torch.where(sizes > 0, sizes, 1.0).unsqueeze(-1)
    diagonal = torch.geqrf(scaled)[0].diagonal(dim1=-2, dim2=-1)
    return diagonal.abs().log().sum(-1) + sizes.log().sum(-1)
