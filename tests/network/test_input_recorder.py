"""Recurrent modules are found by name, and what drives them is recorded as it is."""

import gc
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_sequence

from lightning_lyap import lyapunov_spectrum
from lightning_lyap.network.find_modules import find_recurrent_modules
from lightning_lyap.network.input_recorder import InputRecorder
from lightning_lyap.network.sequences import CallRecording, DrivingSequences
from tests.cells import F64, INPUT_SIZE, build, random_state, sequences
from tests.compare import assert_near

KINDS = ("tanh", "gru", "lstm")


class Holder(nn.Module):
    def __init__(self, **modules: Any) -> None:
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)


def record(
    module: nn.RNNBase, *calls: Callable[[], Any], num_sequences: int = 10, num_steps: int = 100
) -> DrivingSequences:
    """Record some calls of a module."""
    with InputRecorder({"rnn": module}, num_sequences, num_steps) as recorder:
        for call in calls:
            call()
    return recorder.sequences()["rnn"]


def spectrum_of(module: nn.RNNBase, recorded: DrivingSequences) -> Tensor:
    return lyapunov_spectrum(
        module,
        recorded.inputs,
        initial_state=recorded.initial_state,
        lengths=recorded.lengths,
    ).exponents


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_first", [True, False])
def test_sequences_are_recorded_batch_first(kind: str, batch_first: bool) -> None:
    module, x = build(kind, batch_first=batch_first), sequences(4, 6)
    recorded = record(module, lambda: module(x if batch_first else x.transpose(0, 1)))
    assert_near(recorded.inputs, x, 0)
    assert recorded.lengths.tolist() == [6] * 4
    assert recorded.lengths.dtype == torch.int64
    assert recorded.initial_state is None


@pytest.mark.parametrize("batch_first", [True, False])
def test_an_unbatched_sequence_counts_as_one(batch_first: bool) -> None:
    module, x = build("lstm", num_layers=2, batch_first=batch_first), sequences(1, 6)
    h, c = torch.randn(2, 2, 7, dtype=F64)
    recorded = record(module, lambda: module(x[0], (h, c)))
    assert_near(recorded.inputs, x, 0)
    assert recorded.initial_state is not None
    assert_near(recorded.initial_state[0], h[:, None], 0)
    assert_near(recorded.initial_state[1], c[:, None], 0)


def packed(x: Tensor, lengths: list[int], how: str) -> PackedSequence:
    if how == "list":
        parts = [row[:length] for row, length in zip(x, lengths, strict=True)]
        return pack_sequence(parts, enforce_sorted=False)
    given = x if how == "batch_first" else x.transpose(0, 1)
    return pack_padded_sequence(given, torch.tensor(lengths), how == "batch_first", False)


