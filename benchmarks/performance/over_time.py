"""What chunks of time side by side save."""

from dataclasses import dataclass, replace
from functools import partial

import torch

from lightning_lyap import SpectrumEstimate, lyapunov_spectrum
from lightning_lyap.qr.orthonormalize import random_orthonormal_basis
from performance.networks import characters, network
from performance.table import Result, Row
from performance.timing import in_turn, ratio, stopwatch_of
from performance.twin import Twin, largest_difference

TEXT = (
    "How many times faster a spectrum is with `time_chunks` than in one go: networks as torch "
    "initializes them, whose leading exponents lie close together, on one-hot characters, float32, "
    'interval 1, `state="hidden"`, one thread. Products of Jacobians give the starts of the chunks '
    "(N³ B up to 4e6) as far as their digits reach: with few exponents or short chunks. Elsewhere "
    "such networks, which forget their bases too slowly, are finished plainly, and chunks cost "
    "more than they save. The "
    "difference is the larger of that from the twin over {short} steps and that from the run in "
    "one go over all of them."
)


@dataclass(frozen=True)
class Case:
    """What is run.

    Attributes:
        kind: ``"LSTM"``, ``"GRU"`` or ``"RNN"``.
        units: H.
        count: K, or None for all.
        batch: B.
        steps: T.
        chunks: Of time.
    """

    kind: str
    units: int
    count: int | None
    batch: int
    steps: int
    chunks: int

    def run(self, device: torch.device, chunks: int) -> SpectrumEstimate:
        """Measure the spectrum.

        Args:
            device: Where.
            chunks: Of time.

        Returns:
            The estimate.
        """
        return lyapunov_spectrum(
            network(self.kind, self.units).to(device),
            characters(self.batch, self.steps).to(device),
            num_exponents=self.count,
            state="hidden",
            time_chunks=chunks,
            warmup_steps=0,
        )

    @torch.no_grad()
    def difference(self, device: torch.device) -> float:
        """Compare the first sequence in chunks with the twin.

        Args:
            device: Where.

        Returns:
            The largest difference of a resolved exponent, nats per step.
        """
        cpu, count = torch.device("cpu"), self.count
        drawn = partial(random_orthonormal_basis, self.units, seed=0, dtype=torch.float64)
        basis = None if count is None else drawn(num_vectors=count, device=cpu)
        twin = Twin(network(self.kind, self.units))
        exact = twin.exponents(characters(self.batch, self.steps)[:1], basis)
        return largest_difference(self.run(device, self.chunks), exact)

    @property
    def name(self) -> str:
        """In words."""
        count = "all exponents" if self.count is None else f"K = {self.count}"
        sizes = f"B = {self.batch}, T = {self.steps}, {self.chunks} chunks"
        return f"{self.kind}, {self.units} units, {count}, {sizes}"


@dataclass(frozen=True)
class Sizes:
    """How much to compute.

    Attributes:
        cases: What is run.
        short: Steps in which each is compared with the twin.
        rounds: How often.
    """

    cases: tuple[Case, ...]
    short: int
    rounds: int


FULL = Sizes(
    (
        Case("GRU", 32, 1, 1, 2000, 40),
        Case("GRU", 32, 8, 1, 2000, 80),
        Case("LSTM", 64, 1, 1, 2000, 40),
        Case("GRU", 128, 1, 1, 2000, 40),
        Case("LSTM", 32, 1, 10, 1000, 20),
        Case("GRU", 64, 1, 10, 1000, 20),
        Case("GRU", 128, 1, 10, 1000, 20),
        Case("GRU", 32, None, 1, 500, 50),
        Case("GRU", 64, None, 1, 500, 10),
    ),
    100,
    3,
)
QUICK = Sizes((Case("GRU", 32, 1, 1, 400, 20), Case("LSTM", 64, 1, 10, 200, 10)), 40, 2)


def measure(sizes: Sizes, device: torch.device) -> Result:
    """Measure the section.

    Args:
        sizes: How much.
        device: Where.

    Returns:
        A row for each case.
    """
    rows = []
    for case in sizes.cases:
        plain, chunked = (partial(case.run, device, count) for count in (1, case.chunks))
        found = chunked()
        off = (found.per_sequence - plain().per_sequence).abs()[:, found.resolved]
        difference = max(replace(case, steps=sizes.short).difference(device), float(off.max()))
        times = in_turn([plain, chunked], sizes.rounds, stopwatch=stopwatch_of(device))
        rows.append(
            Row(f"{case.name}: {_outcome(found)}", ratio(times, 0, 1), None, None, difference)
        )
    return Result("Chunks of time", TEXT.format(short=sizes.short), rows)


def _outcome(estimate: SpectrumEstimate) -> str:
    """Say how the chunks came out.

    Args:
        estimate: Run in chunks.

    Returns:
        In words.
    """
    chunks = estimate.chunks
    if chunks is None:
        return "in one go"
    rounds = f"{chunks.rounds} round{'s' if chunks.rounds > 1 else ''}"
    finished = f"{chunks.num_finished_plainly} of {len(estimate.valid)} finished plainly"
    return f"{rounds}, {'certified' if chunks.certified else finished}"
