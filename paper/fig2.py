"""Fig. 2: how the exponents of a trained network settle, and how much sequences differ.

``python -m paper.fig2 [scale=paper] [data_dir=PATH] [tasks=[mocap]]``, with one network of each
task (``measured`` of the scale), by Algorithm 1 in the network's own precision. (a) Eq. 5 as a
function of T, mean over sequences that go on beyond 100 steps; (b) the spectrum of ten sequences of
100 steps. Held-out recordings of CMU Mocap are too short for more than two sequences of 300 frames.

What decides, fixed before results at scale=paper were known; only resolved, finite exponents take
part:

- changing very little: over the last 10 of the first 100 steps an exponent moves by no more than
  1 % of itself, or 0.01 nats per step;
- settled: at 100 steps it is within 5 % of what the whole sequence gives, or 0.01 nats per step;
  each of both holds if 95 % of the exponents do so: yes if the 95 % interval over sequences of that
  share lies above, no if below, else undecided;
- a small spread: the standard deviation over sequences, root mean square over exponents, is at most
  5 % of the spectrum's range: what is hardly seen in the figure. Yes or no if the 95 % interval
  (jackknife over sequences) lies on one side, else undecided.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_lyap.plotting import plot_convergence, plot_spectrum
from paper.claims import Verdict
from paper.command import Finding, main
from paper.drawing import TASK_NAMES, letter, new_figure
from paper.fig3 import FLOAT, interval
from paper.measured import Arrays, Measured
from paper.measured_figures import measured_figure
from paper.measuring import Trained, running

LAST = 10  # steps
COARSE = 10  # steps between the points that are kept beyond `num_steps`
CHANGE, SETTLED, FLOOR = 0.01, 0.05, 0.01  # of an exponent; nats per step
NEARLY_ALL = 0.95  # of the exponents
SMALL = 0.05  # of the range


def measure(network: Trained, sizes: Mapping[str, Any]) -> Arrays:
    """Measure ten short sequences, and longer ones along the way.

    Args:
        network: A trained network.
        sizes: Of the scale.

    Returns:
        Numbers by name; see `Settling`.
    """
    steps = int(sizes["num_steps"])
    batch = network.sequences(int(sizes["long_sequences"]), int(sizes["long_steps"]))
    long = network.spectrum(batch, keep_log_stretches=True)
    course = running(long)
    every = np.arange(1, len(course) + 1)
    kept = every[(every <= steps) | (every % COARSE == 0)]
    moments = (steps - LAST, steps, len(course))
    short = network.spectrum(network.sequences(int(sizes["num_sequences"]), steps))
    return {
        "steps": kept,
        "course": course.mean(1)[torch.from_numpy(kept - 1)].float().numpy(),
        "moments": torch.stack([course[moment - 1] for moment in moments]).float().numpy(),
        "long_resolved": long.resolved.cpu().numpy(),
        "per_sequence": short.per_sequence.cpu().numpy(),
        "resolved": short.resolved.cpu().numpy(),
    }


@dataclass(frozen=True, eq=False)
class Settling:
    """What was measured on a network.

    Attributes:
        task: Its task.
        num_steps: T of the paper.
        steps: Steps after which `course` holds, ``[M]``.
        course: Mean over the long sequences, ``[M, K]``, nats per step.
        moments: Each long sequence shortly before T, at T and at its end, ``[3, b, K]``.
        long_resolved: Whether exponents are resolved along the long sequences, ``[K]``, bool.
        per_sequence: Exponents of sequences of T steps, ``[B, K]``, nats per step.
        resolved: Whether they are resolved, ``[K]``, bool.
    """

    task: str
    num_steps: int
    steps: NDArray[np.int64]
    course: FLOAT
    moments: FLOAT
    long_resolved: NDArray[np.bool_]
    per_sequence: FLOAT
    resolved: NDArray[np.bool_]

    @classmethod
    def of(cls, task: str, measured: Measured) -> "Settling":
        """Take what `measure` has returned.

        Args:
            task: The task.
            measured: The numbers.

        Returns:
            The same.
        """
        return cls(task, int(measured.sizes["num_steps"]), **measured.arrays)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Exponents that are resolved and finite along all long sequences, ``[K]``."""
        return np.asarray(self.long_resolved & np.isfinite(self.moments).all((0, 1)))

    @property
    def clean(self) -> NDArray[np.bool_]:
        """Exponents that are resolved and finite in all short sequences, ``[K]``."""
        return np.asarray(self.resolved & np.isfinite(self.per_sequence).all(0))

    def shares(self, moment: int, reference: int, relative: float) -> FLOAT:
        """Compute for each long sequence which part of the exponents is near a reference.

        Args:
            moment: Index into `moments`.
            reference: Index into `moments`.
            relative: How far from it an exponent may be, of its size.

        Returns:
            Parts, ``[b]``.
        """
        here, there = (self.moments[i][:, self.usable] for i in (moment, reference))
        near = np.abs(here - there) <= np.maximum(relative * np.abs(there), FLOOR)
        return np.asarray(near.mean(1))


def table(settling: Settling) -> list[dict[str, Any]]:
    """List the exponents of a network.

    Args:
        settling: The network.

    Returns:
        A row for each index.
    """
    before, at, end = settling.moments.mean(1)
    mean, std = settling.per_sequence.mean(0), deviations(settling.per_sequence)
    return [
        {
            "task": settling.task,
            "index": index + 1,
            "exponent": mean[index],
            "std_over_sequences": std[index],
            "resolved": int(settling.resolved[index]),
            "long_sequences_at_end": end[index],
            "long_sequences_at_t": at[index],
            f"long_sequences_{LAST}_steps_before_t": before[index],
            "long_sequences_resolved": int(settling.long_resolved[index]),
        }
        for index in range(mean.size)
    ]


