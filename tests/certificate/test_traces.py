"""The certificate leaves no trace on the module, and modes of torch leave none on it."""

from typing import Any

import pytest
import torch
from torch import nn

from tests.cells import INPUT_SIZE, build, sequences
from tests.healthy import measure


@pytest.mark.parametrize("kind", ["tanh", "gru", "lstm"])
@pytest.mark.parametrize("training", [True, False])
def test_leaves_no_trace_on_the_module(kind: str, training: bool) -> None:
    """Dropout between layers is left out; modes, hooks and random numbers are the user's."""
    module = build(kind, num_layers=3, dropout=0.5).train(training)
    calls: list[str] = []
    module.register_forward_hook(lambda *_: calls.append("hook"))
    module.register_forward_pre_hook(lambda *_: calls.append("pre-hook"))
    x = sequences(2, 6)
    before, cudnn = torch.get_rng_state(), torch.backends.cudnn.enabled
    assert measure(module, x).states is not None
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.backends.cudnn.enabled == cudnn
    assert module.training is training
    assert calls == []


class NoisyGRU(nn.GRU):
    """A network with dropout, in a module below and from the global generator."""

    def __init__(self) -> None:
        super().__init__(INPUT_SIZE, 5, batch_first=True)
        self.below = nn.Dropout(0.5)

    def forward(self, input: Any, hx: Any = None) -> Any:
        torch.rand(3)
        output, h = super().forward(input, hx)
        return output, self.below(h)


def test_leaves_no_trace_of_a_subclass_that_draws() -> None:
    module, x = NoisyGRU().train(), sequences(2, 6, torch.float32)
    before = torch.get_rng_state()
    assert measure(module, x).states is not None
    assert torch.equal(torch.get_rng_state(), before)
    assert module.training
    assert module.below.training


@pytest.mark.parametrize("kind", ["tanh", "gru", "lstm"])
def test_inference_mode_and_autocast(kind: str) -> None:
    module, x = build(kind, num_layers=2, hidden_size=32).float(), sequences(2, 6, torch.float32)
    plain = measure(module, x)
    with torch.inference_mode():
        assert measure(module, x) == plain
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert measure(module, x) == plain
    with torch.enable_grad():
        assert measure(module, x.requires_grad_()) == plain
