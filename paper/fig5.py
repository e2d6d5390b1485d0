"""Fig. 5: what a warm-up does to the first iterations (App. C).

``python -m paper.fig5 [scale=paper] [data_dir=PATH] [tasks=[mocap]]``, with one network of each
task (``measured`` of the scale), in its own precision, factorized at every step. Each warm-up leads
into the same steps of the same sequences: sequences are as long as the longest warm-up and those
steps, and shorter warm-ups begin later, from state zero and the identity. So curves differ by the
warm-up alone, not by the input. Of CMU Mocap there are but two such sequences.

What decides, fixed before results at scale=paper were known. The early change of a sequence is the
root mean square over the first 20 iterations and the resolved, finite exponents of the difference
to the final estimate. "Much smaller" is less than half: yes if the 95 % interval over sequences of
the ratio, without warm-up over with it (a t interval of the logarithms), lies above 2, no if it
lies below and so does the ratio for the mean over sequences, which is drawn and fluctuates less,
else undecided.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_lyap.plotting import plot_convergence
from lightning_lyap.plotting.canvas import finish
from paper.command import Finding, main
from paper.confidence import FLOAT, interval
from paper.drawing import TASK_NAMES, letter, new_figure
from paper.measured import Arrays, Measured
from paper.measured_figures import measured_figure
from paper.measuring import Trained, running

EARLY = 20  # iterations
MUCH = 2.0
LINES = ("-", "--", ":", "-.")


def measure(network: Trained, sizes: Mapping[str, Any]) -> Arrays:
    """Measure the same steps after each warm-up.

    Args:
        network: A trained network.
        sizes: Of the scale.

    Returns:
        Numbers by name; see `Warmups`.
    """
    longest, steps = max(sizes["warmups"]), int(sizes["num_steps"])
    batch = network.sequences(int(sizes["num_sequences"]), longest + steps)
    courses, resolved = [], []
    for warmup in sizes["warmups"]:
        estimate = network.spectrum(
            batch[:, longest - warmup :], warmup_steps=warmup, keep_log_stretches=True
        )
        courses.append(running(estimate))
        resolved.append(estimate.resolved.cpu())
    course = torch.stack(courses)
    usable = torch.stack(resolved).all(0) & course.isfinite().all(0).all(0).all(0)
    mean = course.mean(2, keepdim=True)
    far = [(each - each[:, -1:])[..., usable].square().mean(-1).sqrt() for each in (course, mean)]
    return {
        "course": mean[:, :, 0].float().numpy(),
        "distances": far[0].mT.numpy(),
        "drawn_distances": far[1][..., 0].numpy(),
        "usable": usable.numpy(),
    }


@dataclass(frozen=True, eq=False)
class Warmups:
    """What was measured on a network.

    Attributes:
        task: Its task.
        warmups: Steps of each warm-up, ``[W]``; the first is 0.
        course: Mean over sequences after every iteration, ``[W, M, K]``, nats per step.
        distances: Root mean square over exponents of the difference to the final estimate, for each
            sequence, ``[W, B, M]``, nats per step.
        drawn_distances: The same of the mean over sequences, ``[W, M]``, nats per step.
        usable: Exponents that are resolved and finite after all warm-ups, ``[K]``, bool.
    """

    task: str
    warmups: list[int]
    course: FLOAT
    distances: FLOAT
    drawn_distances: FLOAT
    usable: NDArray[np.bool_]

    @classmethod
    def of(cls, task: str, measured: Measured) -> "Warmups":
        """Take what `measure` has returned.

        Args:
            task: The task.
            measured: The numbers.

        Returns:
            The same.
        """
        return cls(task, list(measured.sizes["warmups"]), **measured.arrays)

    @property
    def early(self) -> FLOAT:
        """The early change of each sequence, ``[W, B]``, nats per step."""
        return _early(self.distances)

    @property
    def drawn_early(self) -> FLOAT:
        """The early change of the mean over sequences, ``[W]``, nats per step."""
        return _early(self.drawn_distances)


def _early(distances: FLOAT) -> FLOAT:
    """Take the root mean square over the first iterations, the last dimension."""
    return np.asarray(np.sqrt(np.square(distances[..., :EARLY]).mean(-1)))


def table(found: Warmups) -> list[dict[str, Any]]:
    """List how far the estimates are from the final ones.

    Args:
        found: A network.

    Returns:
        A row for each warm-up and iteration.
    """
    final = found.course[:, -1, found.usable]
    return [
        {
            "task": found.task,
            "warmup_steps": warmup,
            "iteration": iteration + 1,
            "rms_difference_to_last": np.sqrt(np.square(distances[:, iteration]).mean()),
            "rms_difference_to_last_of_mean": drawn[iteration],
            "last_mean_exponent": last.mean(),
            "exponents": int(found.usable.sum()),
        }
        for warmup, distances, drawn, last in zip(
            found.warmups, found.distances, found.drawn_distances, final, strict=True
        )
        for iteration in range(distances.shape[1])
    ]


def findings(found: Warmups) -> list[Finding]:
    """Test what the caption says, as the module's docstring lays down.

    Args:
        found: A network.

    Returns:
        A finding for each warm-up.
    """
    without, *others = found.early
    ratios = found.drawn_early[0] / found.drawn_early[1:]
    made = []
    parts = zip(found.warmups[1:], others, ratios, strict=True)
    for number, (warmup, early, drawn) in enumerate(parts, ord("b")):
        logs = np.log(without / early)
        low, high = (math.exp(min(end, 700.0)) for end in interval(logs))
        made.append(
            Finding(
                f"Fig. 5{chr(number)}",
                f"{TASK_NAMES[found.task]}: after a warm-up of {warmup} steps the early changes "
                "are much smaller than without.",
                f"root mean square difference to the final estimate over the first {EARLY} "
                f"iterations {_rms(without):.3g} without, {_rms(early):.3g} with; smaller by a "
                f"factor of {math.exp(logs.mean()):.2f} [{low:.3g}, {high:.3g}] ({logs.size} "
                f"sequences, {found.usable.sum()} exponents), and of {drawn:.2f} for the mean over "
                "sequences",
                "yes" if low > MUCH else "no" if max(high, drawn) < MUCH else "undecided",
                found.task,
            )
        )
    return made


def _rms(values: FLOAT) -> float:
    """Compute a root mean square."""
    return float(np.sqrt(np.square(values).mean()))


def draw(networks: Sequence[Warmups]) -> Any:
    """Draw the course after each warm-up, and the distances of all, a row for each task.

    Args:
        networks: What was measured.

    Returns:
        A figure.
    """
    columns = max(len(found.warmups) for found in networks) + 1
    figure = new_figure(3.1 * columns, 3.2 * len(networks))
    grid = figure.subplots(len(networks), columns, squeeze=False)
    letter(list(grid.flat))
    for line, found in zip(grid, networks, strict=True):
        panels, last = line[:-1], line[-1]
        steps = torch.arange(1, found.course.shape[1] + 1)
        shown = np.where(found.usable, found.course, np.nan)
        low, high = np.nanmin(shown), np.nanmax(shown)
        margin = 0.04 * (high - low)
        for ax, warmup, course in zip(panels, found.warmups, shown, strict=True):
            bar = ax is panels[-1]
            plot_convergence(torch.from_numpy(course), steps, ax=ax, colorbar=bar)
            ax.set_title(f"warm-up {warmup}", fontsize="small")
            ax.set(xlabel="iteration", ylim=(low - margin, high + margin))
            if ax is not panels[0]:
                ax.set_ylabel("")
        count = found.distances.shape[1]
        panels[0].set_ylabel(
            f"{TASK_NAMES[found.task]}, mean of {count} sequences\n{panels[0].get_ylabel()}"
        )
        lines = zip(found.warmups, found.drawn_distances, styles(found.warmups), strict=True)
        for warmup, distances, style in lines:
            last.plot(steps[:-1], distances[:-1], **style, label=f"warm-up {warmup}")
        last.axvspan(0, EARLY, color="0.9", zorder=0)
        last.set(yscale="log", xlabel="iteration", xlim=(0, len(steps)))
        last.set_ylabel("rms difference to the last (nats per step)", fontsize="small")
        last.legend(fontsize="small", frameon=False)
        finish(last, None)
    return figure


def styles(warmups: Sequence[int]) -> list[dict[str, Any]]:
    """Choose lines, in colors out of those of the exponents: pictures have few.

    Args:
        warmups: The warm-ups.

    Returns:
        A style for each.
    """
    from matplotlib import colormaps

    chosen = colormaps["viridis"](np.linspace(0, 0.8, len(warmups)))
    return [
        {"color": color, "linestyle": LINES[i % len(LINES)], "linewidth": 1.4}
        for i, color in enumerate(chosen)
    ]


FIGURE = measured_figure("fig5", measure, Warmups.of, table, findings, draw)

if __name__ == "__main__":
    main(FIGURE)
