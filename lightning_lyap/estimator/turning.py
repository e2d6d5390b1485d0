"""How far rounding may have turned the basis: errors of factorizations that later ones amplify.

A factorization leaves an error in the direction of its i-th vector, and with it a part along the
j-th, j > i. Later steps stretch that part by ``R_jj / R_ii``. As long as the vectors come in the
order of their growth it dies out. Where the order turns it grows; so does what the true vector has
of that direction, which takes over where it is not smaller than the error. It is smaller where the
directions never mix, or have been apart for long: then an error takes its place, and the two
exponents are exchanged without any stretch looking wrong.
"""

import torch
from torch import Tensor

from lightning_lyap.qr.error_bounds import SAFETY, Factorization

# From how many vectors on the largest part is looked for in some blocks alone: a pass over all
# pairs would take a tenth of the time of a block.
MANY, BLOCKS_AT_A_TIME = 64, 8
# Errors beyond first order: whatever is turned as far as this is lost.
FARTHEST = 1e6


class Turning:
    """Carries the errors of each pair of vectors along.

    Args:
        shape: Of the stretches, ``[B, C]``; C is the number of blocks times k.
        num_blocks: Blocks that the tangent space is made up of; pairs are those within one.
        device: Of the stretches.
    """

    def __init__(self, shape: tuple[int, int], num_blocks: int, device: torch.device) -> None:
        batch_size, columns = shape
        self._size = (batch_size, num_blocks, columns // num_blocks)
        # Nothing is lost in a basis that no factorization has touched.
        self._parts = torch.full((*self._size, self._size[2]), -torch.inf, device=device)
        self._largest = self._parts
        self._lost = torch.zeros(self._size, dtype=torch.bool, device=device)
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._counting = False

    def copy(self) -> "Turning":
        """Return one that has seen the same and goes on by itself."""
        other = Turning.__new__(Turning)
        vars(other).update(vars(self) | {"_waiting": list(self._waiting)})
        return other

    def see(self, log_stretch: Tensor, rounding_error: Tensor, counted: bool) -> None:
        """Take in a block.

        Args:
            log_stretch: ``[B, C]``, nats.
            rounding_error: Bounds of the errors of this factorization, ``[B, C]``, nats.
            counted: Whether the block counts: what is turned before does not matter.
        """
        if self._size[2] == 1:
            return
        if counted and not self._counting:
            self._catch_up()
            self._largest, self._counting = torch.full_like(self._parts, -torch.inf), True
        self._waiting.append((log_stretch, rounding_error))
        if len(self._waiting) >= (BLOCKS_AT_A_TIME if self._size[2] >= MANY else 1):
            self._catch_up()

    def _catch_up(self) -> None:
        """Carry the parts over the blocks that wait, ``[B, M, k, k]``: row i, column j."""
        if not self._waiting:
            return
        stretches, errors = zip(*self._waiting, strict=True)
        self._waiting = []
        stretch = torch.stack(stretches).sum(0).float().view(self._size)
        error = torch.stack(errors).amax(0).float().view(self._size).nan_to_num()
        grown = self._parts + stretch.unsqueeze(-2) - stretch.unsqueeze(-1)
        # Directions that are mapped to zero take part in nothing from then on.
        grown = torch.maximum(grown, error.log().unsqueeze(-1))
        self._lost = self._lost | stretch.isneginf()
        lost = self._lost.unsqueeze(-1) | self._lost.unsqueeze(-2)
        self._parts = grown.nan_to_num(nan=-torch.inf).masked_fill(lost, -torch.inf)
        self._largest = torch.maximum(self._largest, self._parts)

    def bounds(self, basis: Tensor) -> Tensor:
        """Bound what turning has done to the sums of log-stretches.

        Args:
            basis: At the end, ``[B, N, k]``: vectors without a common entry have never mixed.

        Returns:
            ``[B, C]``, nats, float64.
        """
        self._catch_up()
        blocks = basis.unflatten(-2, (self._size[1], -1)).abs()
        apart = (blocks.mT @ blocks) == 0
        largest = self._largest.masked_fill(apart, -torch.inf)
        upper = torch.ones_like(largest[0, 0], dtype=torch.bool).triu(1)
        largest = largest.masked_fill(~upper, -torch.inf)
        worst = torch.maximum(largest.amax(-1), largest.amax(-2))
        return worst.exp().double().flatten(1)


class CoupledTurning:
    """Carries a sample of the errors along, with all couplings of the vectors, for joint stacks.

    To first order an error turns the vectors by ``Q W`` with W strictly lower triangular, and a
    factorization R makes ``R W R^-1`` of it: its lower part is what is left to turn, its diagonal
    what the log-stretches gain. Where one layer drives another, entries beside the diagonal of R
    are larger than those on it by many orders, and what pairs alone would say is too little.

    Args:
        shape: Of the stretches, ``[B, K]``.
        device: Of the stretches.
    """

    def __init__(self, shape: tuple[int, int], device: torch.device) -> None:
        batch_size, count = shape
        self._left = torch.zeros(batch_size, count, count, dtype=torch.float64, device=device)
        self._gained = torch.zeros(shape, dtype=torch.float64, device=device)
        self._largest = self._gained
        # On the CPU, so that it is the same on every device.
        self._generator = torch.Generator().manual_seed(0)

    def copy(self) -> "CoupledTurning":
        """Return one that has seen the same and goes on by itself."""
        other = CoupledTurning.__new__(CoupledTurning)
        vars(other).update(vars(self))
        return other

    def see(self, result: Factorization, moved: Tensor | None, counted: bool) -> None:
        """Take in a block.

        Args:
            result: The factorization of the sequences that moved, with its R.
            moved: Which these are, ``[b]``; None for all.
            counted: Whether the block counts: what is gained before does not matter.
        """
        if result.triangle is None:
            return
        left = self._left if moved is None else self._left[moved]
        if result.columns is not None:
            order = result.columns.unsqueeze(-1).expand_as(left)
            left = left.gather(1, order).gather(2, order.mT)
        triangle = result.triangle.double().triu()
        # Directions that are mapped to zero take part in nothing.
        dead = triangle.diagonal(dim1=-2, dim2=-1) == 0
        triangle = triangle.masked_fill(dead.unsqueeze(-1) | dead.unsqueeze(-2), 0.0)
        triangle = triangle + torch.diag_embed(dead.double())
        pushed = torch.linalg.solve_triangular(triangle, triangle @ left, upper=True, left=False)
        pushed = pushed.nan_to_num(FARTHEST, FARTHEST, -FARTHEST)
        gained = pushed.diagonal(dim1=-2, dim2=-1)
        noise = torch.randn(left.shape[1:], generator=self._generator, dtype=torch.float64)
        error = (result.rounding_error / SAFETY).nan_to_num().unsqueeze(-2)
        left = pushed.clamp(-FARTHEST, FARTHEST) + noise.to(error) * error
        left = left.tril(-1)
        if moved is not None:
            left = self._left.index_copy(0, moved, left)
            gained = torch.zeros_like(self._gained).index_copy(0, moved, gained)
        self._left = left
        if counted:
            self._gained = self._gained + gained
            self._largest = torch.maximum(self._largest, self._gained.abs())

    def bounds(self) -> Tensor:
        """Return how far the sums of log-stretches came to be off, ``[B, K]``, nats, float64."""
        return self._largest
