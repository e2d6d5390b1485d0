"""After a run in evaluation mode a network keeps what it kept before."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchmetrics import CatMetric, MeanMetric

from lightning_lyap.dynamics.evaluation_mode import as_evaluated
from lightning_lyap.network.undisturbed import evaluating


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
    with pytest.raises(KeyError) if fails else torch.no_grad(), as_evaluated(network):
        assert not any(part.training for part in network)
        if fails:
            raise KeyError
    assert [part.training for part in network] == [True, True, False]


def test_what_changes_in_place_is_what_it_was() -> None:
    class Collecting(nn.Module):
        def __init__(self, total: Tensor) -> None:
            super().__init__()
            self.total, self.batches, self.names = total, [1], {"a": 1}
            self.mean, self.means = MeanMetric(), CatMetric()
            self.same = self.batches

        def forward(self, x: Tensor) -> Tensor:
            self.total += x.sum()
            self.batches.append(2)
            self.names["b"] = 2
            for metric in (self.mean, self.means):
                metric.update(x)
            assert self.same is self.batches
            return self.total

    total = torch.ones(())
    network: Any = nn.Sequential(Collecting(total), Collecting(total))
    network(torch.ones(3))
    kept = [(part.total, part.batches, part.names) for part in network]
    own = network[0]._forward_hooks, network[0]._modules
    with evaluating(network):
        assert network(torch.ones(3)) == 2 * (8 + 3)
        assert network[0]._forward_hooks is own[0]
        assert network[0]._modules is own[1]
    assert total == 2 * (1 + 3)
    for part, (tensor, batches, names) in zip(network, kept, strict=True):
        assert part.total is tensor
        assert part.batches is part.same is batches
        assert part.names is names
        assert (batches, names) == ([1, 2], {"a": 1, "b": 2})
    assert [part.mean.update_count for part in network] == [1, 1]
    assert [part.mean.weight.item() for part in network] == [3, 1]
    assert [part.means.compute().numel() for part in network] == [3, 1]
