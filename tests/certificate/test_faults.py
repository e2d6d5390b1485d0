"""Faults planted in the tangent map: each must be found, by the check that is there for it."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_lyap.dynamics import LayerChoice, UncoupledLayers
from lightning_lyap.dynamics.base import LayerTangent
from lightning_lyap.dynamics.gates import Gates
from lightning_lyap.dynamics.gru import GRULayer
from lightning_lyap.dynamics.lstm import LSTMLayer
from lightning_lyap.dynamics.rnn import RNNLayer
from lightning_lyap.dynamics.stacked import StackedRecurrence
from lightning_lyap.qr.orthonormalize import stack_rows
from tests.cells import F64, KINDS, LAYERS, build, multiply_weights, random_state, sequences
from tests.exposing import expose, names
from tests.plain import plain_spectrum


def plant_map(
    patch: pytest.MonkeyPatch, owner: type[Any], step: Callable[[Any, Tensor, Any], Any]
) -> None:
    """Let a system take steps of another kind, of its state alone or with a basis at once."""

    def step_with_basis(system: Any, drive: Tensor, state: Any, basis: Tensor) -> Any:
        new, push = step(system, drive, state)
        return new, push(basis)

    patch.setattr(owner, "step", step)
    patch.setattr(owner, "step_with_basis", step_with_basis)


def plant_step(patch: pytest.MonkeyPatch, kind: type[Any], faulty: Callable[[Any], Any]) -> None:
    """Let a layer take its state from its own step, its tangent map from a faulty layer's."""
    step = kind.step

    def planted(layer: Any, projected: Tensor, state: Any, moving: Any = None) -> Any:
        return step(layer, projected, state)[0], step(faulty(layer), projected, state, moving)[1]

    patch.setattr(kind, "step", planted)


