"""What a spectrum costs beside training: `python benchmarks/cost.py [--quick] [--write]`.

Each row is timed in turn with one training step (forward, backward, Adam) of the same network on
the same batch, and with the complete spectrum at interval 1, in one run; the medians of the ratios
are printed. ``--write`` makes docs/COST.md.
"""

import argparse
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_lyap import AutodiffDynamics, lyapunov_spectrum
from performance.timing import interleaved

PAGE = Path(__file__).resolve().parents[1] / "docs" / "COST.md"
SEQUENCES, STEPS, FEATURES = 10, 50, 32
HEADER = (
    "| network | N | K | settings | training steps per spectrum | part of the complete spectrum |\n"
    "| --- | ---: | ---: | --- | ---: | ---: |"
)
TEXT = """# What a spectrum costs

Made by `python benchmarks/cost.py --write` (torch {torch}, Python {python}, 1 thread of a machine
with {cores} CPU cores, float32); don't edit.

All numbers are ratios of processor times, measured in turn in one run; medians. A **training
step** is forward, backward and Adam on the same network and the same batch, {sequences} sequences
of {steps} steps. A **complete spectrum** has K = N exponents, interval 1, joint layers. N is the
size of the tangent space: the number of units, twice that for `state="full"`, times the number of
layers.

{table}

How to read it: a spectrum on {sequences} sequences takes the time of that many training steps with
a batch of {sequences}. Training on larger batches costs more per step, so the spectrum costs less
in comparison. Divide by the number of training steps between two measurements: a spectrum worth
100 such steps, once in an epoch of 5000 of them, adds 2 %. In a run the callback logs the true
fraction as `lyapunov/epoch_fraction`.

What follows from it:

- Both grow in proportion to the number of sequences and steps. For large N the complete spectrum
  grows like N³, a training step like N²: the larger the network, the more a small K saves.
- `num_exponents=32` (`lyapunov=leading` on the command line) is the first thing to try: max, the
  number of positive exponents and the leading part of the shape need no more. Mean and variance
  are then those of the leading exponents.
- `orthonormalize_every="auto"` halves the time or better where the exponents asked for lie close
  together, as the leading ones do. Where a complete spectrum spreads widely, as that of an
  untrained LSTM in the full reading, it finds nothing to save. A fixed interval saves more and
  promises nothing: look at `num_unresolved`.
- `layers="union"` does the factorizations of L layers in 1/L² of the work; in networks of this
  size, where the rest of the work counts, a third to a half of the time is saved.
- Cells of your own are differentiated by `torch.func`, which takes about twice the time; torch's
  own have analytic tangent maps.
- `every_n_validations` and `num_sequences` divide the cost without changing what is measured, but
  for wider error bars with fewer sequences.

These are numbers of a CPU; a GPU [has others](GPU.md). What is aimed at, beside a bare loop and
with its spread, and how costs grow with every size: [Performance](PERFORMANCE.md).
"""


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        label: Settings in words.
        settings: Of `lyapunov_spectrum`.
        autodiff: Whether the tangent map is that of `torch.func`.
    """

    label: str
    settings: dict[str, Any] = field(default_factory=dict)
    autodiff: bool = False


# Every step counts, and a stack is one system, where a case says nothing else.
PLAIN: dict[str, Any] = {"warmup_steps": 0, "layers": "joint"}
AUTO = {"orthonormalize_every": "auto"}
CASES = (
    Case("interval 1"),
    Case("interval 10", {"orthonormalize_every": 10}),
    Case("interval auto", AUTO),
    Case("interval 1", {"num_exponents": 32}),
    Case("interval auto", {"num_exponents": 32} | AUTO),
    Case("interval 1", {"num_exponents": 1}),
    Case("interval auto", {"num_exponents": 1} | AUTO),
)
UNION = Case("interval 1, union", {"layers": "union"})
AUTODIFF = Case("interval 1, by `torch.func`", autodiff=True)
NETWORKS: tuple[tuple[str, str, int, int, str, tuple[Case, ...]], ...] = (
    ("LSTM, 64 units, hidden", "LSTM", 64, 1, "hidden", CASES),
    ("LSTM, 64 units, full", "LSTM", 64, 1, "full", CASES),
    ("GRU, 64 units", "GRU", 64, 1, "full", (CASES[0], CASES[3], AUTODIFF)),
    ("GRU, 2 layers of 64", "GRU", 64, 2, "full", (CASES[0], UNION)),
    ("GRU, 3 layers of 64", "GRU", 64, 3, "full", (CASES[0], UNION)),
    ("GRU, 2 layers of 128", "GRU", 128, 2, "full", (CASES[0], UNION)),
    ("LSTM, 256 units, hidden", "LSTM", 256, 1, "hidden", CASES),
)


def training_step(network: nn.RNNBase, inputs: Tensor) -> Callable[[], None]:
    """Build the step that spectra are compared with.

    Args:
        network: The network; it is trained.
        inputs: ``[B, T, I]``.

    Returns:
        A function that does one step.
    """
    read_out = nn.Linear(network.hidden_size, FEATURES)
    optimizer = torch.optim.Adam([*network.parameters(), *read_out.parameters()], lr=1e-5)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(read_out(network(inputs)[0]), inputs).backward()
        optimizer.step()

    return step


def spectrum(
    network: nn.RNNBase, inputs: Tensor, state: str, case: Case
) -> Callable[[], tuple[int, int]]:
    """Build the measurement of one row.

    Args:
        network: The network.
        inputs: ``[B, T, I]``.
        state: Which state of an LSTM.
        case: The row.

    Returns:
        A function that measures and returns N and K.
    """
    dynamics: Any = network
    settings: dict[str, Any] = {"state": state} | case.settings
    if case.autodiff:
        cell = nn.GRUCell(FEATURES, network.hidden_size)
        for name, weight in network.named_parameters():
            cell.get_parameter(name.removesuffix("_l0")).data = weight.data
        start = torch.zeros(len(inputs), network.hidden_size)
        dynamics, settings = AutodiffDynamics(cell, start), {"initial_state": start}

    def measure() -> tuple[int, int]:
        estimate = lyapunov_spectrum(dynamics, inputs, **PLAIN | settings)
        return estimate.tangent_size, estimate.num_exponents

    return measure


def rows(rounds: int, budget: float, largest: int) -> Iterator[str]:
    """Measure the table.

    Args:
        rounds: How often each row is timed.
        budget: Seconds of the processor for one network.
        largest: Networks with more units are left out.

    Yields:
        Lines of Markdown.
    """
    for name, kind, units, layers, state, cases in NETWORKS:
        if units > largest:
            continue
        torch.manual_seed(0)
        inputs = torch.randn(SEQUENCES, STEPS, FEATURES)
        network = getattr(nn, kind)(FEATURES, units, num_layers=layers, batch_first=True)
        measures = [spectrum(network, inputs, state, case) for case in cases]
        sizes = [measure() for measure in measures]
        calls: list[Callable[[], object]] = [training_step(network, inputs), *measures]
        ratios = interleaved(calls, rounds, budget)
        for i, (case, (size, count)) in enumerate(zip(cases, sizes, strict=True)):
            steps, part = ratios[i + 1][0], ratios[i + 1][1]
            yield f"| {name} | {size} | {count} | {case.label} | {steps:.3g} | {part:.2f} |"


def main() -> None:
    """Print the table, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small networks, two rounds")
    parser.add_argument("--write", action="store_true", help="write docs/COST.md")
    arguments = parser.parse_args()
    if arguments.quick and arguments.write:
        parser.error("Expected --quick or --write, but got both: a page needs the whole table.")
    torch.set_num_threads(1)
    rounds, budget, largest = (2, 3.0, 64) if arguments.quick else (7, 15.0, 256)
    lines = [HEADER]
    print(HEADER)
    for line in rows(rounds, budget, largest):
        print(line, flush=True)
        lines.append(line)
    if arguments.write:
        text = TEXT.format(
            torch=torch.__version__.split("+")[0],
            python=platform.python_version(),
            cores=os.cpu_count(),
            sequences=SEQUENCES,
            steps=STEPS,
            table="\n".join(lines),
        )
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
