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

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from lightning_lyap.plotting import plot_convergence, plot_spectrum
from paper.claims import Verdict
from paper.command import Finding, main
from paper.confidence import FLOAT, interval, jackknife
from paper.drawing import TASK_NAMES, letter, new_figure
from paper.measured import Arrays
from paper.measured_figures import measured_figure
from paper.measuring import Trained, running
from paper.settling import FLOOR, LAST, Settling, deviations, relative_spread, table

COARSE = 10  # steps between the points that are kept beyond `num_steps`
CHANGE, SETTLED = 0.01, 0.05  # of an exponent
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