@pytest.mark.parametrize("how", ["batch_first", "time_first", "list"])
@pytest.mark.parametrize("kind", KINDS)
def test_packed_sequences_of_unsorted_lengths(kind: str, how: str) -> None:
    module, x, lengths = build(kind, num_layers=2), sequences(4, 7), [3, 7, 1, 5]
    state = random_state(module, 4)
    recorded = record(module, lambda: module(packed(x, lengths, how), state))
    assert recorded.lengths.tolist() == lengths
    for row, expected, length in zip(recorded.inputs, x, lengths, strict=True):
        assert_near(row[:length], expected[:length], 0)
        assert not row[length:].any()
    expected_state = lyapunov_spectrum(module, x, initial_state=state, lengths=lengths)
    assert_near(spectrum_of(module, recorded), expected_state.exponents, 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_initial_states_are_recorded_in_the_form_they_were_given(kind: str) -> None:
    module, x = build(kind, num_layers=2), sequences(3, 6)
    state = random_state(module, 3)
    recorded = record(module, lambda: module(x, state))
    assert type(recorded.initial_state) is type(state)
    torch.testing.assert_close(recorded.initial_state, state, atol=0, rtol=0)


def test_projected_states_of_two_sizes() -> None:
    module, x = build("projected", num_layers=2), sequences(3, 6)
    state = random_state(module, 3)
    recorded = record(module, lambda: module(x, state))
    torch.testing.assert_close(recorded.initial_state, state, atol=0, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_without_a_state_starts_at_zero_among_others_with_one(kind: str) -> None:
    module, x = build(kind), sequences(5, 6)
    state = random_state(module, 2)
    recorded = record(
        module,
        lambda: module(x[:2]),
        lambda: module(x[2:4], state),
        lambda: module(x[4:], None),
    )
    tensors = [state] if isinstance(state, Tensor) else list(state)
    given = recorded.initial_state
    assert given is not None
    got = [given] if isinstance(given, Tensor) else list(given)
    for one, expected in zip(got, tensors, strict=True):
        assert_near(one[:, 2:4], expected, 0)
        assert not one[:, [0, 1, 4]].any()
    assert_near(recorded.inputs, x, 0)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_arguments_by_keyword(kind: str) -> None:
    module, x = build(kind), sequences(2, 6)
    state = random_state(module, 2)
    for call in (lambda: module(input=x, hx=state), lambda: module(x, hx=state)):
        recorded = record(module, call)
        assert_near(recorded.inputs, x, 0)
        torch.testing.assert_close(recorded.initial_state, state, atol=0, rtol=0)
    assert record(module, lambda: module(input=x)).initial_state is None


def test_counts_over_calls_and_truncates_to_the_steps_wanted() -> None:
    module, x = build("gru"), sequences(7, 9)
    state = random_state(module, 3)
    assert isinstance(state, Tensor)
    recorded = record(
        module,
        lambda: module(x[:3], state),
        lambda: module(x[3:6, :2]),
        lambda: module(x[6:]),
        num_sequences=5,
        num_steps=4,
    )
    assert recorded.inputs.shape == (5, 4, INPUT_SIZE)
    assert recorded.lengths.tolist() == [4, 4, 4, 2, 2]
    assert_near(recorded.inputs[:3], x[:3, :4], 0)
    assert_near(recorded.inputs[3:, :2], x[3:5, :2], 0)
    assert isinstance(recorded.initial_state, Tensor)
    assert_near(recorded.initial_state[:, :3], state, 0)


def test_fewer_sequences_than_wanted_are_taken_as_they_are() -> None:
    module, x = build("gru"), sequences(2, 3)
    assert len(record(module, lambda: module(x)).inputs) == 2


def test_copies_are_kept() -> None:
    module, x = build("gru"), sequences(2, 6).requires_grad_()
    state = random_state(module, 2)
    assert isinstance(state, Tensor)
    with InputRecorder({"rnn": module}, 2, 6) as recorder:
        module(x, state)
    inputs, initial = x.detach().clone(), state.clone()
    with torch.no_grad():
        x.zero_()
        state.zero_()
    recorded = recorder.sequences()["rnn"]
    assert_near(recorded.inputs, inputs, 0)
    assert not recorded.inputs.requires_grad
    assert recorded.inputs.grad_fn is None
    assert isinstance(recorded.initial_state, Tensor)
    assert_near(recorded.initial_state, initial, 0)
    recording = recorder._recordings["rnn"]
    assert isinstance(recording, CallRecording)
    row = recording._rows[0]
    assert row.untyped_storage().nbytes() == row.numel() * row.element_size()  # no whole batch


def test_the_forward_pass_is_as_without() -> None:
    module, x = build("lstm", num_layers=2), sequences(3, 6)
    plain = module(x)
    with InputRecorder({"rnn": module}, 2, 3):
        watched = module(x)
    torch.testing.assert_close(watched, plain, atol=0, rtol=0)
    watched[0].sum().backward()
    assert module.weight_hh_l0.grad is not None


def test_hooks_are_there_from_start_to_stop_only() -> None:
    modules = {"a": build("gru"), "b": build("tanh")}
    recorder = InputRecorder(modules, 2, 2)
    assert not any(module._forward_pre_hooks for module in modules.values())
    recorder.start()
    assert all(len(module._forward_pre_hooks) == 1 for module in modules.values())
    recorder.stop()
    recorder.stop()
    for module in modules.values():
        assert not module._forward_pre_hooks
        assert not module._forward_pre_hooks_with_kwargs
        assert not module._forward_hooks


def test_hooks_are_gone_after_an_error_too() -> None:
    module = build("gru")
    with pytest.raises(RuntimeError, match="theirs"), InputRecorder({"rnn": module}, 2, 2):
        raise RuntimeError("theirs")
    assert not module._forward_pre_hooks


def test_what_was_recorded_stays_after_stopping() -> None:
    module, x = build("gru"), sequences(4, 6)
    recorder = InputRecorder({"rnn": module}, 4, 6)
    recorder.start()
    module(x[:3])
    recorder.stop()
    module(x[3:])
    assert_near(recorder.sequences()["rnn"].inputs, x[:3], 0)


class Strange(nn.GRU):
    """Takes another argument than the module it is derived from."""

    def forward(self, batch: dict[str, Tensor]) -> Any:  # type: ignore[override]
        return super().forward(batch["x"])


def test_an_error_of_ours_never_reaches_the_forward_pass() -> None:
    module = Strange(INPUT_SIZE, 4, batch_first=True).double()
    recorder = InputRecorder({"rnn": module}, 2, 2)
    with recorder:
        output, _ = module({"x": sequences(2, 3)})
        module({"x": sequences(2, 3)})
    assert output.shape == (2, 3, 4)
    with pytest.raises(RuntimeError, match="Expected to read the inputs of a recurrent") as raised:
        recorder.sequences()
    assert raised.value.__cause__ is not None


def test_a_module_that_is_never_called_is_named() -> None:
    used, idle = build("gru"), build("tanh")
    with InputRecorder({"used": used, "idle": idle}, 2, 2) as recorder:
        used(sequences(2, 3))
    with pytest.raises(RuntimeError, match=r"'idle' to be called .*modules=\[\.\.\.\]"):
        recorder.sequences()


def test_a_module_that_is_never_called_costs_the_others_nothing() -> None:
    used, idle, x = build("gru"), build("tanh"), sequences(2, 3)
    with InputRecorder({"idle": idle, "used": used}, 2, 3) as recorder:
        used(x)
    recorded = recorder.recorded()
    assert_near(recorded.sequences["used"].inputs, x, 0)
    assert list(recorded.failures) == ["idle"]


def test_an_error_that_is_raised_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No frame of ours holds the error that holds it: no garbage collection is needed."""
    held: list[weakref.ref[Any]] = []

    def padded(rows: Any, **settings: Any) -> Any:
        together = pad_sequence(rows, **settings)
        held.append(weakref.ref(together))
        return together

    monkeypatch.setattr("lightning_lyap.network.sequences.pad_sequence", padded)
    used, idle = build("gru"), build("tanh")
    with InputRecorder({"used": used, "idle": idle}, 2, 3) as recorder:
        used(sequences(2, 3))
    gc.collect()
    gc.disable()
    try:
        with suppress(RuntimeError):
            recorder.sequences()
        assert [one() for one in held] == [None]
    finally:
        gc.enable()


def test_several_modules_are_recorded_each_for_itself() -> None:
    first, x = build("gru"), sequences(3, 5)
    second = nn.RNN(7, 2, batch_first=True).double()
    with InputRecorder({"first": first, "second": second}, 2, 4) as recorder:
        hidden = first(x)[0]
        second(hidden)
    recorded = recorder.sequences()
    assert_near(recorded["first"].inputs, x[:2, :4], 0)
    assert_near(recorded["second"].inputs, hidden[:2, :4].detach(), 0)


@pytest.mark.parametrize("backend", [None, "eager"])
def test_compiled_modules_are_recorded(backend: str | None) -> None:
    rnn, x = build("gru"), sequences(3, 5)
    compiled: Any = torch.compile(rnn, backend=backend) if backend else rnn
    holder = Holder(rnn=compiled)
    compiled(x)  # compiled before the hooks are there
    with torch.no_grad(), InputRecorder(find_recurrent_modules(holder), 3, 5) as recorder:
        compiled(x)
    assert_near(recorder.sequences()["rnn"].inputs, x, 0)


@pytest.mark.parametrize("kind", ["tanh", "relu", "gru", "lstm", "projected"])
def test_recorded_and_measured_equals_the_estimator_by_hand(kind: str) -> None:
    module, x = build(kind, num_layers=2, batch_first=False), sequences(4, 12)
    state = random_state(module, 4)
    with torch.inference_mode():
        recorded = record(module, lambda: module(x.transpose(0, 1), state), num_steps=10)
        exponents = spectrum_of(module, recorded)
    by_hand = lyapunov_spectrum(module, x[:, :10], initial_state=state)
    assert_near(exponents, by_hand.exponents, 0)
