"""Fig. 6: what longer intervals between factorizations do to the spectrum (App. C), and save.

``python -m paper.fig6 [scale=paper] [data_dir=PATH] [tasks=[mocap]]``, with one network of each
task (``measured`` of the scale). Intervals T_ON as in the paper, in the network's own precision
(float32), and this package's ``"auto"``, on the same sequences; the truth is T_ON = 1 in float64.
Exponents that the estimator marks as unresolved are drawn dotted: the paper draws them, too. Times
are of whole estimates, one of each interval in turn in every round.

What decides, fixed before results at scale=paper were known; only exponents whose truth is resolved
and finite take part. An exponent is off if it differs from the truth by more than 1 % of it and
0.01 nats per step.

- The spectrum flattens beyond an index: where an interval beyond 1 has exponents that are off, the
  estimates from the first of them to the end span less than half of what the truth spans there,
  and this first index falls, or stays, as intervals grow. Yes if so wherever exponents are off, no
  if they are nowhere, or nowhere flat, else undecided.
- The first half remains unaffected: yes if none of its exponents is off at any interval, no if some
  are at more than half of the intervals beyond 1, else undecided.
- ``"auto"`` has no plateau: yes if no resolved exponent differs by more than 1e-3 from the truth,
  no if one does, and by more than the largest difference at T_ON = 1 in float32, else undecided.
- ``resolved`` marks the plateau: yes if at least 95 % of the exponents that are off, of all fixed
  intervals together, are marked as unresolved, no if fewer than half, else undecided (none is off,
  say).
- Time falls about like 1 / T_ON: yes if at every interval the time ratio to T_ON = 1 (median over
  rounds) is at least T_ON / 2, no if at none beyond 2, else undecided.
"""

import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from lightning_lyap.plotting.canvas import EXPONENT_LABEL, INDEX_LABEL, finish
from paper.command import Finding, main
from paper.drawing import TASK_NAMES, letter, new_figure
from paper.intervals import FLOOR, RELATIVE, Intervals, largest, table
from paper.measured import Arrays
from paper.measured_figures import measured_figure
from paper.measuring import Trained

FLAT = 0.5
PROMISED = 1e-3  # nats per step, of "auto" in float32
MARKED, HARDLY = 0.95, 0.5  # of the exponents that are off
SLOWER = 2.0  # than 1 / T_ON


def measure(network: Trained, sizes: Mapping[str, Any]) -> Arrays:
    """Measure the same sequences with every interval, in turn.

    Args:
        network: A trained network.
        sizes: Of the scale.

    Returns:
        Numbers by name; see `paper.intervals.Intervals`.
    """
    batch = network.sequences(int(sizes["num_sequences"]), int(sizes["num_steps"]))
    truth = network.spectrum(batch, dtype=torch.float64)
    choices = [*sizes["intervals"], "auto"]
    seconds = np.zeros((int(sizes["rounds"]), len(choices)))
    estimates = []
    for number, line in enumerate(seconds):
        for place, interval in enumerate(choices):
            start = time.perf_counter()
            estimate = network.spectrum(batch, orthonormalize_every=interval)
            estimate.exponents.cpu()  # waits for the device
            line[place] = time.perf_counter() - start
            if number == 0:
                estimates.append(estimate)
    return {
        "truth": truth.exponents.cpu().numpy(),
        "known": (truth.resolved & truth.exponents.isfinite()).cpu().numpy(),
        "exponents": torch.stack([each.exponents.cpu() for each in estimates]).numpy(),
        "resolved": torch.stack([each.resolved.cpu() for each in estimates]).numpy(),
        "factorizations": np.array([len(each.block_ends) for each in estimates]),
        "seconds": seconds,
    }


def findings(found: Intervals) -> list[Finding]:
    """Test the claims of App. C, and ours, as the module's docstring lays down.

    Args:
        found: A network.

    Returns:
        Findings.
    """
    return [plateau(found), head(found), auto(found), marked(found), faster(found)]


