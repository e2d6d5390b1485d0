"""What can be said for an estimate: identities it must obey, and how far it is from them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Check(NamedTuple):
    """A residual that ought to vanish, and what rounding may make of it.

    Attributes:
        residual: Not negative.
        bound: Positive; a larger residual is a fault.
        hint: What a fault may come from, and the remedy; empty where nothing more is known.
    """

    residual: float
    bound: float
    hint: str = ""

    @property
    def passed(self) -> bool:
        """Whether rounding explains the residual; NaN fails."""
        return self.residual <= self.bound

    @property
    def severity(self) -> float:
        """The residual in units of its bound, NaN counting as infinite."""
        return math.inf if math.isnan(self.residual) else self.residual / self.bound


def worst(checks: Iterable[Check | None]) -> Check | None:
    """Return the check with the largest residual in units of its bound.

    Args:
        checks: Checks of the same identity; None where it was not checked.

    Returns:
        One of them; None if there is none.

    Example:
        >>> worst([Check(1e-3, 1.0), None, Check(1e-5, 1e-6)])
        Check(residual=1e-05, bound=1e-06, hint='')
    """
    return max((c for c in checks if c is not None), key=lambda c: c.severity, default=None)


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """How far an estimate is from the identities it must obey.

    Checked are the first, second, fourth, eighth block and so on, and the last, all sequences of
    each (for the sum rule one of those that ran together, in turn); of each identity the worst case
    is kept. None: it does not exist for these dynamics, or wasn't checked.

    Attributes:
        sum_rule: ``|sum_i log R_ii - sum_t log |det J_t||`` per step, nats, of the stretches that
            were counted; for complete spectra of torch's recurrent modules. Determinants are
            computed without the tangent map: in closed form (vanilla, full LSTM) or from the
            Jacobian (GRU, hidden LSTM). The bound is that of the rounding errors. Blocks with an
            unresolved stretch, or whose stretches spread over half of the digits, are left out.
        tangent_map: ``|J v - dF(v)| / max(1, |dF(v)|)`` for a random unit vector v, with dF by
            automatic differentiation of the states; for a step function, which is differentiated so
            itself, by a difference of its states, to 1e-2 of the largest entry.
        precision: ``|J (a v + b w) - a J v - b J w| / (|a J v| + |b J w|)`` of a step function's or
            your own dynamics' tangent map, for random v and w: larger than rounding where a step
            computes in lower precision than that of its state, so that trailing exponents are
            noise.
        states: Largest difference, at all steps recorded, between the states of the dynamics and
            what a torch module (its outputs and last state), a cell (its states) or a registered
            module (what it returns in the shape of its outputs, states or last state) returned in
            the network's own forward pass. Each step starts from the state returned before, as far
            as that is told; else the bound grows with what the network makes of rounding errors.
            Without a forward pass that was watched: of the first hundred steps of a torch module,
            the first four of a cell. For a step function also between a step, the same done again,
            and that of a sequence alone. Relative to the larger of 1 and the largest state.
        orthogonality: Largest entry of ``|Q^T Q - I|``; of large complete bases on the CPU, which
            are not written out, that of ``|X Q Q^T X^T - I|`` for four random orthonormal rows X.
        rounding_error: Largest bound of the rounding error of a resolved exponent, nats per step.
            What is lost by the interval between factorizations is part of it. None if no exponent
            is resolved.
        num_sequences: Sequences that stayed finite and are counted in the means. None: not known.
        num_factorizations: Factorizations that were counted.
        num_redone: Factorizations that were taken back because their block was too long.
    """

    sum_rule: Check | None = None
    tangent_map: Check | None = None
    precision: Check | None = None
    states: Check | None = None
    orthogonality: Check | None = None
    rounding_error: float | None = None
    num_sequences: int | None = None
    num_factorizations: int = 0
    num_redone: int = 0

    @property
    def checks(self) -> dict[str, Check]:
        """The checks that were made, by name."""
        made = {name: getattr(self, name) for name in IDENTITIES}
        return {name: check for name, check in made.items() if check is not None}

    @property
    def failures(self) -> tuple[str, ...]:
        """What speaks against the estimate; empty if all is well.

        The checks that failed, by how much and what it may come from; that no sequence stayed
        finite; or that nothing was checked.
        """
        if self.num_sequences == 0:
            return ("no sequence stayed finite",)
        if not self.checks:
            return ("nothing was checked",)
        return tuple(
            f"{name} is off by {check.residual:.2g}, rounding explains {check.bound:.2g}"
            + (f" ({check.hint})" if check.hint else "")
            for name, check in self.checks.items()
            if not check.passed
        )

    @property
    def passed(self) -> bool:
        """Whether there were checks, and every one of them holds for sequences that are counted."""
        return not self.failures


IDENTITIES = ("sum_rule", "tangent_map", "precision", "states", "orthogonality")
