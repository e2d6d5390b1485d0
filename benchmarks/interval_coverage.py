"""How often 95 % intervals cover the long-run exponents, with the default arguments.

`python -m benchmarks.interval_coverage --out FOLDER [--data-dir PATH] [--write]`. A chaotic tanh
network, an LSTM and a GRU trained on War and Peace are measured again and again, on fresh draws or
on other windows of held-out text, and compared with one long run. Every case leaves a file in the
folder; what is there already is not measured again. ``--write`` makes docs/COVERAGE.md. Takes some
twenty minutes on one core.

Replicates are run side by side, as sequences of one call, and taken apart again: sequences do not
see each other, so each comes out as from a call of its own.
"""

import argparse
import json
import math
import platform
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from datamodules import CharTextDataModule
from lightning_lyap import lyapunov_spectrum
from lightning_lyap.estimator.result import MeanSpectrum, SpectrumEstimate, SpectrumSums
from lightning_lyap.statistics.batch_means import StretchBins
from lightning_lyap.systems import random_tanh_network

PAGE = Path(__file__).resolve().parents[1] / "docs" / "COVERAGE.md"
UNITS, SEQUENCES, LEADING = 20, 10, 8
GAIN, DRIVE = 2.0, 0.05
TRAINING_STEPS, TRAINING_BATCH, TRAINING_LENGTH = 400, 64, 100
# The long run: sequences of so many counted steps after so many of warm-up, in float64.
LONG_STEPS, LONG_WARMUP, LONG_DRAWS = 4000, 1000, 64
# Replicates that are run side by side, and how often an exponent must have been said to be settled
# for its own share to be shown.
SIDE_BY_SIDE, FEW = 50, 50
STATISTICS = ("kaplan_yorke_dimension", "mean", "kolmogorov_sinai_entropy", "num_positive")
NETWORKS = (("tanh", "full"), ("LSTM", "full"), ("LSTM", "hidden"), ("GRU", "full"))


class Case(NamedTuple):
    """What is measured.

    Attributes:
        network: Name of its kind.
        state: Which state of an LSTM.
        count: K, or None for all.
        steps: Of a sequence.
        warmup_steps: As `lyapunov_spectrum` takes them.
    """

    network: str
    state: Any
    count: int | None
    steps: int
    warmup_steps: int | Literal["auto"]

    @property
    def name(self) -> str:
        """Of its file."""
        count = "all" if self.count is None else self.count
        return f"{self.network}-{self.state}-{count}-{self.steps}-{self.warmup_steps}"


CASES = tuple(
    Case(network, state, count, steps, warmup)
    for warmup in ("auto", 0)
    for steps in (100, 400)
    for count in (None, LEADING)
    for network, state in NETWORKS
)


@dataclass(frozen=True)
class Source:
    """A network and what drives it.

    Attributes:
        network: One layer.
        draw: Draws so many sequences of so many steps, ``[B, T, I]``.
        long: What the long run is driven by.
    """

    network: nn.RNNBase
    draw: Callable[[int, int, torch.Generator], Tensor]
    long: Tensor


def chaotic_network() -> Source:
    """Draw a chaotic tanh network, driven by weak white noise from the default state."""
    torch.manual_seed(0)
    network = random_tanh_network(UNITS, GAIN, DRIVE)

    def draw(count: int, steps: int, generator: torch.Generator) -> Tensor:
        return torch.randn(count, steps, UNITS, generator=generator)

    long = draw(LONG_DRAWS, LONG_WARMUP + LONG_STEPS, torch.Generator().manual_seed(1))
    return Source(network, draw, long)