def plateau(found: Intervals) -> Finding:
    """Test that longer intervals flatten the spectrum beyond an index.

    Args:
        found: A network.

    Returns:
        The finding.
    """
    fixed = list(zip(found.fixed, found.leaves, found.flatness, strict=False))[1:]
    off = [leaves is not None for _, leaves, _ in fixed]
    flat = [span is not None and span < FLAT for _, _, span in fixed]
    # One that never leaves does so beyond the end.
    first = [found.truth.size + 1 if leaves is None else leaves for _, leaves, _ in fixed]
    falls = all(a >= b for a, b in pairwise(first))
    said = ", ".join(
        f"{interval}: none" if leaves is None else f"{interval}: {leaves} ({span:.2f})"
        for interval, leaves, span in fixed
    )
    return Finding(
        "Fig. 6a",
        f"{TASK_NAMES[found.task]}: increasing T_ON flattens the spectrum beyond an index.",
        f"first index, of {found.truth.size}, that is off by more than {RELATIVE:.0%} and {FLOOR} "
        f"(span of the estimates from there on, in units of the truth's), by T_ON: {said}",
        "no" if not any(flat) else "yes" if flat == off and falls else "undecided",
        found.task,
    )


def head(found: Intervals) -> Finding:
    """Test that the first half of the spectrum remains as it is.

    Args:
        found: A network.

    Returns:
        The finding.
    """
    half = found.truth.size // 2
    rows = found.differences[1:-1, :half]
    said = ", ".join(
        f"{interval}: {np.nanmax(row):.2g}"
        for interval, row in zip(found.fixed[1:], rows, strict=True)
    )
    touched = found.off[1:-1, :half].any(1)
    return Finding(
        "Fig. 6b",
        f"{TASK_NAMES[found.task]}: the first half of the spectrum remains unaffected by T_ON.",
        f"largest difference to the truth in the first half (nats per step), by T_ON: {said}; "
        f"exponents are off at {touched.sum()} of {touched.size} intervals",
        "yes" if not touched.any() else "no" if touched.mean() > 0.5 else "undecided",
        found.task,
    )


def auto(found: Intervals) -> Finding:
    """Test that the automatic interval has no plateau.

    Args:
        found: A network.

    Returns:
        The finding.
    """
    own, plain = largest(found, -1), largest(found, 0)
    count, known = (found.known & found.resolved[-1]).sum(), found.known.sum()
    return Finding(
        "Beyond",
        f"{TASK_NAMES[found.task]}: with orthonormalize_every=auto there is no plateau.",
        f"largest difference to the truth of a resolved exponent {own:.2g} ({count} of {known} are "
        f"resolved; T_ON = 1 in the same precision: {plain:.2g}), with "
        f"{found.factorizations[-1]} factorizations instead of {found.factorizations[0]}",
        "yes" if own <= PROMISED else "no" if own > plain else "undecided",
        found.task,
    )


def marked(found: Intervals) -> Finding:
    """Test that what is off is marked as unresolved.

    Args:
        found: A network.

    Returns:
        The finding.
    """
    off, missed = found.off[:-1], found.off[:-1] & found.resolved[:-1]
    right = (found.known & ~found.off)[:-1]
    alarms = right & ~found.resolved[:-1]
    part = 1 - missed.sum() / off.sum() if off.any() else np.nan
    worst = np.where(found.resolved[:-1] & found.known, found.differences[:-1], 0.0).max()
    return Finding(
        "Beyond",
        f"{TASK_NAMES[found.task]}: `resolved` marks the plateau.",
        f"{off.sum() - missed.sum()} of {off.sum()} exponents that are off are marked as "
        f"unresolved (all intervals together), and {alarms.sum()} of {right.sum()} that are "
        f"not off; largest difference of a resolved one {worst:.2g}",
        "yes" if part >= MARKED else "no" if part < HARDLY else "undecided",
        found.task,
    )


