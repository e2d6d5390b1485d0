"""Checks some blocks of a run for the identities that an estimate must obey.

The checks use nothing of the tangent maps they check: derivatives come from `torch.func.jvp`,
volumes from determinants.
"""

import math
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_lyap._device import upload
from lightning_lyap.certificate.result import Check
from lightning_lyap.dynamics.base import Certifiable, DynamicalSystem, State
from lightning_lyap.qr.error_bounds import Factorization
from lightning_lyap.qr.orthonormalize import random_orthonormal_basis
from lightning_lyap.qr.reflectors import Basis, Reflectors, dense

# What rounding alone may do to a vector of length one.
RESIDUALS = {torch.float32: 1e-4, torch.float64: 1e-10}
# Householder QR loses orthogonality by some eps; this many times sqrt(N) eps is a fault.
ORTHOGONALITY = 50.0
# Bounds of rounding errors are exceeded by one stretch in a hundred, by a factor of 3 at most.
ROUNDING_ALLOWANCE = 3.0
# Rows by which the orthogonality of a basis is sampled where it is not written out.
ROWS = 4
# States whose derivatives are taken together.
DERIVATIVES = 256


class _Block(NamedTuple):
    """A block that is to be checked: the ``number``-th of the run, of the steps ``[d, B, ...]``.

    ``state`` is that at its start, ``complete`` whether the basis is a complete one, and ``basis``
    some basis, ``[B, N, k]``, if the product with it is to be checked. The rest: see
    `Factorization`.
    """

    number: int
    state: State
    drive: Tensor
    complete: bool
    basis: Tensor | None
    log_stretch: Tensor
    resolved: Tensor
    rounding_error: Tensor


