"""Where the dense tangent map overtakes the matrix-free one: `python benchmarks/tangent_maps.py`.

For each number of gates and of tangent vectors both ways are timed in turn, in one run; the table
gives the median of the ratio matrix-free / dense. Above 1 the dense way is faster. The switch of
`lightning_lyap.dynamics.gates` is marked by a star where it chooses dense.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from lightning_lyap.dynamics.gates import GateWeights, mix_dense, mix_matrix_free, prefers_dense

VECTORS = (1, 2, 4, 8, 12, 16, 24, 32, 64, 128)


def seconds(call: Callable[[], Tensor]) -> float:
    """Return the wall time of one call.

    Args:
        call: What to time.

    Returns:
        Seconds.
    """
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def ratio(num_gates: int, size: int, num_vectors: int, batch_size: int, repeats: int) -> float:
    """Return the median ratio of the times of the matrix-free and the dense way.

    Args:
        num_gates: G.
        size: N.
        num_vectors: K.
        batch_size: B.
        repeats: How often to time both.

    Returns:
        Above 1 where dense is faster.

    Raises:
        RuntimeError: If the two ways disagree.
    """
    weight = GateWeights(torch.randn(num_gates * size, size) / size**0.5, num_gates)[:]
    slopes = torch.rand(batch_size, num_gates, size)
    basis = torch.linalg.qr(torch.randn(batch_size, size, num_vectors)).Q
    one, other = mix_matrix_free(weight, slopes, basis), mix_dense(weight, slopes, basis)
    if not torch.allclose(one, other, atol=1e-4):
        raise RuntimeError("Expected both ways to agree, but they do not.")
    return statistics.median(
        seconds(lambda: mix_matrix_free(weight, slopes, basis))
        / seconds(lambda: mix_dense(weight, slopes, basis))
        for _ in range(repeats)
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    print("time matrix-free / time dense; * where dense is chosen")
    print("gates  size " + "".join(f"{f'K={k}':>9}" for k in VECTORS))
    for num_gates in (1, 3, 4):
        for size in (128, 256, 512):
            cells = []
            for count in VECTORS:
                value = ratio(num_gates, size, count, arguments.batch_size, arguments.repeats)
                star = "*" if prefers_dense(num_gates, size, count) else " "
                cells.append(f"{value:8.2f}{star}")
            print(f"{num_gates:5} {size:5} " + "".join(cells))


if __name__ == "__main__":
    main()
