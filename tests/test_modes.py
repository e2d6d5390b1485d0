"""After a run in evaluation mode a network keeps what it kept before."""

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap.modes import evaluating, in_evaluation_mode


class Counting(nn.Module):
    """Counts its calls in a buffer, and keeps its last input."""

    calls: Tensor

    def __init__(self, calls: Tensor) -> None:
        super().__init__()
        self.last: Tensor | None = None
        self.register_buffer("calls", calls)
        self.register_buffer("nothing", None)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last, self.first = x, x
        self.register_buffer("more", x)
        return x


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_put_back(fails: bool) -> None:
    shared = torch.zeros(2)
    scripted = torch.jit.script(nn.BatchNorm1d(3))
    first, second = Counting(shared), Counting(shared)
    network = nn.Sequential(first, second, nn.BatchNorm1d(3), scripted)
    network[2].eval()
    before = list(network.named_buffers(remove_duplicate=False))
    values = [value.clone() for _, value in before]
    with pytest.raises(KeyError) if fails else torch.no_grad(), evaluating(network):
        assert not any(part.training for part in network.modules())
        network[3].train()
        network(torch.randn(4, 3))
        assert int(first.calls[0]) == int(second.calls[0]) == 2
        if fails:
            raise KeyError
    assert [part.training for part in network] == [True, True, False, True]
    after = list(network.named_buffers(remove_duplicate=False))
    assert [name for name, _ in after] == [name for name, _ in before]
    assert all(torch.equal(now, value) for (_, now), value in zip(after, values, strict=True))
    assert first.calls is shared
    assert first.last is None
    assert not hasattr(first, "first")


@pytest.mark.parametrize("fails", [False, True])
def test_modes_are_put_back_and_no_method_of_the_module_is_called(fails: bool) -> None:
    class Stubborn(nn.Dropout):
        def train(self, mode: bool = True) -> "Stubborn":
            raise AssertionError

    network = nn.Sequential(nn.Dropout(), Stubborn(), nn.Dropout().eval())
    with pytest.raises(KeyError) if fails else torch.no_grad(), in_evaluation_mode(network):
        assert not any(part.training for part in network)
        if fails:
            raise KeyError
    assert [part.training for part in network] == [True, True, False]
