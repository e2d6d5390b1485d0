"""Draw the pictures of docs/reading.md and fill in its table: `python docs/regimes.py`.

Random networks ``h' = tanh(V h + s x)``, V ~ N(0, g^2/N), driven by white noise: stable for a small
gain g, chaotic for a large one. The edge between is found by bisection on the estimator's own
largest exponent and compared with that of mean-field theory. Takes about a minute on one core.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from lightning_lyap import SpectrumEstimate, lyapunov_spectrum
from lightning_lyap.plotting import plot_convergence, plot_spectrum, render, save_png
from lightning_lyap.systems import mean_field_exponent, random_tanh_network

FIGURES = Path(__file__).with_name("figures")
PAGE = Path(__file__).with_name("reading.md")
TABLE = re.compile(r"(?<=<!-- regimes -->\n).*?(?=<!-- end -->)", re.DOTALL)
SIZE, DRIVE_VARIANCE = 128, 0.25
SEQUENCES, WARMUP, STEPS = 10, 100, 500
STABLE, CHAOTIC = 1.0, 2.5
APART, WATCHED, SETTLED = 1e-5, 100, 20
LEADING, SHOWN = 15, 8
STYLE: Any = {"font.size": 11, "axes.titlesize": 11, "mathtext.fontset": "dejavusans"}


@dataclass(frozen=True)
class Edge:
    """The gain at which the largest exponent of a network vanishes.

    Attributes:
        size: N.
        gain: The gain found.
        margin: Half-width of its 95 % interval: that of the exponent over its slope in the gain.
        estimate: The leading exponent there.
    """

    size: int
    gain: float
    margin: float
    estimate: SpectrumEstimate


def network(gain: float, size: int = SIZE, seed: int = 0) -> nn.RNN:
    """Draw a network; the same seed gives the same weights but for the gain.

    Args:
        gain: g.
        size: N.
        seed: Of the weights.

    Returns:
        The network, in float64.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return random_tanh_network(size, gain, DRIVE_VARIANCE).double()


