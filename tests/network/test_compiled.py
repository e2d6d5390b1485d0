"""Compiled modules are watched from outside, and what is in them in an uncompiled second run."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap.network.compiled import (
    boundaries,
    eagerly,
    is_compiled,
    twin,
    uncompiled,
    watch_calls,
)
from lightning_lyap.network.find_modules import find_recurrent_modules
from lightning_lyap.network.input_recorder import InputRecorder
from tests.compare import assert_near

EAGER: Any = {"backend": "eager"}


@pytest.fixture(autouse=True)
def _nothing_compiled() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Encoder(nn.Module):
    """A loop over a cell that counts its calls."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 4)
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, inputs: Tensor) -> Tensor:
        h = None
        for x in inputs.unbind(1):
            h = self.cell(x, h)
        self.calls += 1
        assert h is not None
        return h


class Remembering(Encoder):
    """It has a state that is no tensor, too."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen.append(inputs.shape[0])
        return super().forward(inputs)


class Counting:
    """A backend that counts what it compiles."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.graphs += 1
        return graph.forward


def holder(inner: nn.Module, how: str, **settings: Any) -> Any:
    """Put a module into another one, compiled around it or in place."""
    if how == "in place":
        inner.compile(**settings)
        return nn.ModuleDict({"part": inner})
    compiled: Any = torch.compile(inner, **settings)
    return nn.ModuleDict({"part": compiled})


HOW = pytest.mark.parametrize("how", ["around", "in place"])


@HOW
def test_the_outermost_compiled_module_is_found(how: str) -> None:
    encoder = Encoder()
    outer = nn.ModuleDict({"plain": nn.GRU(3, 4), "deep": holder(encoder, how, **EAGER)})
    around = boundaries(outer)
    outside = outer["deep"]["part"]  # type: ignore[index]
    assert is_compiled(outside)
    assert uncompiled(outside) is encoder
    assert around[encoder.cell] is around[encoder] is outside
    assert outer["plain"] not in around
    whole: Any = torch.compile(outer)
    assert set(boundaries(whole).values()) == {whole}


@HOW
def test_calls_of_a_compiled_module_are_seen_until_that_is_ended(how: str) -> None:
    outside = holder(Encoder(), how, **EAGER)["part"]
    seen: list[Any] = []
    ends = watch_calls(
        outside,
        lambda module, args, kwargs: seen.append((module, args, kwargs)),
        lambda module, args, output: seen.append(output),
    )
    x = torch.randn(2, 3, 3)
    output = outside(inputs=x)
    assert seen[0] == (outside, (), {"inputs": x})
    assert seen[1] is output
    for end in ends:
        end()
    outside(x)
    assert len(seen) == 2


@pytest.mark.grid(every=5)
@HOW
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_several_watch_one_module_and_end_in_any_order(how: str, order: list[int]) -> None:
    outside = holder(Encoder(), how, **EAGER)["part"]
    untouched = outside._compiled_call_impl
    seen: list[int] = []

    def watch(mark: int) -> list[Any]:
        return watch_calls(outside, lambda *_: seen.append(mark), lambda *_: None)

    watching = {mark: watch(mark) for mark in range(3)}
    for mark in order:
        outside(torch.randn(2, 3, 3))
        assert sorted(seen) == sorted(watching)
        seen.clear()
        for end in watching.pop(mark):
            end()
    outside(torch.randn(2, 3, 3))
    assert not seen
    assert outside._compiled_call_impl is untouched


def test_a_twin_shares_the_parameters_and_nothing_else() -> None:
    encoder = Remembering()
    copied, parts = twin(torch.compile(encoder), [encoder.cell])  # type: ignore[arg-type]
    assert parts[encoder.cell] is copied.get_submodule("cell") is not encoder.cell
    for one, other in zip(copied.parameters(), encoder.parameters(), strict=True):
        assert one is other
    copied(torch.randn(2, 3, 3))
    assert encoder.calls == 0
    assert encoder.seen == []


