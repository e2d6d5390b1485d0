"""Replicates of every case, and the long runs they are compared with, kept in files.

Replicates are run side by side, as sequences of one call, and taken apart again: sequences do not
see each other, so each comes out as from a call of its own.
"""

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from covering.networks import (
    LONG_WARMUP,
    SEQUENCES,
    Source,
    chaotic_network,
    trained_network,
)
from lightning_lyap import lyapunov_spectrum
from lightning_lyap.estimator.result import MeanSpectrum, SpectrumEstimate, SpectrumSums
from lightning_lyap.statistics.batch_means import StretchBins

# Leading exponents that are measured alone, and replicates that are run side by side.
LEADING, SIDE_BY_SIDE = 8, 50
STATISTICS = ("kaplan_yorke_dimension", "mean", "kolmogorov_sinai_entropy", "num_positive")
NETWORKS = (("tanh", "full"), ("LSTM", "full"), ("LSTM", "hidden"), ("GRU", "full"))


@dataclass(frozen=True)
class Case:
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


SETTINGS: tuple[tuple[int, int | Literal["auto"]], ...] = ((100, "auto"), (400, "auto"), (100, 0))
CASES = tuple(
    Case(network, state, count, steps, warmup)
    for steps, warmup in SETTINGS
    for count in (None, LEADING)
    for network, state in NETWORKS
)


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


def replicates(source: Source, case: Case, number: int) -> list[dict[str, Any]]:
    """Measure a case again and again; those of one length see the same draws.

    Args:
        source: The network.
        case: The case.
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

    def kept(name: str, work: Callable[..., Any], kind: str, argument: Any) -> Any:
        file = folder / f"{name}.json"
        if not file.is_file():
            result = work(source(kind), argument)
            part = file.with_suffix(".part")
            part.write_text(json.dumps(result), encoding="utf-8")
            part.rename(file)
            print(name, flush=True)
        return json.loads(file.read_text(encoding="utf-8"))

    # What is not settled is what is counted here.
    warnings.simplefilter("ignore", RuntimeWarning)
    found = {
        name: kept(name, long_run, kind, state)
        for kind, state in NETWORKS
        for name in [f"{kind}-{state}-long"]
    }
    again = partial(replicates, number=number)
    return found | {case.name: kept(case.name, again, case.network, case) for case in CASES}
