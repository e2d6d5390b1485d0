"""How many steps to take before the next factorization: a fixed number, or as many as is safe."""

import math
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from lightning_lyap.qr.error_bounds import Factorization

Interval: TypeAlias = int | Literal["auto"]
# What `AutoInterval` promises: bound of the rounding error of an exponent, nats per step.
TOLERANCES = {torch.float32: 1e-3, torch.float64: 1e-6}
# The part of a complete spectrum, its end, that may be lost to save factorizations, and the longest
# block for which it may: four in five saved, the rest is not worth an exponent.
SACRIFICE, WORTH = 1 / 16, 5
FIRST, GROWTH = 2, 4
# A block is taken back if it makes the error this many times larger than promised.
EXCESS = 4.0


class Schedule(Protocol):
    """Proposes intervals and judges what came of them."""

    @property
    def tolerance(self) -> float | None:
        """Promised bound of the rounding errors, nats per step; None promises nothing."""
        ...

    @property
    def looks(self) -> bool:
        """Whether `accepts` looks at the factorization, and so waits for the device."""
        ...

    def propose(self) -> int:
        """Return the number of steps until the next factorization."""
        ...

    def accepts(self, steps: int, result: Factorization, counted: bool) -> bool:
        """Judge the factorization that closed a block.

        Args:
            steps: Steps of the block.
            result: The factorization of the sequences that moved, ``[b, N, K]``.
            counted: Whether the block counts, or belongs to the warm-up.

        Returns:
            False to go back to the start of the block and take fewer steps.
        """
        ...


class FixedInterval:
    """The paper's T_ON: always the same number of steps.

    Args:
        steps: Steps between factorizations.
    """

    tolerance: float | None = None
    looks = False

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def propose(self) -> int:
        """Return the interval; see `Schedule.propose`."""
        return self._steps

    def accepts(self, steps: int, result: Factorization, counted: bool) -> bool:
        """Accept every block; see `Schedule.accepts`."""
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
    float32 does the same at interval 1. On small random networks, where neighbours are close, up to
    one exponent in ten was off by several tolerances, and its neighbour by as much the other way.

    Args:
        num_exponents: K.
        tangent_size: N.
        dtype: Type of the arithmetic.

    Reference:
        Vogt et al., On Lyapunov Exponents for RNNs, App. C and Fig. 6, for what a fixed interval
        that is too long does. Benettin et al. (1980), Meccanica 15, 9-20, choose it by overflow.
    """

    looks = True

    def __init__(self, num_exponents: int, tangent_size: int, dtype: torch.dtype) -> None:
        self._given_up = int(SACRIFICE * num_exponents) if num_exponents == tangent_size else 0
        self._range = math.log(torch.finfo(dtype).max) / 2
        self.tolerance: float | None = TOLERANCES[dtype]
        self._limit = TOLERANCES[dtype]
        self._next = FIRST
        # What is left of the tolerance, nats.
        self._saved = 0.0
        # Sequences and stretches that a single step made infinite or zero.
        self._infinite, self._zeros = 0, 0
        self._steps = 0
        self._stretched: Tensor | float = 0.0
        self._fastest = 0.0
        # Lost in a single step: no interval can save them.
        self._hopeless: Tensor | None = None

    def propose(self) -> int:
        """Return the number of steps that is safe; see `Schedule.propose`."""
        return self._next

    def accepts(self, steps: int, result: Factorization, counted: bool) -> bool:
        """Take the block back if it was too long, learn from it if not; see `Schedule.accepts`."""
        # Many small decisions follow: waiting once for the device is enough.
        result = result._replace(
            log_stretch=result.log_stretch.cpu(),
            resolved=result.resolved.cpu(),
            rounding_error=result.rounding_error.cpu(),
        )
        finite = ~(result.log_stretch.isnan() | result.log_stretch.isposinf()).any(-1)
        # Overflow and underflow, if a single step did not bring about as much.
        infinite, zeros = int((~finite).sum()), int(result.log_stretch.isneginf().sum())
        if steps > 1 and (infinite > self._infinite or zeros > self._zeros):
            self._next = steps // 2
            return False
        if steps == 1:
            self._infinite, self._zeros = max(infinite, self._infinite), max(zeros, self._zeros)
        if not bool(finite.any()):
            self._next = 1
            return True
        stretch = result.log_stretch[finite]
        error = result.rounding_error[finite].mean(0).nan_to_num(nan=math.inf)
        if steps == 1:
            lost = (~result.resolved[finite] & stretch.isfinite()).any(0)
            self._hopeless = lost if self._hopeless is None else self._hopeless | lost
        if self._hopeless is not None:
            error = error.masked_fill(self._hopeless, 0.0)
        spent = self._worst(error, steps)
        if steps > 1 and spent > EXCESS * self._limit * steps:
            self._next = self._longest(steps, error, steps - 1) if self._steps else steps // 2
            return False
        if counted:
            self._saved += self._limit * steps - spent
        self._remember(steps, stretch)
        self._next = self._longest(steps, error, GROWTH * steps)
        return True

    def _remember(self, steps: int, stretch: Tensor) -> None:
        """Take the stretches of a block into the mean over the run.

        Args:
            steps: Its steps.
            stretch: Its log-stretches, ``[b, K]``.
        """
        largest = stretch.amax(-1, keepdim=True)
        # Directions that are mapped to zero lose no digits.
        known = torch.where(stretch.isneginf(), largest, stretch).nan_to_num(neginf=0.0)
        fastest = known.abs().amax(0)
        if self._hopeless is not None:
            fastest = fastest.masked_fill(self._hopeless, 0.0)
        self._fastest = self._worst(fastest, steps) / steps
        self._stretched = self._stretched + known.mean(0)
        self._steps += steps

    def _worst(self, values: Tensor, steps: int) -> float:
        """Return the largest value among the exponents that are not given up.

        Args:
            values: ``[K]``, such as the errors of a block's stretches.
            steps: Steps of the block.

        Returns:
            One of them.
        """
        given_up = self._given_up if steps <= WORTH else 0
        return values.kthvalue(len(values) - given_up).values.item()

    def _longest(self, steps: int, error: Tensor, most: int) -> int:
        """Return the longest block that is predicted to keep the tolerance.

        Args:
            steps: Steps of the block before.
            error: The errors of its stretches, ``[K]``, nats.
            most: Upper limit.

        Returns:
            At least 1.
        """
        per_step = torch.as_tensor(self._stretched) / self._steps
        spread = per_step.max() - per_step
        in_range = int(self._range / max(self._fastest, 1e-9))
        for length in range(min(most, in_range), 1, -1):
            share = self._limit * length
            # Predictions of longer blocks are less sure; a single block says little about the next.
            allowed = 0.5 if length > steps else EXCESS if self._saved > 0 else 1.0
            predicted = error * (spread * (length - steps)).exp()
            if self._worst(predicted, length) <= allowed * share:
                return length
        return 1
