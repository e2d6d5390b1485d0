"""How long chunks are, how many sequences run at once, and which angles between chunks may pass."""

from dataclasses import dataclass

import torch

from lightning_lyap._device import free_bytes
from lightning_lyap.dynamics.base import DynamicalSystem
from lightning_lyap.estimator.batching import MEMORY_FRACTION, bytes_per_sequence
from lightning_lyap.estimator.schedule import TOLERANCES
from lightning_lyap.estimator.trajectories import Start

# What angles between chunks may do to exponents, as a part of what `AutoInterval` promises: 1e-4
# nats per step in float32, 1e-7 in float64. Bases an angle a apart stretch by about ``c a`` nats
# more or less until they have forgotten it: over chunks of l steps that moves an exponent by
# ``c a / l``. If they never forget, the angles of C chunks add up, to ``c a C / (2 l)``. So an
# angle of that size may pass, or ``2 l / C`` of it where that is less. c is about one over the sine
# of the angles between directions of different exponents, 1 for normal Jacobians: the promise is
# kept up to 10. Angles that rounding alone makes between two bases pass in any case: a plain run
# has them at every factorization.
ANGLE_FRACTION = 0.1
# Up to which size of ``B N^3`` products of Jacobians cost less than they save: a core of a CPU
# takes as long for them as for a plain run with K = 1 from 8e6 on (GRU and LSTM, float32). A GPU
# computes more in the time of a step; how much more was not measured.
MOST_WORK = {"cpu": 4e6, "cuda": 1e8}
# How often states, drive and log-stretches of all steps are kept at most, copies for the rounds and
# what waits to be checked included.
STATE_COPIES, DRIVE_COPIES, STRETCH_COPIES = 6, 4, 5


def chunk_steps(num_steps: int, count: int, every: int) -> int:
    """Choose the length of chunks: equal, and made up of whole blocks.

    Args:
        num_steps: Steps counted of the longest sequence.
        count: Chunks asked for.
        every: Steps between factorizations.

    Returns:
        Steps: the fewest with which there are no more chunks than that.

    Example:
        >>> chunk_steps(100, 3, 1), chunk_steps(100, 3, 10), chunk_steps(100, 1000, 10)
        (34, 40, 10)
    """
    return -(-num_steps // (count * every)) * every


@dataclass(frozen=True)
class ChunkPlan:
    """How to run in chunks.

    Attributes:
        every: Steps between factorizations.
        steps: Of a chunk.
        products: Whether products of Jacobians give the starts.
        angle: What may be left between the end of a chunk and the start of the next, radians.
    """

    every: int
    steps: int
    products: bool
    angle: float


def plan_chunks(
    system: DynamicalSystem, start: Start, warmup_steps: int, every: int, count: int
) -> tuple[int | None, ChunkPlan]:
    """Choose how to run in chunks, and how many sequences at the same time, by cost and memory.

    Args:
        system: The dynamics.
        start: Where all sequences start.
        warmup_steps: Steps that are not counted.
        every: Steps between factorizations.
        count: Chunks asked for.

    Returns:
        Sequences, None for any number; and the plan.
    """
    drive, state, basis, ends = start
    num_steps = int(ends.max()) - warmup_steps
    batch_size, size, vectors = basis.shape
    width = size // system.num_blocks
    products = batch_size * size * width**2 <= MOST_WORK.get(basis.device.type, 0)
    moved, driving = sum(tensor[0].numel() for tensor in state), drive[:1, :1].numel()
    stretches = -(-num_steps // every) * vectors * system.num_blocks * torch.float64.itemsize
    kept = num_steps * (STATE_COPIES * moved + DRIVE_COPIES * driving) * system.dtype.itemsize
    columns = width if products else vectors
    most, count = chunks_that_fit(system, columns, kept + STRETCH_COPIES * stretches, count)
    steps = chunk_steps(num_steps, count, every)
    part = min(1.0, 2 * steps**2 / num_steps)
    rounded = torch.finfo(system.dtype).eps * (width * vectors) ** 0.5
    angle = max(ANGLE_FRACTION * TOLERANCES[system.dtype] * part, rounded)
    return most, ChunkPlan(every, steps, products, angle)


def chunks_that_fit(
    system: DynamicalSystem, num_vectors: int, over_time: int, count: int
) -> tuple[int | None, int]:
    """Estimate how many sequences, cut into chunks that run side by side, fit into the memory.

    Args:
        system: The dynamics.
        num_vectors: k, tangent vectors of each block.
        over_time: Bytes for each sequence, however many chunks: what is kept of every step.
        count: Chunks of a sequence asked for.

    Returns:
        Sequences, at least 1, None where the free memory is not known; and chunks: fewer than asked
        for where those of a single sequence don't fit.
    """
    free = free_bytes(system.device)
    if free is None:
        return None, count
    room, each = MEMORY_FRACTION * free, bytes_per_sequence(system, num_vectors)
    fitting = max(1, min(count, int((room - over_time) / each)))
    return max(1, int(room / (fitting * each + over_time))), fitting
