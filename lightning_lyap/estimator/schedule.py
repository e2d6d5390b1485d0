"""How many steps to take before the next factorization: a fixed number, or as many as is safe."""

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from lightning_lyap.qr.error_bounds import Factorization

Interval: TypeAlias = int | Literal["auto"]
# What `AutoInterval` promises: bound of the rounding error of an exponent, nats per step.
TOLERANCES = {torch.float32: 1e-3, torch.float64: 1e-6}
# The part of a complete spectrum, its end, that may be lost to save factorizations, and the longest
# block for which it may: five steps save four factorizations in five, and longer ones too little
# more to give up an exponent for.
GIVEN_UP_FRACTION, MOST_STEPS_GIVING_UP = 1 / 16, 5
FIRST_INTERVAL, MOST_GROWTH = 2, 4
# A block is taken back if it makes the error this many times larger than promised.
MOST_OVERSHOOT = 4.0


class FixedInterval:
    """The paper's T_ON: always the same number of steps.

    Args:
        steps: Steps between factorizations.

    Attributes:
        tolerance: Promised bound of the rounding errors, nats per step; None promises nothing.
        reads_results: Whether `accepts` reads the factorization, and so waits for the device.
    """

    tolerance: float | None = None
    reads_results = False

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def propose(self) -> int:
        """Return the number of steps until the next factorization."""
        return self._steps

    def accepts(self, steps: int, result: Factorization, counted: bool) -> bool:
        """Judge the factorization that closed a block; a fixed interval accepts every one.

        Args:
            steps: Steps of the block.
            result: The factorization of the sequences that moved, ``[b, N, K]``.
            counted: Whether the block counts, or belongs to the warm-up.

        Returns:
            False to go back to the start of the block and take fewer steps.
        """
        return True


