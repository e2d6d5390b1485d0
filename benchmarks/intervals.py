"""What longer intervals between factorizations cost and save, on a trained network.

`python -m benchmarks.intervals CHECKPOINT --data-dir PATH [--write]`, with a checkpoint of
`python train.py task=charrnn data_dir=PATH trainer.max_epochs=2`. For the whole spectrum, its 32
leading exponents and the first alone, in both precisions, every interval is compared with interval
1 in the same run: factorizations saved, exponents not resolved, the largest difference of a
resolved one, and the ratio of the times. ``--write`` makes docs/INTERVALS.md.
"""

import argparse
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from datamodules import CharTextDataModule
from lightning_lyap import SpectrumEstimate, lyapunov_spectrum
from lightning_lyap.estimator.schedule import TOLERANCES, Interval
from lightning_lyap.network.find_modules import find_recurrent_modules
from lightning_lyap.network.input_recorder import InputRecorder
from lightning_lyap.tasks import CharRNN

PAGE = Path(__file__).resolve().parents[1] / "docs" / "INTERVALS.md"
COUNTS = (None, 32, 1)
INTERVALS: tuple[Interval, ...] = (2, 4, 5, "auto")
HEADER = (
    "| exponents | precision | interval | factorizations | taken back | saved | not resolved "
    "| largest difference | promised | time ratio |\n| --- " + "| ---: " * 9 + "|"
)


@dataclass(frozen=True)
class Comparison:
    """One line of the table.

    Attributes:
        count: K, or None for all.
        dtype: Type of the arithmetic.
        every: The interval.
        estimate: With this interval.
        reference: With interval 1.
        speedup: Time with interval 1 over time with this one.
    """

    count: int | None
    dtype: torch.dtype
    every: Interval
    estimate: SpectrumEstimate
    reference: SpectrumEstimate
    speedup: float

    def line(self) -> str:
        """Return the line, in Markdown."""
        certificate, resolved = self.estimate.certificate, self.estimate.resolved
        work = certificate.num_factorizations + certificate.num_redone
        saved = 1 - work / self.reference.certificate.num_factorizations
        difference = (self.estimate.exponents - self.reference.exponents).abs()[resolved].max()
        promised = f"{TOLERANCES[self.dtype]:.0e}" if self.every == "auto" else "-"
        precision = str(self.dtype).removeprefix("torch.")
        cells = (
            "all" if self.count is None else self.count,
            precision,
            self.every,
            certificate.num_factorizations,
            certificate.num_redone,
            f"{saved:.0%}",
            int((~resolved).sum()),
            f"{difference:.1e}",
            promised,
            f"{self.speedup:.2f}",
        )
        return "| " + " | ".join(str(cell) for cell in cells) + " |"


def trained_network(
    checkpoint: str, data_dir: str, batch: int, steps: int
) -> tuple[nn.RNNBase, torch.Tensor]:
    """Load a CharRNN and what drives its LSTM on held-out text.

    Args:
        checkpoint: Path of the checkpoint.
        data_dir: Folder with the text.
        batch: Number of sequences.
        steps: Steps of each.

    Returns:
        The recurrent module, and its inputs ``[B, T, I]``.
    """
    network = CharRNN.load_from_checkpoint(checkpoint, map_location="cpu").eval()
    data = CharTextDataModule(data_dir=data_dir, source="real")
    data.prepare_data()
    data.setup("fit")
    ((name, module),) = find_recurrent_modules(network).items()
    with torch.no_grad(), InputRecorder({name: module}, batch, steps) as recorder:
        network(data.lyapunov_sequences(batch, steps))
    assert isinstance(module, nn.RNNBase)
    return module, recorder.sequences()[name].inputs


def compare(module: nn.RNNBase, inputs: torch.Tensor) -> Iterator[Comparison]:
    """Measure with every interval, beside interval 1.

    Args:
        module: The recurrent module.
        inputs: ``[B, T, I]``.

    Yields:
        The comparisons.
    """
    for count in COUNTS:
        for dtype in (torch.float32, torch.float64):

            def measure(
                every: Interval, count: int | None = count, dtype: torch.dtype = dtype
            ) -> tuple[SpectrumEstimate, float]:
                start = time.perf_counter()
                estimate = lyapunov_spectrum(
                    module,
                    inputs,
                    state="hidden",
                    num_exponents=count,
                    dtype=dtype,
                    orthonormalize_every=every,
                    warmup_steps=0,
                )
                return estimate, time.perf_counter() - start

            measure("auto")
            reference, seconds = measure(1)
            for every in INTERVALS:
                estimate, own = measure(every)
                yield Comparison(count, dtype, every, estimate, reference, seconds / own)


def main() -> None:
    """Print the table, and write it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--sequences", type=int, default=10)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--write", action="store_true", help="write docs/INTERVALS.md")
    arguments = parser.parse_args()
    module, inputs = trained_network(
        arguments.checkpoint, arguments.data_dir, arguments.sequences, arguments.steps
    )
    lines = [HEADER]
    print(HEADER)
    for comparison in compare(module, inputs):
        lines.append(comparison.line())
        print(lines[-1], flush=True)
    if arguments.write:
        title = (
            "# Intervals between factorizations\n\nMade by `python -m benchmarks.intervals "
            "CHECKPOINT --data-dir PATH --write` on a CharRNN after two epochs of War and Peace "
            f'(LSTM, {module.hidden_size} units, `state="hidden"`, {inputs.shape[0]} sequences '
            f"of {inputs.shape[1]} steps; torch {torch.__version__.split('+')[0]}, Python "
            f"{platform.python_version()}, {torch.get_num_threads()} threads).\n\nDifferences are "
            "from interval 1 in the same precision, in nats per step, of the exponents that are "
            "resolved. `auto` promises a bound for these. Times are ratios, interval 1 over this "
            "one.\n\n"
        )
        PAGE.write_text(title + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