def faster(found: Intervals) -> Finding:
    """Test that the time falls about like one over the interval.

    Args:
        found: A network.

    Returns:
        The finding.
    """
    speedups = np.median(found.speedups, axis=0)
    low, high = found.speedups.min(0), found.speedups.max(0)
    said = ", ".join(
        f"{name}: {speedups[i]:.1f} ({low[i]:.1f} to {high[i]:.1f})"
        for i, name in enumerate(found.names)
        if i
    )
    near = speedups[:-1] >= np.array(found.fixed) / SLOWER
    long = np.array(found.fixed) > 2
    return Finding(
        "Appendix C",
        f"{TASK_NAMES[found.task]}: the time falls about like 1 / T_ON.",
        f"times faster than T_ON = 1 on {found.device}, by T_ON (median and range over "
        f"{len(found.seconds)} rounds): {said}",
        "yes" if near.all() else "no" if not near[long].any() else "undecided",
        found.task,
    )


def draw(networks: Sequence[Intervals]) -> Any:
    """Draw the whole spectrum, its first half and the differences, a row for each task.

    Args:
        networks: What was measured.

    Returns:
        A figure.
    """
    figure = new_figure(11.5, 3.4 * len(networks) + 0.4)
    grid = figure.subplots(len(networks), 3, squeeze=False)
    letter(list(grid.flat))
    for (whole, first, away), found in zip(grid, networks, strict=True):
        half = found.truth.size // 2
        lines = spectra(whole, found, found.truth.size)
        spectra(first, found, half)
        frame(whole, first)
        whole.set_ylabel(f"{TASK_NAMES[found.task]}\n{EXPONENT_LABEL}")
        index = np.arange(1, found.truth.size + 1)
        for color, row in zip(colors(found), found.differences, strict=True):
            away.plot(index, np.where(row > 0, row, np.nan), color=color, linewidth=0.9)
        away.axhline(PROMISED, color="0.4", linestyle="--", linewidth=0.8)
        away.set(yscale="log", xlabel=INDEX_LABEL)
        away.set_ylabel("difference to the truth (nats per step)", fontsize="small")
        finish(away, None)
    figure.legend(*lines, loc="outside upper center", ncols=len(lines[0]), frameon=False)
    return figure


def colors(found: Intervals) -> list[Any]:
    """Choose a color for each interval, ``"auto"`` last."""
    from matplotlib import colormaps

    return [*colormaps["viridis"](np.linspace(0, 0.9, len(found.fixed))), "crimson"]


def spectra(ax: Any, found: Intervals, count: int) -> tuple[list[Any], list[str]]:
    """Draw the spectra of all intervals; what is not resolved is dotted.

    Args:
        ax: Axes.
        found: A network.
        count: How many exponents to draw, from the first.

    Returns:
        Lines and their names, for a legend.
    """
    index = np.arange(1, count + 1)
    truth = np.where(found.known, found.truth, np.nan)[:count]
    lines = ax.plot(index, truth, color="0.75", linewidth=4, label="truth (1, float64)", zorder=1)
    for color, name, row, known in zip(
        colors(found), found.names, found.exponents, found.resolved, strict=True
    ):
        values, sure = np.where(np.isfinite(row), row, np.nan)[:count], known[:count]
        style = {"color": color, "linewidth": 1.3, "zorder": 3 if name == "auto" else 2}
        label = f"$T_{{ON}}={name}$" if name != "auto" else "auto"
        lines += ax.plot(index, np.where(sure, values, np.nan), **style, label=label)
        ax.plot(index, np.where(sure, np.nan, values), **style, linestyle=":")
    lines += ax.plot([], [], ":", color="0.3", label="not resolved")
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    ax.set(xlabel=INDEX_LABEL, xlim=(0.5, count + 0.5))
    finish(ax, None)
    return lines, [line.get_label() for line in lines]


def frame(whole: Any, part: Any) -> None:
    """Draw the box of the second panel into the first, as the paper does.

    Args:
        whole: Axes of the whole spectrum.
        part: Axes of its first half.
    """
    from matplotlib.patches import Rectangle

    (left, right), (low, high) = part.get_xlim(), part.get_ylim()
    box = Rectangle((left, low), right - left, high - low, color="0.93", zorder=-1)
    whole.add_patch(box)


FIGURE = measured_figure("fig6", measure, Intervals.of, table, findings, draw)

if __name__ == "__main__":
    main(FIGURE)
