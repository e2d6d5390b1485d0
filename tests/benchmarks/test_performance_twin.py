"""The exact twin of the performance benchmark, and how far an estimate is from it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lightning_lyap.dynamics import LayerChoice, StateChoice
from lightning_lyap.qr.orthonormalize import random_orthonormal_basis
from performance import overhead
from performance.networks import characters, network
from performance.twin import Twin, largest_difference
from tests.plain import plain_spectrum
from tests.toy_sections import CPU

SYSTEMS: list[tuple[str, int, StateChoice, LayerChoice, int | None]] = [
    ("LSTM", 1, "hidden", "joint", None),
    ("LSTM", 1, "hidden", "joint", 2),
    ("LSTM", 1, "full", "joint", None),
    ("LSTM", 2, "full", "joint", 3),
    ("LSTM", 2, "hidden", "union", None),
    ("GRU", 2, "full", "joint", None),
    ("GRU", 2, "full", "union", None),
    ("RNN", 1, "full", "joint", None),
]


@pytest.mark.parametrize(("kind", "stack", "state", "layers", "count"), SYSTEMS)
def test_the_twin_is_the_package_in_float64(
    kind: str, stack: int, state: StateChoice, layers: LayerChoice, count: int | None
) -> None:
    module, inputs = network(kind, 4, stack, features=3).double(), characters(2, 6, 3).double()
    size = 4 * stack * (2 if (kind, state) == ("LSTM", "full") else 1)
    basis = None if count is None else random_orthonormal_basis(size, count, 5, torch.float64, CPU)
    start = None if basis is None else basis.expand(2, -1, -1)
    estimate = plain_spectrum(module, inputs, initial_basis=start, state=state, layers=layers)
    blocks = stack if layers == "union" else 1
    exact = Twin(module, state).exponents(inputs, basis, blocks)
    assert exact.shape == estimate.per_sequence.shape
    assert largest_difference(estimate, exact) < 1e-10


class TestDifference:
    @pytest.fixture
    def exact(self) -> Tensor:
        return Twin(network("GRU", 4)).exponents(characters(2, 5))

    def test_a_planted_one_is_seen(self, exact: Tensor) -> None:
        estimate = plain_spectrum(network("GRU", 4), characters(2, 5))
        exact[1, 2] += 0.5
        assert largest_difference(estimate, exact) == pytest.approx(0.5, abs=1e-4)

    def test_what_is_not_resolved_is_left_out(self, exact: Tensor) -> None:
        estimate = plain_spectrum(network("GRU", 4), characters(2, 5))
        exact[1, 2] += 0.5
        lost = replace(estimate, resolved=estimate.order != 2)
        assert largest_difference(lost, exact) < 1e-4
        with pytest.raises(ValueError, match="Expected exponents that are resolved"):
            largest_difference(replace(estimate, resolved=estimate.order > 9), exact)


def test_the_bare_loop_has_the_products_of_the_spectrum() -> None:
    module, inputs = network("GRU", 5), characters(2, overhead.KEPT)
    found = overhead.bare_loop(overhead.jacobians(module, inputs), overhead.KEPT)
    torch.testing.assert_close(found, Twin(module).exponents(inputs), atol=1e-5, rtol=0)