def test_a_twin_calls_the_hooks_of_others_and_copies_nothing_they_belong_to() -> None:
    class Owner:
        def __deepcopy__(self, memo: Any) -> None:
            raise AssertionError("copied")

        def double(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
            return 2 * output

    encoder, x = Encoder(), torch.randn(2, 3, 3)
    plain = encoder(x)
    encoder.register_forward_hook(Owner().double)
    copied, _ = twin(encoder, [])
    assert_near(copied(x), 2 * plain, 0)
    copied.register_forward_hook(Owner().double)
    assert_near(encoder(x), 2 * plain, 0)


class Careless(Encoder):
    """Draws, and changes what it is given."""

    def forward(self, inputs: Tensor) -> Tensor:
        inputs += torch.rand_like(inputs)
        return super().forward(inputs)


@HOW
def test_the_second_run_draws_nothing_and_changes_no_input(how: str) -> None:
    root, x = holder(Careless(), how, **EAGER), torch.randn(2, 3, 3)
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    for watched in (False, True):
        recorder = InputRecorder(find_recurrent_modules(root), 2, 3, root)
        given = x.clone()
        torch.manual_seed(1)
        if watched:
            recorder.start()
        output = root["part"](given)
        recorder.stop()
        seen.append((output, given, torch.get_rng_state()))
    assert len(recorder.sequences()["part.cell"].inputs) == 2
    assert all(torch.equal(one, other) for one, other in zip(*seen, strict=True))


@pytest.mark.grid(every=3)
@HOW
@pytest.mark.parametrize("watched", [False, True])
def test_nothing_is_compiled_anew_by_watching(how: str, watched: bool) -> None:
    """As many graphs, whether calls are watched or not; none of them broken."""
    backend = Counting()
    encoder = Encoder().eval()
    root = holder(encoder, how, backend=backend, fullgraph=True)
    with torch.no_grad():
        for batch in (2, 2, 3, 3):
            x = torch.randn(batch, 4, 3)
            if watched:
                with InputRecorder(find_recurrent_modules(root), 2, 4, root) as recorder:
                    root["part"](x)
                assert_near(recorder.sequences()["part.cell"].inputs, x[:2], 0)
            else:
                root["part"](x)
    assert backend.graphs == 2  # for any number of rows, from the second on
    assert encoder.calls == 4


def test_watching_ends_by_itself_and_runs_nothing_again() -> None:
    encoder = Encoder()
    root, runs = holder(encoder, "around", **EAGER), []
    encoder.cell.register_forward_pre_hook(lambda *_: runs.append(1))
    with torch.no_grad(), InputRecorder({"cell": encoder.cell}, 2, 2, root) as recorder:
        for _ in range(3):
            twin_runs, before = len(runs), recorder._recordings["cell"].is_complete
            root["part"](torch.randn(2, 3, 3))
            assert before or len(runs) > twin_runs
    assert recorder.sequences()["cell"].inputs.shape == (2, 2, 3)


def test_an_error_in_the_second_run_never_reaches_the_first() -> None:
    class Uncopied(Encoder):
        def __deepcopy__(self, memo: Any) -> None:
            raise ValueError("not to be copied")

    encoder = Uncopied()
    root = holder(encoder, "around", **EAGER)
    with torch.no_grad(), InputRecorder({"cell": encoder.cell}, 2, 2, root) as recorder:
        root["part"](torch.randn(2, 3, 3))
    assert encoder.calls == 1
    with pytest.raises(RuntimeError, match="not to be copied"):
        recorder.sequences()


def test_an_error_in_the_second_run_costs_nothing_that_was_seen_before() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.whole = nn.GRU(3, 4, batch_first=True)
            self.part = nn.GRU(3, 4, batch_first=True)

        def forward(self, x: Tensor, note: Any = None) -> Any:
            return self.whole(x)[0], self.part(x[:1])[0]

    class Uncopied:
        def __deepcopy__(self, memo: Any) -> None:
            raise ValueError("not to be copied")

    pair, x = Pair(), torch.randn(2, 3, 3)
    root = holder(pair, "around", **EAGER)
    watched = {"whole": pair.whole, "part": pair.part}
    with torch.no_grad(), InputRecorder(watched, 2, 3, root) as recorder:
        root["part"](x)
        root["part"](x, Uncopied())
    sequences, failures = recorder.recorded()
    assert_near(sequences["whole"].inputs, x, 0)
    assert list(failures) == ["part"]
    assert "not to be copied" in str(failures["part"])


def test_a_cell_in_a_compiled_function_is_an_error_that_names_the_remedy() -> None:
    """The function is compiled whole, with the hooks in place and without."""
    encoder = Encoder()

    @torch.compile(backend="eager", fullgraph=True)
    def run(x: Tensor) -> Any:
        return encoder(x)

    with torch.no_grad(), InputRecorder({"cell": encoder.cell}, 2, 2, encoder) as recorder:
        run(torch.randn(2, 3, 3))
    with pytest.raises(RuntimeError, match=r"inside a compiled function.* `lyapunov_seq"):
        recorder.sequences()


def test_torchs_recurrent_modules_are_seen_in_compiled_functions_too() -> None:
    """Torch calls them from outside of what it compiles."""
    rnn, x = nn.GRU(3, 4, batch_first=True), torch.randn(2, 3, 3)

    @torch.compile(backend="eager")
    def run(x: Tensor) -> Any:
        return rnn(2 * x)[0].sum()

    with torch.no_grad(), InputRecorder({"rnn": rnn}, 2, 3, nn.Sequential(rnn)) as recorder:
        run(x)
    assert_near(recorder.sequences()["rnn"].inputs, 2 * x, 0)


def test_eagerly_nothing_is_compiled() -> None:
    backend = Counting()
    run: Any = torch.compile(torch.sin, backend=backend)
    with eagerly():
        run(torch.zeros(2))
    assert backend.graphs == 0
    run(torch.zeros(2))
    assert backend.graphs == 1
