"""The result of an estimation."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_lyap._checks import check_count
from lightning_lyap.certificate.result import Certificate
from lightning_lyap.statistics.alignment import settling
from lightning_lyap.statistics.batch_means import Contrasts
from lightning_lyap.statistics.confidence import uncertainty
from lightning_lyap.statistics.jackknife import jackknife
from lightning_lyap.statistics.measures import SpectrumMeasures, whole_spectrum_statistics
from lightning_lyap.statistics.summary import measure_spectrum

# The fields of `MeanSpectrum` with an entry for each exponent.
VECTORS = (
    "exponents",
    "std",
    "standard_errors",
    "margins",
    "resolved",
    "settled",
    "rounding_errors",
)
# Those that are a number, NaN in files that don't tell.
NUMBERS = ("num_steps", "warmup_steps", "overlap", "steps_to_settle")


@dataclass(frozen=True, eq=False, kw_only=True)
class MeanSpectrum:
    """A Lyapunov spectrum, averaged over sequences, with its spread and its error.

    All exponents are in nats per step. Index i means the same exponent in every field: the i-th
    largest of the mean spectrum.

    Attributes:
        exponents: Mean over the sequences, descending, ``[K]``, float64.
        std: Standard deviation over the sequences (unbiased), ``[K]``. NaN where it does not
            exist: with a single sequence, and where an exponent is ``-inf``.
        standard_errors: Of the mean, from the stretches over time and the spread over sequences,
            ``[K]``; see `uncertainty`. From 33 sequences on ``std / sqrt(number of sequences)``.
            NaN where it does not exist: with a single sequence of a single block, and where an
            exponent is ``-inf``.
        margins: Half-width of the 95 % interval, ``[K]``: the standard error times the quantile of
            Student's t distribution. That of a single sequence is about its own exponent: whether
            others have another one it can't tell.
        resolved: Whether every stretch that entered the exponent stood out from the rounding noise
            of its factorization, and rounding has not turned the basis, ``[K]``, bool; see
            `orthonormalize`. What is not resolved is noise at best (or exactly ``-inf``) and wants
            float64, a smaller ``orthonormalize_every`` or ``layers="union"``.
            With an automatic interval an exponent must also keep the tolerance it promises.
        settled: Whether the two halves of what was counted agree within their noise, and gaps are
            wide enough for the basis to be aligned, ``[K]``, bool; see `drift` and `misalignment`.
            What has not settled is growth over these steps, on its way to the
            exponent, and its interval does not cover that. False, too, where nothing tells: a
            single block. An exponent of ``-inf`` is settled.
        rounding_errors: Estimated bounds of the rounding errors, ``[K]``, nats per step; what is
            lost by the interval between factorizations is part of them. On single layers they were
            exceeded in tests by a factor of two at most; see `orthonormalize`. What rounding does
            by turning the basis is counted, too: what has turned far is not resolved. They hold
            along the computed orbit: in chaos another precision follows another one, and the
            interval covers that.
        statistic_errors: Standard error and half-width of the 95 % interval of each statistic of
            `OF_THE_WHOLE` (mean, variance, dimension ...), ``[S, 2]``, by the `jackknife`; None in
            files that don't tell.
        num_sequences: Number of sequences averaged over, all of them distinct.
        tangent_size: N, the dimension of the tangent space.
        num_steps: Steps counted of each sequence, on average; NaN in files that don't tell.
        warmup_steps: Steps of each before those, on average; NaN in files that don't tell.
        overlap: Part of their counted steps that two of the sequences have in common, on average
            over all pairs, in [0, 1]; all errors are widened by it. NaN in files that don't tell.
        steps_to_settle: Estimate of the steps of a sequence, half of them as a warm-up, after which
            all resolved exponents have settled; see the function of that name. NaN where they have,
            and where nothing tells.
    """

    exponents: Tensor
    std: Tensor
    standard_errors: Tensor
    margins: Tensor
    resolved: Tensor
    settled: Tensor
    rounding_errors: Tensor
    num_sequences: int
    tangent_size: int
    num_steps: float = math.nan
    warmup_steps: float = math.nan
    overlap: float = math.nan
    steps_to_settle: float = math.nan
    statistic_errors: Tensor | None = None

    @property
    def num_exponents(self) -> int:
        """K."""
        return self.exponents.shape[0]

    @property
    def intervals(self) -> Tensor:
        """Lower and upper end of the 95 % interval of each exponent, ``[K, 2]``, nats per step."""
        signs = self.margins.new_tensor([-1.0, 1.0])
        return self.exponents.unsqueeze(-1) + self.margins.unsqueeze(-1) * signs

    @property
    def is_complete(self) -> bool:
        """Whether all N exponents were computed."""
        return self.num_exponents == self.tangent_size

    @property
    def counted(self) -> str:
        """What was counted, in words: ``10 sequences x 50 steps after 50``."""
        words = f"{self.num_sequences} sequence" + ("s" if self.num_sequences != 1 else "")
        if math.isnan(self.num_steps):
            return words
        words += f" x {self.num_steps:.4g} step" + ("s" if self.num_steps != 1 else "")
        return words + (f" after {self.warmup_steps:.4g}" if self.warmup_steps > 0 else "")

    def measures(self) -> SpectrumMeasures:
        """Compute the statistics of the spectrum with their errors; see `SpectrumMeasures`."""
        return measure_spectrum(
            self.exponents,
            self.std,
            self.resolved,
            self.tangent_size,
            settled=self.settled,
            standard_errors=self.standard_errors,
            margins=self.margins,
            rounding_errors=self.rounding_errors,
            statistic_errors=self.statistic_errors,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class LayeredSpectrum(MeanSpectrum):
    """A mean spectrum whose exponents may tell their layer.

    Attributes:
        layer: With ``layers="union"`` the layer each exponent belongs to, from 0, ``[K]``, int64;
            else None, and of a single layer, too.
    """

    layer: Tensor | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class SpectrumSums(Contrasts):
    """Sums over sequences, from which a spectrum follows; sums of parts add up to the whole.

    Attributes:
        rounding: Sum of the bounds of the rounding errors, ``[K]``, nats per step, float64.
        unresolved: Number of sequences in which an exponent was not resolved, ``[K]``, int64.
        steps: Steps of warm-up, and steps counted, of all sequences, ``[2]``, int64.
    """

    rounding: Tensor
    unresolved: Tensor
    steps: Tensor

    def std(self) -> Tensor:
        """Compute the unbiased standard deviation over sequences.

        Returns:
            ``[K]``, nats per step. NaN with fewer than two sequences, and where the mean is
            infinite.
        """
        if self.count < 2:
            return torch.full_like(self.mean, math.nan)
        return (self.residuals()[0] / (self.count - 1)).sqrt()

    def sorted_mean(
        self, tangent_size: int, num_exponents: int | None = None, columns: int | None = None
    ) -> tuple[MeanSpectrum, Tensor]:
        """Sort the mean spectrum, once.

        Args:
            tangent_size: N.
            num_exponents: K, how many of the largest to take. Default: all.
            columns: Vectors of a block. Default: all.

        Returns:
            The mean spectrum, and the index each exponent had before sorting, ``[K]``.
        """
        mean, error = self.mean, uncertainty(self)
        rounding = self.rounding / max(self.count, 1)
        warmup_steps, num_steps = (self.steps / max(self.count, 1)).tolist()
        order = mean.argsort(descending=True, stable=True)[:num_exponents]
        resolved = (self.unresolved == 0) & mean.isfinite()
        chosen = resolved, warmup_steps, num_steps, columns
        settled, to_settle = settling(self, rounding, error.margins, *chosen)
        spectrum = MeanSpectrum(
            exponents=mean[order],
            std=self.std()[order],
            standard_errors=error.standard_errors[order],
            margins=error.margins[order],
            resolved=resolved[order],
            settled=settled[order],
            rounding_errors=rounding[order],
            num_sequences=self.count,
            num_steps=num_steps,
            warmup_steps=warmup_steps,
            overlap=self.mean_overlap,
            steps_to_settle=to_settle,
            tangent_size=tangent_size,
            statistic_errors=jackknife(
                self, lambda rows: whole_spectrum_statistics(rows[:, order], resolved[order])
            ),
        )
        return spectrum, order


@dataclass(frozen=True, kw_only=True)
class TimeChunks:
    """How the chunks of time came out that ran side by side; see `lyapunov_spectrum`.

    Attributes:
        count: Chunks of the longest sequence: those asked for, or fewer if there are fewer blocks,
            or memory for fewer.
        steps: Of a chunk.
        rounds: How often chunks were run side by side, the most of any group of sequences.
        angle: Largest principal angle, radians, between the spans of the leading vectors that a
            chunk started from and those that the one before it ended with; an upper bound, over all
            numbers of vectors, chunks and sequences. What was finished plainly adds none.
        num_finished_plainly: Sequences of which some chunks had to be run one after the other.
    """

    count: int
    steps: int
    rounds: int
    angle: float
    num_finished_plainly: int

    @property
    def certified(self) -> bool:
        """Whether all joints were close enough after the rounds alone."""
        return self.num_finished_plainly == 0


@dataclass(frozen=True, eq=False, kw_only=True)
class SpectrumEstimate(LayeredSpectrum):
    """A mean spectrum with what each sequence gave, and where the computation ended.

    Attributes:
        per_sequence: Each sequence's own exponents, ``[B, K]``, in the order of the mean.
        valid: Sequences whose states and stretches stayed finite, ``[B]``, bool. The others take
            no part in the means.
        distinct: Sequences that are no repetition of an earlier one, from the same state on the
            same inputs, ``[B]``, bool. The others take no part in the means either.
        steps: Steps counted per sequence, without warm-up, ``[B]``, int64.
        order: Index of each exponent in the order in which the basis vectors came, ``[K]``.
        sums: What the mean spectrum was computed from, to be added to those of other sequences.
        final_state: The state after the last step, in the form `lyapunov_spectrum` takes.
        final_basis: The orthonormal basis after the last step, ``[B, N, K]``.
        block_ends: Steps counted after each orthonormalization, ``[M]``, int64.
        certificate: Checks of identities the estimate must obey.
        target_reached: Whether the standard errors of all resolved exponents reached
            ``target_stderr``; False if the sequences were exhausted before, None without a target.
            Sequences that were not needed are in no field.
        log_stretches: ``[M, B, K]``, nats per block, in the order of the mean, or None if not kept.
        chunks: How the chunks of time came out; None with ``time_chunks=1``.
    """

    per_sequence: Tensor
    valid: Tensor
    distinct: Tensor
    steps: Tensor
    order: Tensor
    sums: SpectrumSums
    final_state: Any
    final_basis: Tensor
    block_ends: Tensor
    certificate: Certificate
    target_reached: bool | None = None
    log_stretches: Tensor | None = None
    chunks: TimeChunks | None = None

    def running_exponents(self) -> Tensor:
        """Compute what the estimate would have been after every orthonormalization.

        Returns:
            Mean over the sequences that count of the exponents over the first ``block_ends[m]``
            steps, ``[M, K]``, nats per step; the columns are in the order of the final mean.

        Raises:
            ValueError: If the log-stretches were not kept.

        Reference:
            Vogt et al., On Lyapunov Exponents for RNNs, Eq. 5 and Fig. 2a.
        """
        counted = torch.minimum(self.block_ends[:, None], self.steps[None, :])
        # On the CPU: cumulated sums of CUDA are refused where algorithms must be deterministic.
        sums = self._kept_stretches().cpu().cumsum(0).to(counted.device)
        running = sums / counted.unsqueeze(-1)
        return running[:, self.valid & self.distinct].mean(1)

    def finite_time_exponents(self, window: int) -> Tensor:
        """Average the stretches over consecutive windows: how much stability varies along the way.

        Args:
            window: Steps of a window.

        Returns:
            ``[W, B, K]``, nats per step, in the order of the final mean; NaN where a sequence ends
            within the window. Steps left over at the end, fewer than a window, are not used.

        Raises:
            TypeError: If the window is no int.
            ValueError: If the log-stretches were not kept, or a window does not end with a block.

        Example:
            >>> from lightning_lyap import lyapunov_spectrum
            >>> estimate = lyapunov_spectrum(
            ...     lambda x, s: x * s,
            ...     torch.tensor([[[1.0], [2.0], [4.0], [8.0]]]),
            ...     initial_state=torch.ones(1, 1),
            ...     keep_log_stretches=True,
            ...     warmup_steps=0,
            ... )
            >>> estimate.finite_time_exponents(2).flatten() / math.log(2)
            tensor([0.5000, 2.5000], dtype=torch.float64)

        Reference:
            Ott (2002), Chaos in Dynamical Systems, Section 9.4.
        """
        check_count("window", window, 1)
        stretches = self._kept_stretches()
        ends = torch.arange(window, int(self.block_ends[-1]) + 1, window, device=stretches.device)
        if not bool(torch.isin(ends, self.block_ends).all()):
            raise ValueError(
                f"Expected `window` to be made up of whole blocks, but got {window} and blocks "
                f"that end after {self.block_ends[:8].tolist()} ... steps. Choose an "
                "`orthonormalize_every` that divides the window."
            )
        used = self.block_ends <= len(ends) * window
        index = (self.block_ends[used] - 1) // window
        total = stretches.new_zeros(len(ends), *stretches.shape[1:])
        total = total.index_add(0, index, stretches[used])
        whole = (self.steps[None, :] >= ends[:, None]).unsqueeze(-1)
        return torch.where(whole, total / window, math.nan)

    def _kept_stretches(self) -> Tensor:
        """Return the log-stretches, ``[M, B, K]``, if they were kept."""
        if self.log_stretches is None:
            raise ValueError(
                "Expected an estimate with its log-stretches, but they were not kept. "
                "Call `lyapunov_spectrum(..., keep_log_stretches=True)`."
            )
        return self.log_stretches