def trained_network(kind: str, data_dir: str | None) -> Source:
    """Train a small network on War and Peace, to be measured on windows of the test split.

    Args:
        kind: ``"LSTM"`` or ``"GRU"``.
        data_dir: Folder with the text, or None.

    Returns:
        The network and its windows, one-hot. The long run takes the whole split.
    """
    data = CharTextDataModule(data_dir=data_dir, source="real")
    data.prepare_data()
    data.setup()
    windows, targets = data.split("train").tensors
    network, size = _train(kind, windows, targets, data.vocab_size), data.vocab_size
    (test,) = data.lyapunov_sequences(1, len(data._test_tokens))

    def windows_at(starts: Tensor, steps: int) -> Tensor:
        return nn.functional.one_hot(test[starts[:, None] + torch.arange(steps)], size).float()

    def draw(count: int, steps: int, generator: torch.Generator) -> Tensor:
        slots, starts = len(test) // steps - 1, []
        for _ in range(count // SEQUENCES):  # windows of a replicate don't overlap
            phase = torch.randint(steps, (1,), generator=generator)
            starts.append(torch.randperm(slots, generator=generator)[:SEQUENCES] * steps + phase)
        return windows_at(torch.cat(starts), steps)

    steps = LONG_WARMUP + LONG_STEPS
    long = windows_at(torch.arange(0, len(test) - steps + 1, LONG_STEPS), steps)
    return Source(network, draw, long)


def _train(kind: str, windows: Tensor, targets: Tensor, size: int) -> nn.RNNBase:
    """Train on tokens ``[n, T]`` to predict the next of ``size`` characters."""
    torch.manual_seed(0)
    network: nn.RNNBase = getattr(nn, kind)(size, UNITS, batch_first=True)
    read_out = nn.Linear(UNITS, size)
    optimizer = torch.optim.Adam([*network.parameters(), *read_out.parameters()], lr=1e-2)
    loss = torch.tensor(math.inf)
    for _ in range(TRAINING_STEPS):
        rows = torch.randint(len(windows), (TRAINING_BATCH,))
        one_hot = nn.functional.one_hot(windows[rows, :TRAINING_LENGTH], size).float()
        logits = read_out(network(one_hot)[0])
        loss = nn.functional.cross_entropy(
            logits.flatten(0, 1), targets[rows, :TRAINING_LENGTH].flatten()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"{kind}: {loss.item():.3f} nats per character", flush=True)
    return network.eval()


def taken_apart(estimate: SpectrumEstimate, size: int) -> Iterator[MeanSpectrum]:
    """Take an estimate apart into those of consecutive sequences of one length.

    Args:
        estimate: With its log-stretches. What rounding did is that of all its sequences; that it
            lost any is left out.
        size: Sequences of a part.

    Yields:
        What a call on these sequences alone gives.
    """
    assert estimate.log_stretches is not None
    sums = estimate.sums
    for first in range(0, len(estimate.steps), size):
        rows = slice(first, first + size)
        bins = StretchBins()
        for end, stretch in zip(
            estimate.block_ends.tolist(), estimate.log_stretches[:, rows], strict=True
        ):
            bins.add(stretch, end)
        part = SpectrumSums(
            **vars(bins.contrasts(estimate.steps[rows], estimate.valid[rows])),
            rounding=size * estimate.rounding_errors,
            unresolved=torch.zeros_like(sums.unresolved),
            steps=sums.steps * size // sums.count,
        )
        yield part.sorted_mean(estimate.tangent_size)[0]


def described(spectrum: MeanSpectrum) -> dict[str, Any]:
    """Write down what is asked of a spectrum: plain numbers."""
    measures = spectrum.measures()
    intervals = getattr(measures, "intervals", {})
    return {
        "exponents": spectrum.exponents.tolist(),
        "margins": spectrum.margins.tolist(),
        "standard_errors": spectrum.standard_errors.tolist(),
        "settled": spectrum.settled.tolist(),
        "statistics": {name: float(getattr(measures, name)) for name in STATISTICS},
        "intervals": {name: list(intervals[name]) for name in STATISTICS if name in intervals},
    }


def replicates(case: Case, source: Source, number: int) -> list[dict[str, Any]]:
    """Measure a case again and again; those of one length see the same draws.

    Args:
        case: The case.
        source: Its network.
        number: How often.

    Returns:
        What is asked of each spectrum.
    """
    generator = torch.Generator().manual_seed(case.steps)
    found: list[dict[str, Any]] = []
    while len(found) < number:
        together = min(SIDE_BY_SIDE, number - len(found))
        estimate = lyapunov_spectrum(
            source.network,
            source.draw(SEQUENCES * together, case.steps, generator),
            num_exponents=case.count,
            state=case.state,
            warmup_steps=case.warmup_steps,
            keep_log_stretches=True,
        )
        sums = estimate.sums
        resolved = (1 - sums.unresolved[estimate.order] / sums.count).tolist()
        found += [
            described(one) | {"resolved": resolved} for one in taken_apart(estimate, SEQUENCES)
        ]
    return found


def long_run(source: Source, state: Any) -> dict[str, Any]:
    """Measure what is taken for the truth, in float64."""
    return described(
        lyapunov_spectrum(
            source.network,
            source.long.double(),
            state=state,
            warmup_steps=LONG_WARMUP,
            dtype=torch.float64,
        )
    )


@dataclass(frozen=True)
class Coverage:
    """How a case came out; shares are NaN where they are of nothing.

    Attributes:
        resolved: Share of the exponents that are resolved.
        settled: Share of the exponents said to be settled.
        covered: Share of those that their interval covers.
        worst: The least share of a single exponent that is settled often enough.
        worst_index: Which, from 0; None if none is.
        bias: Its mean deviation, in mean margins.
        spread: Its standard deviation over replicates, in standard errors (their root mean square).
        largest: Share of the largest exponents said to be settled that are covered.
        statistics: Share of the intervals of each statistic that cover; without those not measured.
    """

    resolved: float
    settled: float
    covered: float
    worst: float
    worst_index: int | None
    bias: float
    spread: float
    largest: float
    statistics: dict[str, float]


def coverage(found: list[dict[str, Any]], truth: dict[str, Any], few: int = FEW) -> Coverage:
    """Count what is covered: deviations no larger than both margins, squared and added.

    Args:
        found: Of replicates.
        truth: The same of the long run; of its exponents the leading ones are taken.
        few: How often an exponent must be settled for a share of its own.

    Returns:
        The shares.
    """

    def stacked(name: str) -> Tensor:
        return torch.tensor([one[name] for one in found], dtype=torch.float64)

    exponents, margins = stacked("exponents"), stacked("margins")
    settled, errors = stacked("settled") > 0, stacked("standard_errors")
    count = exponents.shape[1]
    known, known_margins = (
        torch.tensor(truth[name][:count], dtype=torch.float64) for name in ("exponents", "margins")
    )
    off = exponents - known
    inside = (off.abs() <= (margins.square() + known_margins.square()).sqrt()) & settled
    times = settled.sum(0)
    shares = torch.where(times >= few, inside.sum(0) / times, math.nan)
    index = None if bool(shares.isnan().all()) else int(shares.nan_to_num(2.0).argmin())
    return Coverage(
        resolved=float(stacked("resolved").mean()),
        settled=float(settled.double().mean()),
        covered=float(inside.sum() / times.sum()),
        worst=math.nan if index is None else float(shares[index]),
        worst_index=index,
        bias=math.nan if index is None else float(off[:, index].mean() / margins[:, index].mean()),
        spread=math.nan
        if index is None
        else float(off[:, index].std() / errors[:, index].square().mean().sqrt()),
        largest=float(inside[:, 0].sum() / times[0]),
        statistics={
            name: sum(_within(one["intervals"][name], truth["statistics"][name]) for one in found)
            / len(found)
            for name in STATISTICS
            if all(name in one["intervals"] for one in found)
        },
    )


def _within(interval: list[float], value: float) -> bool:
    """Return whether an interval holds a value; one of no width only to rounding."""
    return interval[0] - 1e-9 <= value <= interval[1] + 1e-9


def measure(folder: Path, number: int, data_dir: str | None) -> dict[str, Any]:
    """Measure all cases that have no file yet.

    Args:
        folder: Where the files are.
        number: Replicates of a case.
        data_dir: Folder with the text, or None.

    Returns:
        What the files hold, by their names: long runs, and lists of replicates.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sources: dict[str, Source] = {}

    def source(kind: str) -> Source:
        if kind not in sources:
            sources[kind] = chaotic_network() if kind == "tanh" else trained_network(kind, data_dir)
        return sources[kind]

    def kept(name: str, work: Callable[[], Any]) -> Any:
        file = folder / f"{name}.json"
        if not file.is_file():
            result = work()
            part = file.with_suffix(".part")
            part.write_text(json.dumps(result), encoding="utf-8")
            part.rename(file)
            print(name, flush=True)
        return json.loads(file.read_text(encoding="utf-8"))

    # What is not settled is what is counted here.
    warnings.simplefilter("ignore", RuntimeWarning)
    found = {}
    for kind, state in NETWORKS:
        name = f"{kind}-{state}-long"
        found[name] = kept(name, lambda k=kind, s=state: long_run(source(k), s))
    for case in CASES:
        found[case.name] = kept(case.name, lambda c=case: replicates(c, source(c.network), number))
    return found


TITLES = {
    "tanh-full": "tanh, chaotic",
    "LSTM-full": "LSTM, full",
    "LSTM-hidden": "LSTM, hidden",
    "GRU-full": "GRU",
}
HEADER = (
    "| network | K | sequences × steps | resolved | settled | covered | worst exponent (its bias, "
    "spread) | largest exponent |\n| --- " + "| ---: " * 7 + "|"
)
TEXT = """# What the intervals cover

Made by `python -m benchmarks.interval_coverage --out FOLDER --write` (torch {torch}, Python
{python}, {number} replicates a row, float32); don't edit.

How often a 95 % interval covers the exponent of a long run, measured with the default arguments:
half of the steps are warm-up. {units} units each. *tanh, chaotic*: random weights (g = {gain:g}),
driven by weak white noise (s² = {drive:g}), from the state zero; its largest exponent is {largest:+.3f}
nats per step. *LSTM*, *GRU*: trained for {training} steps on War and Peace, measured on random windows
of the test split; the largest exponents are {lstm:+.3f} (full), {hidden:+.3f} (hidden) and {gru:+.3f}.
The long run has {draws} sequences of 4000 counted steps (tanh), or counts every character of the test
split once, after 1000 steps of warm-up each, in float64; its own margin is allowed for.

**settled** is the share of the exponents said to be settled; of these, **covered** is the share whose
interval covers. By chance alone the share of a single exponent over {number} replicates lies between
92 and 98 %, and the worst of twenty or forty lower. **bias** is the mean deviation of the worst
exponent in margins, **spread** its standard deviation over replicates in standard errors: 0 and 1
are right.

{after}

## Statistics

{statistics}

## Without a warm-up

The same with `warmup_steps=0`, every step counted, state and basis as they start (Algorithm 1 of
the paper): intervals see chance only, not where everything comes from.

{before}
"""


def line(case: Case, found: dict[str, Any]) -> str:
    """Return the row of a case, in Markdown."""
    network = f"{case.network}-{case.state}"
    counted = coverage(found[case.name], found[f"{network}-long"])
    worst = "-"
    if counted.worst_index is not None:
        worst = (
            f"{counted.worst:.0%}: no. {counted.worst_index + 1} "
            f"({counted.bias:+.2f}, {counted.spread:.2f})"
        )
    cells = (
        TITLES[network],
        case.count or len(found[case.name][0]["exponents"]),
        f"{SEQUENCES} × {case.steps}",
        _share(counted.resolved),
        _share(counted.settled),
        _share(counted.covered),
        worst,
        _share(counted.largest),
    )
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _share(value: float) -> str:
    """Write a share; a dash where it is of nothing."""
    return "-" if math.isnan(value) else f"{value:.1%}"


def statistics_table(found: dict[str, Any]) -> str:
    """Return the table of complete spectra's statistics, in Markdown."""
    cases = [case for case in CASES if case.warmup_steps == "auto" and case.count is None]
    counted = [
        coverage(found[case.name], found[f"{case.network}-{case.state}-long"]) for case in cases
    ]
    names = [name for name in STATISTICS if all(name in one.statistics for one in counted)]
    if not names:
        return "They have no intervals."
    columns = " | ".join(f"`{name}`" for name in names)
    rows = [
        f"| {TITLES[f'{case.network}-{case.state}']} | {SEQUENCES} × {case.steps} | "
        + " | ".join(_share(one.statistics[name]) for name in names)
        + " |"
        for case, one in zip(cases, counted, strict=True)
    ]
    header = f"| network | sequences × steps | {columns} |\n| --- " + "| ---: " * (len(names) + 1)
    return "\n".join([header + "|", *rows])


def page(found: dict[str, Any]) -> str:
    """Write the page of docs."""
    largest = {network: found[f"{network}-long"]["exponents"][0] for network in TITLES}
    return TEXT.format(
        torch=torch.__version__.split("+")[0],
        python=platform.python_version(),
        number=len(found[CASES[0].name]),
        units=UNITS,
        gain=GAIN,
        drive=DRIVE,
        training=TRAINING_STEPS,
        draws=LONG_DRAWS,
        largest=largest["tanh-full"],
        lstm=largest["LSTM-full"],
        hidden=largest["LSTM-hidden"],
        gru=largest["GRU-full"],
        after=_table("auto", found),
        statistics=statistics_table(found),
        before=_table(0, found),
    )


def _table(warmup_steps: int | Literal["auto"], found: dict[str, Any]) -> str:
    """Return the table of all cases with this warm-up, in Markdown."""
    cases = [case for case in CASES if case.warmup_steps == warmup_steps]
    return "\n".join([HEADER, *(line(case, found) for case in cases)])


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the page, and write it if asked to.

    Args:
        arguments: Of the command line; None takes the process's own.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for results")
    parser.add_argument("--data-dir", help="folder with the text; LYAP_DATA_DIR by default")
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--write", action="store_true", help=f"write docs/{PAGE.name}")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    text = page(measure(options.out, options.replicates, options.data_dir))
    print(text)
    if options.write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
