"""What is aimed at on a GPU: factorizations, spectra beside training, and how right both are."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from gpu_accuracy import Case, loss_of_orthogonality
from lightning_lyap import SpectrumEstimate, lyapunov_spectrum
from lightning_lyap.estimator.schedule import Interval
from lightning_lyap.qr.orthonormalize import orthonormalize
from performance.networks import characters
from performance.table import Bar, Result, Row
from performance.timing import Spread, in_turn, ratio, stopwatch_of
from performance.training import BATCH, EPOCH, STEPS, char_rnn, training_steps
from performance.twin import Twin, largest_difference

TEXT = (
    "Wall time of what the package does as it is called. `orthonormalize` of a batch of Gaussian "
    "matrices beside `torch.linalg.qr`, B = {batch}, N = K = {units}. The complete spectrum of the "
    'LSTM of a CharRNN as it starts, {units} units, `state="hidden"`, B = {batch}, T = {steps}, '
    "float32, in turn with training steps of that network (batches of {sequences} x {characters} "
    "characters, {epoch} steps an epoch). Differences are those of single sequences, of all "
    "resolved exponents the largest, from the twin on the CPU in float64. Loss of orthogonality: "
    "the largest entry of `|QᵀQ - I|` over bases whose singular values, or rows, fall off to the "
    "condition number; as many as there are rounds, and the largest counts."
)
FLOAT32, FLOAT64 = torch.float32, torch.float64
INTERVALS: tuple[Interval, ...] = (1, "auto")
# What is hard about a basis, up to which condition numbers, and what may be lost with them.
KINDS = ("singular values", "rows")
CONDITIONS = {FLOAT32: (1e2, 1e4, 1e6), FLOAT64: (1e6, 1e10, 1e14)}
LOSSES = {FLOAT32: Bar("<=", 1e-5), FLOAT64: Bar("<=", 1e-13)}
# The other targets: how many times faster, seconds, part of an epoch, nats per step.
FASTER, SECONDS, PART = Bar(">=", 8.0), Bar("<", 0.5), Bar("<", 0.1)
DIFFERENCE = Bar("<=", 1e-4)


@dataclass(frozen=True)
class Sizes:
    """How much to compute.

    Attributes:
        units: H.
        batch: B.
        steps: T.
        rounds: How often.
        compared: Sequences that are compared with the twin.
        trained: Training steps that are timed together.
        text: Sequences and characters of a batch of training.
    """

    units: int
    batch: int
    steps: int
    rounds: int
    compared: int
    trained: int
    text: tuple[int, int] = (BATCH, STEPS)

    def inputs(self) -> Tensor:
        """Draw what drives the network, ``[B, T, I]``."""
        return characters(self.batch, self.steps)

    def training(self, device: torch.device) -> Callable[[], None]:
        """Return what takes `trained` training steps."""
        return training_steps(self.units, self.trained, device, *self.text)


FULL = Sizes(512, 10, 100, 5, 2, 10)
QUICK = Sizes(256, 10, 20, 3, 1, 5)


def name(dtype: torch.dtype) -> str:
    """Return the name of a type without torch's."""
    return str(dtype).removeprefix("torch.")


def measure(sizes: Sizes, device: torch.device) -> Result:
    """Measure the section.

    Args:
        sizes: How much.
        device: The GPU.

    Returns:
        A row for each target, and rows that say more about them.
    """
    rows = [
        *factorizations(sizes, device),
        *spectra(sizes, device),
        *orthogonality(sizes, device),
    ]
    text = TEXT.format(
        units=sizes.units,
        batch=sizes.batch,
        steps=sizes.steps,
        sequences=sizes.text[0],
        characters=sizes.text[1],
        epoch=EPOCH,
    )
    return Result("Targets on a GPU", text, rows)