def plant_tangent(
    patch: pytest.MonkeyPatch, kind: type[Any], change: Callable[..., LayerTangent]
) -> None:
    """Change the tangent map of a layer, given (layer, projected, state, right map)."""
    step = kind.step

    def planted(layer: Any, projected: Tensor, state: Any, moving: Any = None) -> Any:
        new, tangent = step(layer, projected, state, moving)
        return new, change(layer, projected, state, tangent)

    patch.setattr(kind, "step", planted)


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
class TestPlantedInTheTangentMap:
    """Found by automatic differentiation of the states, whether the spectrum is complete or not."""

    def found(self, kind: str, dtype: torch.dtype, layers: LayerChoice, **settings: Any) -> None:
        module = build(kind, num_layers=2).to(dtype)
        x = sequences(2, 6, dtype)
        expose(module, x, "tangent_map", layers=layers, **settings)
        expose(module, x, "tangent_map", layers=layers, num_exponents=2, **settings)

    @pytest.mark.grid(every=5)
    @pytest.mark.parametrize(("kind", "state"), KINDS)
    def test_transposed(
        self,
        kind: str,
        state: str,
        dtype: torch.dtype,
        layers: LayerChoice,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The transposed map by what the right one does to the unit vectors."""
        owner = UncoupledLayers if layers == "union" else StackedRecurrence
        step: Any = owner.step

        def planted(system: Any, drive: Tensor, given: Any) -> Any:
            new, push = step(system, drive, given)
            blocks = getattr(system, "num_blocks", 1)
            size = system.tangent_size // blocks
            unit = torch.eye(size, dtype=dtype).repeat(blocks, 1).expand(drive.shape[0], -1, -1)
            maps = push(unit).chunk(blocks, dim=1)
            return new, lambda basis: stack_rows(
                [m.mT @ b for m, b in zip(maps, basis.chunk(blocks, dim=1), strict=True)]
            )

        plant_map(monkeypatch, owner, planted)
        self.found(kind, dtype, layers, state=state)

    @pytest.mark.grid(every=5)
    @pytest.mark.parametrize(
        ("kind", "layer", "order"),
        [
            ("lstm", LSTMLayer, [1, 0, 2, 3]),
            ("lstm", LSTMLayer, [0, 1, 3, 2]),
            ("gru", GRULayer, [1, 0, 2]),
        ],
        ids=["i-f", "o-g", "r-z"],
    )
    def test_gates_swapped(
        self,
        kind: str,
        layer: type[Any],
        order: list[int],
        dtype: torch.dtype,
        layers: LayerChoice,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Only in the tangents' products with the weights: the states stay right."""

        def change(own: Any, projected: Tensor, state: Any, tangent: LayerTangent) -> LayerTangent:
            def swapped(d_input: Tensor | None, d_state: Tensor) -> Tensor:
                weight = own.weight_hh.rows.clone()
                own.weight_hh.rows.copy_(weight[order])
                try:
                    return tangent(d_input, d_state)
                finally:
                    own.weight_hh.rows.copy_(weight)

            return swapped

        along = Gates.applied_along

        def swapped_along(gates: Gates, states: Tensor, tangent: Any) -> Any:
            recurrent, products = along(gates, states, tangent)
            return recurrent, None if products is None else products[:, :, order]

        plant_tangent(monkeypatch, layer, change)
        monkeypatch.setattr(Gates, "applied_along", swapped_along)
        self.found(kind, dtype, layers)

    def test_no_diagonal_of_the_update_gate(
        self, dtype: torch.dtype, layers: LayerChoice, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def change(own: Any, projected: Tensor, state: Any, tangent: LayerTangent) -> LayerTangent:
            recurrent = state[0] @ own.weight_hh.rows[1].mT
            size = own.output_size
            bias = own.bias_hh[size : 2 * size]
            z = torch.sigmoid(projected[:, size : 2 * size] + recurrent + bias).unsqueeze(-1)
            return lambda d_input, d_state: tangent(d_input, d_state) - z * d_state

        plant_tangent(monkeypatch, GRULayer, change)
        self.found("gru", dtype, layers)

    def test_no_part_of_the_cell_state(
        self, dtype: torch.dtype, layers: LayerChoice, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def change(own: Any, projected: Tensor, state: Any, tangent: LayerTangent) -> LayerTangent:
            def dropped(d_input: Tensor | None, d_state: Tensor) -> Tensor:
                keep = torch.arange(own.tangent_size) < own.output_size
                return tangent(d_input, d_state * keep[:, None])

            return dropped

        plant_tangent(monkeypatch, LSTMLayer, change)
        self.found("lstm", dtype, layers)

    @pytest.mark.parametrize("state", ["full", "hidden"])
    def test_slopes_of_the_old_cell_state(
        self, state: str, dtype: torch.dtype, layers: LayerChoice, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """``o (1 - tanh^2 c)`` in place of c': with the new state's slope hidden from the map."""
        step, slope = LSTMLayer.step, torch.tanh

        def planted(own: Any, projected: Tensor, given: Any, moving: Any = None) -> Any:
            new, tangent = step(own, projected, given, moving)

            def wrong(*tangents: Any) -> Tensor:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(
                        "lightning_lyap.dynamics.lstm.tanh_slope",
                        lambda a: 1 - slope(given[1] if torch.equal(a, new[1]) else a).square(),
                    )
                    return tangent(*tangents)

            return new, wrong

        monkeypatch.setattr(LSTMLayer, "step", planted)
        module = build("lstm", num_layers=2).to(dtype)
        given = random_state(module, 2)
        self.found("lstm", dtype, layers, state=state, initial_state=given)

    def test_relu_taken_for_tanh(
        self, dtype: torch.dtype, layers: LayerChoice, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plant_step(monkeypatch, RNNLayer, lambda layer: replace(layer, nonlinearity="tanh"))
        self.found("relu", dtype, layers)


@pytest.mark.grid(every=5)
@pytest.mark.parametrize("count", [2, 8, None])
@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize(("kind", "state"), [("relu", "full"), ("gru", "full"), ("lstm", "hidden")])
def test_planted_in_products_with_several_vectors(
    kind: str, state: str, layers: LayerChoice, count: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few, many and all are multiplied in ways of their own, none of which a single one takes."""
    owner = UncoupledLayers if layers == "union" else StackedRecurrence
    own: Any = owner.step_with_basis

    def planted(system: Any, drive: Tensor, given: Any, basis: Any) -> Any:
        new, moved = own(system, drive, given, basis)
        wrong = torch.arange(basis.shape[-1]) == max(1, basis.shape[-1] - 1)
        moving = (given[0] != 0).any(1)[:, None, None]  # not at the start, where terms vanish
        return new, torch.where(wrong & moving, 1.05 * moved, moved)

    monkeypatch.setattr(owner, "step_with_basis", planted)
    module = build(kind, num_layers=2, hidden_size=9).float()
    x = sequences(3, 6, torch.float32)
    expose(module, x, "tangent_map", layers=layers, state=state, num_exponents=count)


@pytest.mark.grid(every=3)
@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("kind", ["tanh", "relu", "gru", "lstm", "projected"])
def test_planted_in_states_that_vectors_go_along_with(
    kind: str, layers: LayerChoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module's own forward pass is compared with states that go alone."""
    along = Gates.applied_along

    def planted(gates: Gates, states: Tensor, tangent: Any) -> Any:
        recurrent, products = along(gates, states, tangent)
        return (recurrent if products is None else 1.01 * recurrent), products

    monkeypatch.setattr(Gates, "applied_along", planted)
    module = multiply_weights(build(kind, num_layers=2), 0.5).float()
    x = sequences(2, 20, torch.float32)
    expose(module, x, "tangent_map", layers=layers, num_exponents=1)


@pytest.mark.parametrize(("kind", "state"), KINDS)
def test_planted_a_dropped_block_between_layers(
    kind: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The diagonal blocks alone: the determinant is right, so only the derivative can tell."""

    def planted(system: Any, drive: Tensor, given: Any) -> Any:
        new, tangents = system._step_layers(drive, given)
        sizes = [layer.tangent_size for layer in system.layers]
        return new, lambda basis: stack_rows(
            [own(None, part) for own, part in zip(tangents, basis.split(sizes, 1), strict=True)]
        )

    plant_map(monkeypatch, StackedRecurrence, planted)
    estimate = expose(build(kind, num_layers=2), sequences(2, 6), "tangent_map", state=state)
    assert names(estimate) == {"tangent_map"}


def test_lost_sequence_hides_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two starts from NaN: the other one's tangent map is checked."""
    plant_tangent(monkeypatch, GRULayer, lambda own, x, s, tangent: lambda d, q: 2 * tangent(d, q))
    start = torch.zeros(1, 2, 7, dtype=F64)
    start[0, 0] = math.nan
    with (
        pytest.warns(RuntimeWarning, match="fails its certificate"),
        pytest.warns(RuntimeWarning, match="1 of 2 sequences did not stay finite"),
    ):
        estimate = plain_spectrum(build("gru"), sequences(2, 6), initial_state=start)
    assert names(estimate) == {"tangent_map", "sum_rule"}