def noise(size: int = SIZE, steps: int = STEPS, seed: int = 1) -> Tensor:
    """Draw what drives a network, warm-up first.

    Args:
        size: N.
        steps: Steps after the warm-up.
        seed: Of the noise.

    Returns:
        ``[B, warm-up + T, N]``, float64, variance 1.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (SEQUENCES, WARMUP + steps, size)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def leading(gain: float, drive: Tensor) -> SpectrumEstimate:
    """Measure the largest exponent.

    Args:
        gain: g.
        drive: What `noise` returned.

    Returns:
        The estimate, K = 1.
    """
    rnn = network(gain, drive.shape[2])
    return lyapunov_spectrum(rnn, drive, num_exponents=1, warmup_steps=WARMUP)


def find_edge(drive: Tensor, low: float = STABLE, high: float = CHAOTIC) -> Edge:
    """Bisect the gain until the largest exponent vanishes to a twentieth of its margin.

    Args:
        drive: What `noise` returned; its last dimension is N.
        low: A gain with a negative exponent.
        high: A gain with a positive exponent.

    Returns:
        The edge.

    Raises:
        ValueError: If the exponent vanishes nowhere between.
    """
    value, margin = 1.0, 0.0
    while abs(value) > margin / 20:
        gain = (low + high) / 2
        estimate = leading(gain, drive)
        value, margin = float(estimate.exponents), float(estimate.margins)
        low, high = (gain, high) if value < 0 else (low, gain)
        if high - low < 1e-6:
            raise ValueError(f"Expected an edge between the gains given, but got to {gain}.")
    below, above = (float(leading(gain + side, drive).exponents) for side in (-0.1, 0.1))
    return Edge(drive.shape[2], gain, margin * 0.2 / (above - below), estimate)


def mean_field_edge() -> float:
    """Bisect the gain at which the exponent of infinitely many units vanishes.

    Returns:
        The gain, to 1e-6.
    """
    low, high = STABLE, CHAOTIC
    while high - low > 1e-6:
        gain = (low + high) / 2
        if mean_field_exponent(gain, DRIVE_VARIANCE) < 0:
            low = gain
        else:
            high = gain
    return low


def distances(rnn: nn.RNN, drive: Tensor) -> Tensor:
    """Follow pairs of trajectories that begin close together and receive the same inputs.

    Args:
        rnn: The network.
        drive: What `noise` returned; the pairs begin after the warm-up.

    Returns:
        Euclidean distance of each pair, ``[B, 1 + steps]``.
    """
    generator = torch.Generator().manual_seed(2)
    shape = (1, len(drive), rnn.hidden_size)
    with torch.no_grad():
        _, start = rnn(drive[:, :WARMUP])
        offset = torch.randn(shape, generator=generator, dtype=torch.float64)
        moved = start + APART * offset / offset.norm(dim=-1, keepdim=True)
        watched = drive[:, WARMUP : WARMUP + WATCHED]
        pair = [
            torch.cat([state.transpose(0, 1), rnn(watched, state)[0]], 1)
            for state in (start, moved)
        ]
    return (pair[1] - pair[0]).norm(dim=-1)


def draw_regime(name: str, gain: float, drive: Tensor) -> SpectrumEstimate:
    """Draw the spectrum of a network, and beside it how pairs of trajectories part or meet.

    Args:
        name: Of the regime, and of the file.
        gain: g.
        drive: What `noise` returned.

    Returns:
        The estimate.
    """
    estimate = lyapunov_spectrum(network(gain), drive, warmup_steps=WARMUP)
    figure, (left, middle, right) = new_figure(1, 3, width_ratios=(1.05, 1, 1.2))
    for count, ax in ((SIZE, left), (LEADING, middle)):
        rows = (estimate.exponents, estimate.std, estimate.resolved, estimate.margins)
        exponents, std, resolved, margins = (row[:count] for row in rows)
        plot_spectrum(exponents, std, resolved, margins=margins, ax=ax)
    names = ("mean", "± 1 std. over sequences", "95 % interval")
    left.legend(middle.get_legend_handles_labels()[0], names, frameon=False, fontsize="small")
    middle.get_legend().remove()
    left.set(ylim=(-8, 1), title=f"all {SIZE} exponents")
    middle.set(title=f"the first {LEADING}", ylabel="", xticks=(1, 5, 10, 15))
    middle.margins(y=0.25)
    draw_distances(right, distances(network(gain), drive), float(estimate.exponents[0]))
    save_png(render(figure), FIGURES / f"{name}.png")
    return estimate


def draw_distances(ax: Any, apart: Tensor, exponent: float) -> None:
    """Draw distances on a logarithmic scale, and the slope of the largest exponent.

    Args:
        ax: Axes.
        apart: ``[B, 1 + steps]``.
        exponent: Nats per step.
    """
    steps = torch.arange(apart.shape[1])
    ax.semilogy(steps, apart.T, color="C0", alpha=0.35, linewidth=0.8)
    ax.plot([], [], color="C0", label=f"{len(apart)} pairs, same inputs")
    level = apart[:, SETTLED].log().mean() - exponent * SETTLED
    line = (level + exponent * steps).exp()
    shown = line < 20
    label = rf"slope $\lambda_1$ = {exponent:+.4f} nats per step".replace("-", "\N{MINUS SIGN}")
    ax.plot(steps[shown], line[shown], "--", color="C3", linewidth=1.6, label=label)
    ax.set(xlabel="step", ylabel="distance", xlim=(0, WATCHED), ylim=(1e-17, 1e6))
    ax.set_title("pairs that begin close together")
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    ax.spines[["top", "right"]].set_visible(False)


def draw_convergence(gain: float, drive: Tensor) -> None:
    """Draw how the eight leading exponents settle, without and with a warm-up.

    Args:
        gain: g.
        drive: What `noise` returned.
    """
    figure, axes = new_figure(1, 2, sharey=True)
    for warmup, ax in zip((0, WARMUP), axes, strict=True):
        estimate = lyapunov_spectrum(
            network(gain), drive, num_exponents=SHOWN, warmup_steps=warmup, keep_log_stretches=True
        )
        running = estimate.running_exponents()
        plot_convergence(running, estimate.block_ends, title=f"warmup_steps={warmup}", ax=ax)
        ax.set_xlim(0, 200)
    axes[1].set_ylabel("")
    figure.axes[2].remove()  # one scale of colors is enough
    save_png(render(figure), FIGURES / "convergence.png")


def new_figure(rows: int, columns: int, **settings: Any) -> tuple[Any, Any]:
    """Make a figure with axes side by side.

    Args:
        rows: Number of rows of axes.
        columns: Number of columns.
        settings: Of ``Figure.subplots``.

    Returns:
        Figure and axes.
    """
    figure = Figure(figsize=(11, 3.7), dpi=108, layout="constrained")
    return figure, figure.subplots(rows, columns, **settings)


def table(estimates: dict[str, tuple[float, SpectrumEstimate]]) -> str:
    """Put what the pictures show into a table.

    Args:
        estimates: Gain and estimate of each regime by its name.

    Returns:
        Markdown.
    """
    lines = [
        "| regime | gain | max ± 95 % | mean | variance | memory horizon | positive "
        "| Kaplan-Yorke | KS entropy |",
        "| --- |" + " ---: |" * 8,
    ]
    for name, (gain, estimate) in estimates.items():
        found, margin = estimate.measures(), float(estimate.margins[0])
        sure = abs(found.max) > margin
        horizon = 1 / (abs(found.max) if sure else abs(found.max) + margin)
        lines.append(
            f"| {name} | {gain:.3f} | {found.max:+.4f} ± {margin:.4f} | {found.mean:.3f} "
            f"| {found.variance:.3f} | {'' if sure else '> '}{horizon:.3g} | {found.num_positive} "
            f"| {found.kaplan_yorke_dimension:.1f} | {found.kolmogorov_sinai_entropy:.3f} |"
        )
    return "\n".join(lines) + "\n"


def edges_text(edges: list[Edge]) -> str:
    """Say where the edges lie.

    Args:
        edges: Of networks of several sizes.

    Returns:
        Markdown.
    """
    lines = ["", "| units | gain at the edge ± 95 % | largest exponent there |"]
    lines.append("| ---: | ---: | ---: |")
    for edge in edges:
        value, margin = float(edge.estimate.exponents), float(edge.estimate.margins)
        value = round(value, 4) + 0.0  # no minus zero
        lines.append(
            f"| {edge.size} | {edge.gain:.3f} ± {edge.margin:.3f} | {value:+.4f} ± {margin:.4f} |"
        )
    return "\n".join([*lines, f"| ∞, mean-field theory | {mean_field_edge():.3f} | 0 |", ""])


def main() -> None:
    """Draw everything and fill in the table."""
    torch.set_num_threads(1)
    matplotlib.rcParams.update(STYLE)
    drive = noise()
    edges = [find_edge(noise(size, 1000)) for size in (SIZE, 4 * SIZE)]
    gains = {"stable": STABLE, "marginal": edges[0].gain, "chaotic": CHAOTIC}
    estimates = {name: (gain, draw_regime(name, gain, drive)) for name, gain in gains.items()}
    draw_convergence(CHAOTIC, drive)
    text = table(estimates) + edges_text(edges)
    PAGE.write_text(TABLE.sub(lambda _: text, PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