def bases(sizes: Sizes, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Draw what is factorized, ``[B, N, N]``, the same each time."""
    generator = torch.Generator().manual_seed(0)
    shape = (sizes.batch, sizes.units, sizes.units)
    return torch.randn(*shape, generator=generator, dtype=dtype).to(device)


def factorizations(
    sizes: Sizes,
    device: torch.device,
    method: Callable[[Tensor], Any] = orthonormalize,
    how: str = "",
    bar: Bar | None = FASTER,
) -> list[Row]:
    """Time the orthonormalization of complete bases in turn with torch's.

    Args:
        sizes: How much.
        device: Where.
        method: What orthonormalizes.
        how: Words for it.
        bar: How many times faster it has to be, or None.

    Returns:
        A row for each type.
    """
    rows = []
    for dtype in (FLOAT32, FLOAT64):
        basis = bases(sizes, dtype, device)
        calls = [partial(torch.linalg.qr, basis), partial(method, basis)]
        times = in_turn(calls, 2 * sizes.rounds, stopwatch=stopwatch_of(device))
        what = f"orthonormalization{how}, {name(dtype)}: times faster than torch.linalg.qr"
        rows.append(Row(what, ratio(times, 0, 1), bar))
    return rows


@lru_cache(maxsize=1)
def exact_exponents(sizes: Sizes) -> Tensor:
    """Run the twin, once for all that is compared with it.

    Args:
        sizes: How much.

    Returns:
        Exponents of the first sequences, ``[b, N]``, nats per step.
    """
    with torch.no_grad():
        return Twin(char_rnn(sizes.units).rnn).exponents(sizes.inputs()[: sizes.compared])


def spectrum_calls(sizes: Sizes, device: torch.device) -> list[Callable[..., SpectrumEstimate]]:
    """Return what measures the spectrum, at each interval.

    Args:
        sizes: How much.
        device: Where.

    Returns:
        Calls that take further settings of `lyapunov_spectrum`.
    """
    lstm, inputs = char_rnn(sizes.units).rnn.to(device), sizes.inputs().to(device)
    run = partial(lyapunov_spectrum, lstm, inputs, state="hidden", warmup_steps=0)
    return [partial(run, orthonormalize_every=every) for every in INTERVALS]


def spectra(sizes: Sizes, device: torch.device) -> list[Row]:
    """Time spectra beside training, and compare them with the twin.

    Args:
        sizes: How much.
        device: Where.

    Returns:
        Rows of the time, then rows of how right they are.
    """
    calls = spectrum_calls(sizes, device)
    estimates = [call() for call in calls]
    labels = [f"float32, interval {every}" for every in INTERVALS]
    rows = beside_training(sizes, device, calls, estimates, labels, judged=True)
    double = calls[0](dtype=FLOAT64)
    compared = {labels[0]: estimates[0], "float64, interval 1": double}
    for label, estimate in compared.items():
        off = largest_difference(estimate, exact_exponents(sizes))
        what = f"{label}: largest difference from the CPU in float64, nats per step"
        rows.append(Row(what, worst([off]), DIFFERENCE))
    for label, estimate in {**compared, labels[1]: estimates[1]}.items():
        lost = float((~estimate.resolved).sum())
        rows.append(Row(f"{label}: exponents of {sizes.units} not resolved", worst([lost])))
    return rows


def beside_training(
    sizes: Sizes,
    device: torch.device,
    calls: Sequence[Callable[[], Any]],
    estimates: Sequence[SpectrumEstimate],
    labels: Sequence[str],
    judged: bool,
) -> list[Row]:
    """Time spectra in turn with training.

    Args:
        sizes: How much.
        device: Where.
        calls: What measures the spectra; each was called before.
        estimates: What they returned.
        labels: Words for them.
        judged: Whether there are bars.

    Returns:
        For each spectrum its seconds, and its time as a part of an epoch's.
    """
    train = sizes.training(device)
    train()
    watch = stopwatch_of(device)
    times = in_turn([*calls, train], sizes.rounds, stopwatch=watch, warm_up=False)
    rows = []
    for i, (label, estimate) in enumerate(zip(labels, estimates, strict=True)):
        off = largest_difference(estimate, exact_exponents(sizes))
        seconds = Spread.of(row[i] for row in times)
        part = Spread.of(row[i] / (EPOCH * row[-1] / sizes.trained) for row in times)
        bars = (SECONDS, PART) if judged else (None, None)
        rows.append(Row(f"spectrum, {label}: seconds", seconds, bars[0], difference=off))
        rows.append(Row(f"spectrum, {label}: part of an epoch of training", part, bars[1]))
    return rows


def orthogonality(sizes: Sizes, device: torch.device) -> list[Row]:
    """Measure what is lost of the orthogonality of hard bases.

    Args:
        sizes: How much.
        device: Where.

    Returns:
        A row for each type.
    """
    rows = []
    for dtype, conditions in CONDITIONS.items():
        cases = [Case(kind, -math.log(high), dtype) for kind in KINDS for high in conditions]
        losses = [
            loss_of_orthogonality(
                orthonormalize(case.basis(sizes.compared, sizes.units).to(device)).basis
            )
            for case in cases
        ]
        what = f"largest loss of orthogonality, {name(dtype)}, conditions up to {conditions[-1]:g}"
        rows.append(Row(what, worst(losses), LOSSES[dtype]))
    return rows


def worst(values: Sequence[float]) -> Spread:
    """Summarize values of which the largest counts.

    Args:
        values: At least one.

    Returns:
        The largest in place of the median; not a number if one of them is none.

    Example:
        >>> worst([1.0, 3.0])
        Spread(median=3.0, lowest=1.0, highest=3.0, rounds=2)
    """
    found = torch.tensor(values, dtype=FLOAT64)
    largest = found.max().item()
    return Spread(largest, found.min().item(), largest, len(values))