class AutoInterval:
    r"""As many steps as keep the rounding errors of a run below a tolerance.

    Over k steps the columns of the basis spread by k times the spread of the stretches per step,
    and an exponent loses digits in proportion: its error grows like ``exp(k (s_1 - s_i))``, with
    s the log-stretches per step. From the errors of the block before and the stretches so far, the
    largest k is chosen whose errors are predicted to stay within the tolerance per step; what
    earlier blocks left of it, or took too much, is made up for. A block that turns out worse by far
    is taken back and done again with fewer steps.

    The tolerance, 1e-3 nats per step in float32 and 1e-6 in float64, holds for all exponents but
    the last sixteenth of a complete spectrum in blocks of up to five steps: a few directions that
    shrink much faster than the rest would otherwise set the pace for all. Those are marked as
    unresolved where they do not meet it. Of a partial spectrum, K < N, none is given up.

    Sequences that run on different threads, devices or processes go by intervals of their own.

    The errors are those of each factorization. Rounding also turns directions whose exponents lie
    closer together than they are known, and these then share their stretches in another way; plain
    float32 does the same at interval 1. On small random networks, where neighbors are close, up to
    one exponent in ten was off by several tolerances, and its neighbor by as much the other way.

    Args:
        num_exponents: K.
        tangent_size: N.
        dtype: Type of the arithmetic.

    Reference:
        Vogt et al., On Lyapunov Exponents for RNNs, App. C and Fig. 6, for what a fixed interval
        that is too long does. Benettin et al. (1980), Meccanica 15, 9-20, choose it by overflow.
    """

    reads_results = True

    def __init__(self, num_exponents: int, tangent_size: int, dtype: torch.dtype) -> None:
        # A partial spectrum has no end to give up: its last exponent is one of the leading ones.
        self._given_up = (
            int(GIVEN_UP_FRACTION * num_exponents) if num_exponents == tangent_size else 0
        )
        # Half of the numbers' range, nats: a basis may grow or shrink by as much within a block.
        self._range = math.log(torch.finfo(dtype).max) / 2
        self.tolerance: float | None = TOLERANCES[dtype]
        self._limit = TOLERANCES[dtype]
        self._next = FIRST_INTERVAL
        # What earlier blocks left of the tolerance, nats; negative if they took too much.
        self._unspent = 0.0
        # Sequences and stretches that a single step made infinite or zero: no block is shorter.
        self._infinite, self._zeros = 0, 0
        self._steps = 0
        self._stretched: Tensor | float = 0.0
        self._fastest = 0.0
        # Exponents lost in a single step, ``[K]``: no interval can save them, so they set none.
        self._lost: Tensor | None = None

    def propose(self) -> int:
        """Return the number of steps that is safe; see `FixedInterval.propose`."""
        return self._next

    def accepts(self, steps: int, result: Factorization, counted: bool) -> bool:
        """Take the block back if it was too long, learn from it if not; see `FixedInterval`."""
        # Many small decisions follow: waiting once for the device is enough.
        stretches, resolved, errors = (part.cpu() for part in result[1:4])
        finite = ~(stretches.isnan() | stretches.isposinf()).any(-1)
        infinite, zeros = int((~finite).sum()), int(stretches.isneginf().sum())
        # Overflow and underflow, if a single step did not bring about as much.
        if steps > 1 and (infinite > self._infinite or zeros > self._zeros):
            self._next = steps // 2
            return False
        if steps == 1:
            self._infinite, self._zeros = max(infinite, self._infinite), max(zeros, self._zeros)
        if not bool(finite.any()):
            self._next = 1
            return True
        stretches = stretches[finite]
        error = errors[finite].mean(0).nan_to_num(nan=math.inf)
        if steps == 1:
            lost = (~resolved[finite] & stretches.isfinite()).any(0)
            self._lost = lost if self._lost is None else self._lost | lost
        error = self._without_lost(error)
        spent = self._worst(error, steps)
        if steps > 1 and spent > MOST_OVERSHOOT * self._limit * steps:
            self._next = self._longest(steps, error, steps - 1) if self._steps else steps // 2
            return False
        if counted:
            self._unspent += self._limit * steps - spent
        self._remember(steps, stretches)
        self._next = self._longest(steps, error, MOST_GROWTH * steps)
        return True

    def _remember(self, steps: int, stretches: Tensor) -> None:
        """Take the log-stretches of a block, ``[b, K]``, into the mean over the run."""
        largest = stretches.amax(-1, keepdim=True)
        # Directions that are mapped to zero lose no digits.
        known = torch.where(stretches.isneginf(), largest, stretches).nan_to_num(neginf=0.0)
        fastest = self._without_lost(known.abs().amax(0))
        self._fastest = self._worst(fastest, steps) / steps
        self._stretched = self._stretched + known.mean(0)
        self._steps += steps

    def _without_lost(self, values: Tensor) -> Tensor:
        """Return values, ``[K]``, with zeros for the exponents that a single step loses."""
        return values if self._lost is None else values.masked_fill(self._lost, 0.0)

    def _worst(self, values: Tensor, steps: int) -> float:
        """Return the largest of values ``[K]``, but for those given up in a block of that size."""
        given_up = self._given_up if steps <= MOST_STEPS_GIVING_UP else 0
        return values.kthvalue(len(values) - given_up).values.item()

    def _longest(self, steps: int, error: Tensor, most: int) -> int:
        """Return the longest block, ``most`` steps at most, predicted to keep the tolerance.

        ``error``, ``[K]``, nats, is that of the stretches of the block before, of ``steps`` steps.
        """
        per_step = torch.as_tensor(self._stretched) / self._steps
        spread = per_step.max() - per_step
        in_range = int(self._range / max(self._fastest, 1e-9))  # no stretch sets no limit
        for length in range(min(most, in_range), 1, -1):
            # Predictions of longer blocks are less sure; a single block says little about the next.
            margin = 0.5 if length > steps else MOST_OVERSHOOT if self._unspent > 0 else 1.0
            predicted = error * (spread * (length - steps)).exp()
            if self._worst(predicted, length) <= margin * (self._limit * length):
                return length
        return 1


Schedule: TypeAlias = FixedInterval | AutoInterval


def schedule_for(
    every: Interval, num_exponents: int, tangent_size: int, dtype: torch.dtype
) -> Schedule:
    """Return a new schedule for the interval asked for.

    Args:
        every: Steps between factorizations, or ``"auto"``.
        num_exponents: K.
        tangent_size: N.
        dtype: Type of the arithmetic.

    Returns:
        The schedule, with nothing learned yet.
    """
    if every == "auto":
        return AutoInterval(num_exponents, tangent_size, dtype)
    return FixedInterval(every)
