"""Faults planted in the factorization: each must be found, by the check that is there for it."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lightning_lyap.dynamics import LayerChoice
from lightning_lyap.estimator import trajectories
from lightning_lyap.qr.orthonormalize import Orthonormalization, orthonormalize
from tests.cells import F64, LAYERS, build, sequences
from tests.exposing import expose, names


def plant_factorization(
    patch: pytest.MonkeyPatch, change: Callable[[Orthonormalization], Orthonormalization]
) -> None:
    patch.setattr(trajectories, "orthonormalize", lambda basis: change(orthonormalize(basis)))


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("kind", ["tanh", "gru", "lstm"])
class TestPlantedInTheFactorization:
    def found(self, kind: str, layers: LayerChoice, expected: str, every: int = 1) -> None:
        module = build(kind, num_layers=2)
        estimate = expose(
            module, sequences(2, 7), expected, layers=layers, orthonormalize_every=every
        )
        assert names(estimate) == {expected}

    def test_other_logarithm(
        self, kind: str, layers: LayerChoice, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plant_factorization(
            monkeypatch, lambda r: r._replace(log_stretch=r.log_stretch / math.log(2))
        )
        self.found(kind, layers, "sum_rule")

    def test_one_stretch_slightly_off(
        self, kind: str, layers: LayerChoice, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        off = torch.tensor([1e-4, *[0.0] * 6], dtype=F64)

        def change(result: Orthonormalization) -> Orthonormalization:
            size = result.log_stretch.shape[1]
            return result._replace(log_stretch=result.log_stretch + off.repeat(4)[:size])

        plant_factorization(monkeypatch, change)
        self.found(kind, layers, "sum_rule")

    @pytest.mark.grid(every=5)
    @pytest.mark.parametrize("every", [1, 3])
    def test_last_block_not_counted(
        self, kind: str, layers: LayerChoice, every: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Seven steps, in blocks of three: the last one is neither a power of two nor full."""
        count = trajectories.Trajectories._count

        def planted(run: Any, result: Orthonormalization, moved: Any, counted: bool) -> None:
            if int(run.steps.max()) == 7:
                result = result._replace(log_stretch=0 * result.log_stretch)
            count(run, result, moved, counted)

        monkeypatch.setattr(trajectories.Trajectories, "_count", planted)
        self.found(kind, layers, "sum_rule", every)

    @pytest.mark.grid(every=5)
    @pytest.mark.parametrize("factor", [1 + 1e-9, 0.5])
    def test_columns_of_another_length(
        self, kind: str, layers: LayerChoice, factor: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Found in the basis itself; a large one also turns up in the stretches that follow."""
        plant_factorization(monkeypatch, lambda r: r._replace(basis=factor * r.basis))
        module = build(kind, num_layers=2)
        expose(module, sequences(2, 7), "orthogonality", layers=layers)

    def test_columns_not_orthogonal(
        self, kind: str, layers: LayerChoice, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def change(result: Orthonormalization) -> Orthonormalization:
            basis = result.basis.clone()
            basis[..., 1] = (basis[..., 1] + 1e-6 * basis[..., 0]) / (1 + 1e-12) ** 0.5
            return result._replace(basis=basis)

        plant_factorization(monkeypatch, change)
        expose(build(kind, num_layers=2), sequences(2, 7), "orthogonality", layers=layers)
