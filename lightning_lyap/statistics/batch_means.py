"""Log-stretches over time, kept in little room and summed so that parts add up to the whole.

What an error bar needs to know about a sequence is how much the halves of its batches differ, at
every scale: Haar contrasts. Batches are cut at the ends of blocks, between orthonormalizations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

# Batches at the finest scale, in one sequence and in all together. With more of them batches get
# shorter than the correlations; with fewer their variance is less well known.
MAX_BATCHES = 64
# The sequences themselves, and the differences of halves at each scale.
NUM_SCALES = MAX_BATCHES.bit_length()
# Sequences are dealt out into so many groups, each cut into parts of its time: the samples that
# statistics of the whole spectrum are judged by. 32 groups know their spread to one in eight, and
# samples of 1024 exponents take 2 MB.
NUM_GROUPS, NUM_PARTS = 32, 8
# Sequences that overlap in more than this say next to nothing of each other's spread.
MOST_OVERLAP = 0.99

Joined = TypeVar("Joined", bound="Contrasts")


@dataclass(frozen=True, eq=False, kw_only=True)
class Contrasts:
    """Sums over sequences, from which mean, spread and error follow; sums of parts add up.

    Scale 0 is whole sequences: ``u`` is the exponent of one, ``w = 1``. Scale j is the contrast of
    the two halves of each of its ``2^(j-1)`` batches: ``u`` is the difference of their stretches,
    ``w`` that of their steps, both divided by the steps of the sequence. ``u - lambda w`` is then
    what is left with the exponent lambda, and its square follows from the sums.

    Attributes:
        squares: Sum of ``u^2``, ``[scales, K]``, float64, in the order of the basis vectors.
        cross: Sum of ``u w``, ``[scales, K]``, float64; at scale 0 the sum of the exponents.
        weights: Sum of ``w^2``, ``[scales]``, float64.
        terms: Number of terms, ``[scales]``, int64; at scale 0 that of the sequences. Sequences of
            too few blocks have none at the finer scales.
        drift: Sum of ``u`` at scale 1, the first half of each sequence less the second, ``[K]``,
            float64: not zero where stretches have not settled.
        drift_weight: Sum of ``w`` at scale 1, a scalar, float64.
        samples: Stretches of the eighths of every sequence, divided by its steps, and in the last
            column the eighths' shares of the steps, ``[NUM_GROUPS, NUM_PARTS, K + 1]``, float64:
            sums over the sequences 0, 32, 64 ... in the first group, 1, 33 ... in the second.
        overlap: Sum over all ordered pairs of different sequences of the part of their steps that
            is the same, a scalar, float64; see `find_overlap`.
    """

    squares: Tensor
    cross: Tensor
    weights: Tensor
    terms: Tensor
    drift: Tensor
    drift_weight: Tensor
    samples: Tensor
    overlap: Tensor

    @property
    def count(self) -> int:
        """Number of sequences."""
        return int(self.terms[0])

    @property
    def mean(self) -> Tensor:
        """Mean over the sequences, ``[K]``, nats per step; NaN without one."""
        return self.cross[0] / self.count if self.count else self.cross[0] / torch.nan

    @property
    def mean_overlap(self) -> float:
        """Part of their steps that two sequences have in common, on average, in [0, 1]."""
        return float(self.overlap) / max(self.count * (self.count - 1), 1)

    @property
    def repetition(self) -> tuple[float, float]:
        """How many times as large overlaps make the variance of the mean.

        Than is told by contrasts over time, and by the spread over sequences, part of which they
        hide; both 1 where nothing overlaps.
        """
        rho = min(self.mean_overlap, MOST_OVERLAP)
        over_time = 1 + (self.count - 1) * rho
        return over_time, over_time / (1 - rho)

    def residuals(self) -> Tensor:
        """Compute the sums of squares that the mean leaves, ``sum (u - lambda w)^2``.

        Returns:
            ``[scales, K]``, (nats per step)^2. NaN where the mean is infinite.

        Example:
            >>> bins = StretchBins()
            >>> for end, stretch in ((1, 3.0), (2, 1.0)):
            ...     bins.add(torch.tensor([[stretch]], dtype=torch.float64), end)
            >>> bins.contrasts(torch.tensor([2]), torch.tensor([True])).residuals()[:2, 0]
            tensor([0., 1.], dtype=torch.float64)
        """
        mean = self.mean
        rest = self.squares - 2 * mean * self.cross + mean.square() * self.weights.unsqueeze(-1)
        return rest.clamp(min=0)


def joined(parts: Sequence[Joined]) -> Joined:
    """Return the sums over the sequences of several parts, one part after the other.

    Args:
        parts: Sums of the same size; at least one.

    Returns:
        What the sequences would have given together.
    """
    sums = [vars(part) for part in parts]
    names = [name for name in sums[0] if name != "samples"]
    return type(parts[0])(
        **{name: sum(one[name] for one in sums) for name in names},
        samples=join_samples([part.samples for part in parts]),
    )


def join_samples(samples: Sequence[Tensor] | Tensor) -> Tensor:
    """Add samples; the sequences of each part go on being dealt out where those before ended.

    Args:
        samples: ``[NUM_GROUPS, NUM_PARTS, K + 1]`` each.

    Returns:
        Of that shape.
    """
    total, count = torch.zeros_like(samples[0]), 0
    for one in samples:
        total = total + one.roll(count, 0)
        count += round(float(one[..., -1].sum()))
    return total


class StretchBins:
    """Log-stretches over time, in at most twice `MAX_BATCHES` bins whatever the number of steps.

    Every block has a bin of its own until the bins are full; then neighbors are joined until
    each holds a 64th of the steps so far, and later blocks fill bins of that width. Blocks may
    differ in length.

    Example:
        >>> bins = StretchBins()
        >>> for end in range(1, 1001):
        ...     bins.add(torch.zeros(1, 1, dtype=torch.float64), end)
        >>> bins.ends[:3], len(bins.ends)
        ([8, 16, 24], 125)
    """

    def __init__(self) -> None:
        self.ends: list[int] = []
        self._sums: list[Tensor] = []
        self._width = 0.0

    def copy(self) -> "StretchBins":
        """Return bins with the same content that are filled by themselves."""
        other = StretchBins()
        other.ends, other._sums, other._width = list(self.ends), list(self._sums), self._width
        return other

    def add(self, log_stretch: Tensor, end: int) -> None:
        """Count a block.

        Args:
            log_stretch: ``[B, K]``, nats, float64; zero for sequences that had ended.
            end: Steps counted so far.
        """
        if len(self.ends) == 2 * MAX_BATCHES:
            ends, sums = self.ends, self._sums
            self.ends, self._sums, self._width = [], [], ends[-1] / MAX_BATCHES
            for stretch, bin_end in zip(sums, ends, strict=True):
                self._put(stretch, bin_end)
        self._put(log_stretch, end)

    def _put(self, log_stretch: Tensor, end: int) -> None:
        """Add ``[B, K]`` to the last bin if it is not full, else open another."""
        last = self.ends[-1] - (self.ends[-2] if len(self.ends) > 1 else 0) if self.ends else 0
        if self.ends and last < self._width:
            self._sums[-1] = self._sums[-1] + log_stretch
            self.ends[-1] = end
        else:
            self._sums.append(log_stretch)
            self.ends.append(end)

    def contrasts(self, steps: Tensor, valid: Tensor) -> Contrasts:
        """Sum exponents and contrasts over sequences.

        Args:
            steps: Steps counted in each sequence, ``[B]``, at most those in the bins.
            valid: Which sequences to take, ``[B]``, bool.

        Returns:
            The sums.
        """
        sums = torch.stack(self._sums)[:, valid]
        # On the CPU: cumulated sums of CUDA are refused where algorithms must be deterministic.
        total = torch.cat([torch.zeros_like(sums[:1]), sums.cpu().cumsum(0).to(sums.device)])
        ends = torch.tensor([0, *self.ends], device=sums.device)
        done = torch.minimum(ends[:, None], steps[valid])
        cuts = _cuts(done, steps[valid])
        num_steps = steps[valid].double()
        at_cuts = total.gather(0, cuts.unsqueeze(-1).expand(-1, -1, sums.shape[-1]))
        return contrasts_between(
            at_cuts / num_steps.unsqueeze(-1), done.gather(0, cuts) / num_steps
        )


def contrasts_between(stretches: Tensor, lengths: Tensor) -> Contrasts:
    """Sum exponents and contrasts over sequences that are cut into a power of two of batches.

    Args:
        stretches: Those from the beginning to each cut, divided by the steps of the sequence,
            ``[cuts, B, K]``; the first is zero.
        lengths: Steps to each cut, divided likewise, ``[cuts, B]``; the last is 1.

    Returns:
        The sums; without overlap.
    """
    rows = [(stretches[-1:], lengths[-1:])]
    for scale in range(1, NUM_SCALES):
        every = (len(lengths) - 1) >> scale
        if not every:
            rows.append((stretches[:0], lengths[:0]))
            continue
        part, length = stretches[::every].diff(dim=0), lengths[::every].diff(dim=0)
        # Sequences of too few blocks have empty batches at this scale: they take no part in it.
        whole = (length > 0).all(0)
        part, length = part[:, whole], length[:, whole]
        rows.append((part[::2] - part[1::2], length[::2] - length[1::2]))
    return Contrasts(
        squares=torch.stack([u.square().sum((0, 1)) for u, _ in rows]),
        cross=torch.stack([(u * w.unsqueeze(-1)).sum((0, 1)) for u, w in rows]),
        weights=torch.stack([w.square().sum() for _, w in rows]),
        terms=torch.tensor([w.numel() for _, w in rows], device=lengths.device),
        drift=rows[1][0].sum((0, 1)),
        drift_weight=rows[1][1].sum(),
        samples=_samples(stretches, lengths),
        overlap=lengths.new_zeros(()),
    )


def _samples(stretches: Tensor, lengths: Tensor) -> Tensor:
    """Deal out sequences, cut as in `contrasts_between`: ``[NUM_GROUPS, NUM_PARTS, K + 1]``."""
    every = (len(lengths) - 1) // NUM_PARTS
    cut = torch.cat([stretches, lengths.unsqueeze(-1)], -1)[::every]
    # Not by differences: minus infinity has none.
    parts = cut.diff(dim=0).nan_to_num(0.0, torch.inf, -torch.inf).movedim(1, 0)
    missing = -len(parts) % NUM_GROUPS
    filled = torch.cat([parts, parts.new_zeros(missing, *parts.shape[1:])])
    return filled.unflatten(0, (-1, NUM_GROUPS)).sum(0)


def _cuts(done: Tensor, steps: Tensor) -> Tensor:
    """Return where to cut each sequence into equal batches: indices of bins' ends.

    ``done``, ``[bins + 1, B]``, are the steps of each sequence at these ends, from 0; ``steps``,
    ``[B]``, its steps; the cuts are ``[MAX_BATCHES + 1, B]``, int64.
    """
    wanted = torch.arange(MAX_BATCHES + 1, device=done.device).unsqueeze(-1) * steps / MAX_BATCHES
    return torch.stack([(done - cut).abs().argmin(0) for cut in wanted])