def findings(settling: Settling) -> list[Finding]:
    """Test what the caption says, as the module's docstring lays down.

    Args:
        settling: The network.

    Returns:
        Findings.
    """
    name, t, end = TASK_NAMES[settling.task], settling.num_steps, settling.steps[-1]
    before, at, last = range(3)
    count = f"{settling.moments.shape[1]} sequences, {settling.usable.sum()} exponents"
    moves = settling.shares(before, at, CHANGE)
    settled = settling.shares(at, last, SETTLED)
    low, high = jackknife(relative_spread, settling.per_sequence[:, settling.clean])
    values = settling.per_sequence[:, settling.clean]
    spread = relative_spread(values)
    own = np.median(deviations(values) / np.abs(values.mean(0)))
    return [
        Finding(
            "Fig. 2a",
            f"{name}: after {t} iterations each exponent changes very little.",
            f"over the last {LAST} steps {share(moves)} of the exponents move by no more than "
            f"{CHANGE:.0%} of themselves or {FLOOR} ({count})",
            nearly_all(moves),
            settling.task,
        ),
        Finding(
            "Fig. 2a",
            f"{name}: exponents settle within {t} steps.",
            f"{share(settled)} of the exponents are within {SETTLED:.0%} of their values after "
            f"{end} steps, or {FLOOR} ({count})",
            nearly_all(settled),
            settling.task,
        ),
        Finding(
            "Fig. 2b",
            f"{name}: the spectrum differs little from one input sequence to another.",
            f"standard deviation over sequences {spread:.1%} [{low:.1%}, {high:.1%}] of the "
            f"spectrum's range, {own:.1%} of the exponent itself (median over exponents); "
            f"{len(values)} sequences of {t} steps, {settling.clean.sum()} exponents",
            "yes" if high <= SMALL else "no" if low > SMALL else "undecided",
            settling.task,
        ),
    ]


def share(values: FLOAT) -> str:
    """Write a mean share with its 95 % interval."""
    low, high = np.clip(interval(values), 0, 1)
    return f"{values.mean():.1%} [{low:.1%}, {high:.1%}]"


def nearly_all(shares: FLOAT) -> Verdict:
    """Judge whether nearly all exponents do something.

    Args:
        shares: The part that does, by sequence.

    Returns:
        Yes or no if the 95 % interval of the mean lies on one side of `NEARLY_ALL`.

    Example:
        >>> nearly_all(np.array([0.99, 0.98, 1.0]))
        'yes'
    """
    low, high = interval(shares)
    return "yes" if low >= NEARLY_ALL else "no" if high < NEARLY_ALL else "undecided"


def deviations(values: FLOAT) -> FLOAT:
    """Compute the standard deviation over sequences; NaN where it does not exist.

    Args:
        values: ``[B, K]``.

    Returns:
        ``[K]``.
    """
    finite = np.isfinite(values).all(0)
    deviation = np.where(finite, values, 0.0).std(0, ddof=1)
    return np.asarray(np.where(finite, deviation, np.nan))


def relative_spread(values: FLOAT) -> float:
    """Compute the root mean square of the standard deviations, in units of the spectrum's range.

    Args:
        values: Exponents of each sequence, finite, ``[B, K]``.

    Returns:
        A number.
    """
    return float(np.sqrt(np.square(deviations(values)).mean()) / np.ptp(values.mean(0)))


def jackknife(statistic: Callable[[FLOAT], float], values: FLOAT) -> tuple[float, float]:
    """Compute the 95 % interval of a positive statistic by leaving out one sequence after another.

    Args:
        statistic: Of ``[B, K]``; its logarithm is what the interval is computed of.
        values: ``[B, K]``.

    Returns:
        Its ends; those of everything, 0 and infinity, for fewer than three sequences.

    Reference:
        Tukey (1958), Bias and confidence in not-quite large samples: pseudo-values.
    """
    count = len(values)
    if count < 3:
        return 0.0, np.inf
    whole = np.log(statistic(values))
    rest = [np.log(statistic(np.delete(values, i, axis=0))) for i in range(count)]
    low, high = np.exp(interval(count * whole - (count - 1) * np.array(rest)))
    return float(low), float(high)


def draw(settlings: Sequence[Settling]) -> Any:
    """Draw convergence and mean spectrum, a row for each task.

    Args:
        settlings: The networks.

    Returns:
        A figure.
    """
    figure = new_figure(9.0, 3.3 * len(settlings))
    grid = figure.subplots(len(settlings), 2, squeeze=False)
    letter(list(grid.flat))
    for (left, right), s in zip(grid, settlings, strict=True):
        shown = np.where(s.usable, s.course, np.nan)
        name, (_, count, _) = TASK_NAMES[s.task], s.moments.shape
        plot_convergence(torch.from_numpy(shown), torch.from_numpy(s.steps), ax=left)
        left.set_title(f"{name}, mean of {count} sequences", fontsize="small")
        left.axvline(s.num_steps, color="0.4", linestyle="--", linewidth=0.8)
        left.set(xscale="log", xlim=(1, s.steps[-1]), xlabel="iterations $T$")
        mean, std = s.per_sequence.mean(0), deviations(s.per_sequence)
        parts = [torch.from_numpy(part) for part in (mean, std, s.clean)]
        plot_spectrum(*parts, ax=right)
        title = f"{name}, {len(s.per_sequence)} sequences of {s.num_steps} steps"
        right.set_title(title, fontsize="small")
    return figure


FIGURE = measured_figure("fig2", measure, Settling.of, table, findings, draw)

if __name__ == "__main__":
    main(FIGURE)
