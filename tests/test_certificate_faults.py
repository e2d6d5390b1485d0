"""Faults planted in the computation: each must be found, by the check that is there for it."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import lyapunov_spectrum, trajectories
from lightning_lyap.dynamics import LayerChoice, UncoupledLayers, torch_cells, torch_modules
from lightning_lyap.dynamics.base import LayerTangent, stack_rows
from lightning_lyap.dynamics.gates import GateWeights
from lightning_lyap.dynamics.gru import GRULayer
from lightning_lyap.dynamics.lstm import LSTMLayer
from lightning_lyap.dynamics.rnn import RNNLayer
from lightning_lyap.dynamics.stacked import StackedRecurrence
from lightning_lyap.orthonormal import Orthonormalization, orthonormalize
from tests.cells import INPUT_SIZE, KINDS, build, random_state
from tests.exposing import expose, names

F64 = torch.float64


UNION: tuple[LayerChoice, ...] = ("joint", "union")


def sequences(batch: int, steps: int, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(batch, steps, INPUT_SIZE, dtype=dtype)


def plant_step(patch: pytest.MonkeyPatch, kind: type[Any], faulty: Callable[[Any], Any]) -> None:
    """Let a layer take its state from its own step, its tangent map from a faulty layer's."""
    step = kind.step

    def planted(layer: Any, projected: Tensor, state: Any) -> Any:
        return step(layer, projected, state)[0], step(faulty(layer), projected, state)[1]

    patch.setattr(kind, "step", planted)


def plant_tangent(
    patch: pytest.MonkeyPatch, kind: type[Any], change: Callable[..., LayerTangent]
) -> None:
    """Change the tangent map of a layer, given (layer, projected, state, right map)."""
    step = kind.step

    def planted(layer: Any, projected: Tensor, state: Any) -> Any:
        new, tangent = step(layer, projected, state)
        return new, change(layer, projected, state, tangent)

    patch.setattr(kind, "step", planted)


@pytest.mark.parametrize("layers", UNION)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
class TestPlantedInTheTangentMap:
    """Found by automatic differentiation of the states, whether the spectrum is complete or not."""

    def found(self, kind: str, dtype: torch.dtype, layers: LayerChoice, **settings: Any) -> None:
        module = build(kind, num_layers=2).to(dtype)
        x = sequences(2, 6, dtype)
        expose(module, x, "tangent_map", layers=layers, **settings)
        expose(module, x, "tangent_map", layers=layers, num_exponents=2, **settings)

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

        monkeypatch.setattr(owner, "step", planted)
        self.found(kind, dtype, layers, state=state)

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

        plant_tangent(monkeypatch, layer, change)
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

        def planted(own: Any, projected: Tensor, given: Any) -> Any:
            new, tangent = step(own, projected, given)

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


@pytest.mark.parametrize(("kind", "state"), KINDS)
def test_planted_a_dropped_block_between_layers(
    kind: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The diagonal blocks alone: the determinant is right, so only the derivative can tell."""

    def planted(system: Any, drive: Tensor, given: Any) -> Any:
        new, tangents = system.step_layers(drive, given)
        sizes = [layer.tangent_size for layer in system.layers]
        return new, lambda basis: stack_rows(
            [own(None, part) for own, part in zip(tangents, basis.split(sizes, 1), strict=True)]
        )

    monkeypatch.setattr(StackedRecurrence, "step", planted)
    estimate = expose(build(kind, num_layers=2), sequences(2, 6), "tangent_map", state=state)
    assert names(estimate) == {"tangent_map"}


@pytest.mark.parametrize("layers", UNION)
@pytest.mark.parametrize(
    ("kind", "order"), [("lstm", [1, 0, 2, 3]), ("lstm", [0, 1, 3, 2]), ("gru", [1, 0, 2])]
)
@pytest.mark.parametrize("cell", [False, True])
def test_planted_weights_read_in_the_wrong_order(
    kind: str, order: list[int], cell: bool, layers: LayerChoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All consistent but for the states: another network is measured."""

    def planted(module: Any, suffix: str, state: Any, dtype: torch.dtype) -> Any:
        layer: Any = read(module, suffix, state, dtype)
        ih, hh = (
            GateWeights(weight.rows[order].flatten(0, 1), len(order))
            for weight in (layer.weight_ih, layer.weight_hh)
        )
        return replace(layer, weight_ih=ih, weight_hh=hh)

    read = torch_modules.read_layer
    for room in (torch_modules, torch_cells):
        monkeypatch.setattr(room, "read_layer", planted)
    cells: dict[str, Any] = {"lstm": nn.LSTMCell, "gru": nn.GRUCell}
    module = cells[kind](INPUT_SIZE, 5).double() if cell else build(kind, num_layers=2)
    estimate = expose(module, sequences(2, 6), "states", layers=layers)
    assert names(estimate) == {"states"}


def plant_factorization(
    patch: pytest.MonkeyPatch, change: Callable[[Orthonormalization], Orthonormalization]
) -> None:
    patch.setattr(trajectories, "orthonormalize", lambda basis: change(orthonormalize(basis)))


@pytest.mark.parametrize("layers", UNION)
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

    @pytest.mark.parametrize("every", [1, 3])
    def test_last_block_not_counted(
        self, kind: str, layers: LayerChoice, every: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Seven steps, in blocks of three: the last one is neither a power of two nor full."""
        count = trajectories.Trajectories._count

        def planted(run: Any, result: Orthonormalization, moved: Any) -> None:
            if int(run.steps.max()) == 7:
                result = result._replace(log_stretch=0 * result.log_stretch)
            count(run, result, moved)

        monkeypatch.setattr(trajectories.Trajectories, "_count", planted)
        self.found(kind, layers, "sum_rule", every)

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


class HalvedRNN(nn.RNN):
    """A network with another step than torch's."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        output, h = super().forward(input, hx)
        return output, h / 2


class HalvedGRU(nn.GRU):
    """A network with another step than torch's."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        output, h = super().forward(input, hx)
        return output, h / 2


class BackwardLSTM(nn.LSTM):
    """A network that reads its sequences from their end."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        return super().forward(input.flip(1 if self.batch_first else 0), hx)


@pytest.mark.parametrize("layers", UNION)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", [HalvedRNN, HalvedGRU, BackwardLSTM])
def test_subclass_with_a_forward_pass_of_its_own(
    kind: Any, batch_first: bool, layers: LayerChoice
) -> None:
    module = kind(INPUT_SIZE, 5, 2, batch_first=batch_first)
    estimate = expose(module, sequences(2, 6, torch.float32), "states", layers=layers)
    assert names(estimate) == {"states"}


def test_lost_sequence_hides_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two starts from NaN: the other one's tangent map is checked."""
    plant_tangent(monkeypatch, GRULayer, lambda own, x, s, tangent: lambda d, q: 2 * tangent(d, q))
    start = torch.zeros(1, 2, 7, dtype=F64)
    start[0, 0] = math.nan
    with (
        pytest.warns(RuntimeWarning, match="fails its certificate"),
        pytest.warns(RuntimeWarning, match="1 of 2 sequences did not stay finite"),
    ):
        estimate = lyapunov_spectrum(build("gru"), sequences(2, 6), initial_state=start)
    assert names(estimate) == {"tangent_map", "sum_rule"}