class Inspector:
    """Checks some blocks of a run: the first, the second, the fourth and so on, and the last.

    Residuals stay on the device until they are asked for: seeing a block waits for nothing.
    What needs derivatives is put off until `check_deferred`: torch's forward mode is for one thread
    alone.

    Args:
        system: The dynamics.
        volumes: Whether to check the sum rule.
        products: Whether to check the product with the whole basis at the start: a step more.
    """

    def __init__(
        self, system: DynamicalSystem, volumes: bool = True, products: bool = True
    ) -> None:
        self._system = system
        self._volumes = volumes
        self._products = products
        self._blocks = 0
        self._checked = 0
        self._kept: list[tuple[str, Tensor, Tensor]] = []
        self._deferred: list[_Block] = []
        self._basis: Basis | None = None

    def copy(self) -> "Inspector":
        """Return an inspector that has seen the same blocks and goes on by itself."""
        other = Inspector(self._system, self._volumes, self._products)
        other._blocks, other._checked, other._kept = self._blocks, self._checked, list(self._kept)
        other._deferred, other._basis = list(self._deferred), self._basis
        return other

    @property
    def found(self) -> list[tuple[str, Check]]:
        """The checks made so far by the names of their identities: the worst sequence of each."""
        found = []
        for name, residuals, bounds in self._kept:
            residual, bound = residuals.cpu(), bounds.cpu()
            known = residual.isfinite()
            if bool(known.any()):
                index = (residual / bound).masked_fill(~known, -1.0).argmax()
                found.append((name, Check(residual[index].item(), bound[index].item())))
        return found

    def see(
        self,
        start: tuple[State, Basis],
        drive: Tensor,
        result: Factorization,
        last: bool = False,
    ) -> None:
        """Check a block in which all sequences moved, if it is one of those to be checked.

        Args:
            start: State and basis, ``[B, N, k]``, at its start.
            drive: Its steps, ``[d, B, ...]``.
            result: The factorization at its end, with the stretches that were counted.
            last: Whether the run ends with it.
        """
        self._blocks += 1
        if self._blocks & (self._blocks - 1) and not last:  # no power of two
            return
        self._check_basis(result.basis)
        if isinstance(self._system, Certifiable):
            state, basis = start
            complete = self._system.num_blocks * basis.shape[2] == self._system.tangent_size
            complete = complete and self._volumes
            self._deferred.append(_Block(self._blocks, state, drive, complete, None, *result[1:4]))
            if self._products and self._blocks == 1 and basis.shape[2] > 1:
                self._basis = basis

    def check_deferred(self) -> None:
        """Make the checks that were put off, with the precision that is set now."""
        self._give_basis()
        rest = self._deferred
        # A user's dynamics may hold something for each sequence, and then take no other batch size.
        most = DERIVATIVES if self._system.runs_in_threads else 0
        while rest:
            sizes = accumulate(block.drive.shape[1] for block in rest)
            count = max(1, sum(size <= most for size in sizes))
            self._check_tangents(rest[:count])
            rest = rest[count:]
        for block in self._deferred:
            if block.complete:
                self._check_volume(block)
        self._deferred, self._basis = [], None

    def _give_basis(self) -> None:
        """Let the product with the basis that a run starts from be checked, in one of its blocks.

        Not in the first one if there are others: in a state of zeros many terms vanish.
        """
        if self._basis is not None and self._deferred:
            same = [block.drive.shape[1] == self._basis.shape[0] for block in self._deferred[:2]]
            index = len(same) - 1 if same[-1] else 0
            self._deferred[index] = self._deferred[index]._replace(basis=dense(self._basis))

    def _keep(self, name: str, residuals: Tensor, bounds: Tensor | float) -> None:
        """Keep residuals of an identity, ``[B]``; those of lost sequences are not finite."""
        if not isinstance(bounds, Tensor):
            bounds = torch.full_like(residuals, bounds)
        self._kept.append((name, residuals, bounds))

    def _check_basis(self, basis: Basis) -> None:
        """Measure the loss of orthogonality of ``[B, N, k]``, block by block of the tangent space.

        Bases kept as reflectors are complete, so that a few orthonormal rows times them are
        orthonormal, too.
        """
        count, dtype = self._system.num_blocks, self._system.dtype
        size = basis.shape[1] // count
        if isinstance(basis, Reflectors):
            cpu = torch.device("cpu")
            rows = random_orthonormal_basis(size, min(ROWS, size), self._blocks, dtype, cpu).mT
            rows = rows.expand(basis.shape[0], -1, -1)
            parts = [block.rows_applied_to(rows) for block in basis.chunk(count, -2)]
            vectors = torch.stack(parts, dim=1).mT
        else:
            vectors = basis.unflatten(-2, (count, -1))
        gram = vectors.mT @ vectors
        unit = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        loss = (gram - unit).abs().flatten(1).amax(-1).double()
        self._keep("orthogonality", loss, ORTHOGONALITY * math.sqrt(size) * torch.finfo(dtype).eps)

    def _check_tangents(self, blocks: list[_Block]) -> None:
        """Compare tangent maps with automatic differentiation, at the first steps of some blocks.

        In a random direction for each, all as one batch. Several vectors may be multiplied in
        another way than one, and states in another way where vectors go along with them: both must
        come out the same.
        """
        system: Any = self._system
        state = tuple(map(torch.cat, zip(*[block.state for block in blocks], strict=True)))
        drive = torch.cat([block.drive[0] for block in blocks])
        vector = torch.cat([self._direction(block) for block in blocks])
        expected = system.derivative(drive, state, vector[..., 0])
        new, moved = system.step_with_basis(drive, state, vector)
        self._compare(moved, expected)
        for got, alone in zip(new, system.step(drive, state)[0], strict=True):
            self._compare(got, alone)
        by_block = expected.split([block.drive.shape[1] for block in blocks])
        for block, own in zip(blocks, by_block, strict=True):
            if block.basis is not None:
                moved = system.step_with_basis(block.drive[0], block.state, block.basis)[1]
                self._compare(moved @ self._weights(block.basis), own)

    def _direction(self, block: _Block) -> Tensor:
        """Draw a direction for a block, ``[B, N, 1]``, in the span of its basis if that is kept.

        Without a basis it is the same for all sequences.
        """
        if block.basis is not None:
            return block.basis @ self._weights(block.basis)
        size, dtype, cpu = self._system.tangent_size, self._system.dtype, torch.device("cpu")
        vector = random_orthonormal_basis(size, 1, block.number, dtype, cpu)
        return upload(vector, self._system.device).expand(block.drive.shape[1], -1, -1)

    def _weights(self, basis: Tensor) -> Tensor:
        """Draw the weights of tangent vectors, ``[k, 1]``, in a random direction."""
        cpu = torch.device("cpu")
        weights = random_orthonormal_basis(basis.shape[-1], 1, 0, basis.dtype, cpu)
        return upload(weights, basis.device)

    def _compare(self, got: Tensor, expected: Tensor) -> None:
        """Keep how far ``[B, ...]`` is from what is expected, as many numbers for each sequence."""
        wanted = expected.double().reshape(len(expected), -1)
        difference = (got.double().reshape(wanted.shape) - wanted).norm(dim=-1)
        residual = difference / wanted.norm(dim=-1).clamp(min=1)
        self._keep("tangent_map", residual, RESIDUALS[self._system.dtype])

    def _check_volume(self, block: _Block) -> None:
        """Compare the stretches of one sequence with the determinants of its steps."""
        system: Any = self._system
        drive = block.drive
        # One sequence, another one each time: determinants cost as much as factorizations.
        own = slice(row := self._checked % drive.shape[1], row + 1)
        self._checked += 1
        state = tuple(tensor[own] for tensor in block.state)
        expected = torch.zeros(1, dtype=torch.float64, device=system.device)
        for step in drive[:, own]:
            expected = expected + system.log_abs_det(step, state)
            state = system.step(step, state)[0]
        stretch = block.log_stretch[own]
        residual = (stretch.sum(-1) - expected).abs() / len(drive)
        rounding = ROUNDING_ALLOWANCE * block.rounding_error[own].sum(-1) / len(drive)
        # Noise has no volume: nothing can be said where a stretch is not resolved, and little where
        # the product with the Jacobian may have lost digits that its result doesn't tell of.
        lowest, digits = stretch.amin(-1), -math.log(torch.finfo(system.dtype).eps)
        deepest = torch.minimum(lowest - stretch.amax(-1), lowest / len(drive))
        known = block.resolved[own].all(-1) & (deepest > -digits / 2)
        residual = residual.masked_fill(~known, math.nan)
        self._keep("sum_rule", residual, rounding + RESIDUALS[system.dtype])
