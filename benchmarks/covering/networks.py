"""The networks that are measured again and again, and what drives them."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from datamodules import CharTextDataModule
from lightning_lyap.systems import random_tanh_network

UNITS, SEQUENCES = 20, 10
GAIN, DRIVE = 2.0, 0.05
TRAINING_STEPS, TRAINING_BATCH = 400, 64
# The long run: sequences of so many counted steps after so many of warm-up.
LONG_STEPS, LONG_WARMUP, LONG_DRAWS = 4000, 1000, 64


@dataclass(frozen=True)
class Source:
    """A network and what drives it.

    Attributes:
        network: One layer.
        draw: Draws so many sequences of so many steps, ``[B, T, I]``.
        long: What the long run is driven by.
    """

    network: nn.RNNBase
    draw: Callable[[int, int, torch.Generator], Tensor]
    long: Tensor


def chaotic_network() -> Source:
    """Draw a chaotic tanh network, driven by weak white noise from the default state."""
    torch.manual_seed(0)
    network = random_tanh_network(UNITS, GAIN, DRIVE)

    def draw(count: int, steps: int, generator: torch.Generator) -> Tensor:
        return torch.randn(count, steps, UNITS, generator=generator)

    long = draw(LONG_DRAWS, LONG_WARMUP + LONG_STEPS, torch.Generator().manual_seed(1))
    return Source(network, draw, long)


def trained_network(kind: str, data_dir: str | None) -> Source:
    """Train a small network on War and Peace, to be measured on windows of the test split.

    Args:
        kind: ``"LSTM"`` or ``"GRU"``.
        data_dir: Folder with the text, or None.

    Returns:
        The network and its windows, one-hot. The long run takes the whole split.
    """
    data = CharTextDataModule(data_dir=data_dir, source="real")
    data.prepare_data()
    data.setup()
    windows, targets = data.split("train").tensors
    network, size = _train(kind, windows, targets, data.vocab_size), data.vocab_size
    (test,) = data.lyapunov_sequences(1, len(data._test_tokens))

    def windows_at(starts: Tensor, steps: int) -> Tensor:
        return nn.functional.one_hot(test[starts[:, None] + torch.arange(steps)], size).float()

    def draw(count: int, steps: int, generator: torch.Generator) -> Tensor:
        slots, starts = len(test) // steps - 1, []
        for _ in range(count // SEQUENCES):  # windows of a replicate don't overlap
            phase = torch.randint(steps, (1,), generator=generator)
            starts.append(torch.randperm(slots, generator=generator)[:SEQUENCES] * steps + phase)
        return windows_at(torch.cat(starts), steps)

    steps = LONG_WARMUP + LONG_STEPS
    long = windows_at(torch.arange(0, len(test) - steps + 1, LONG_STEPS), steps)
    return Source(network, draw, long)


def _train(kind: str, windows: Tensor, targets: Tensor, size: int) -> nn.RNNBase:
    """Train on tokens ``[n, T]`` to predict the next of ``size`` characters."""
    torch.manual_seed(0)
    network: nn.RNNBase = getattr(nn, kind)(size, UNITS, batch_first=True)
    read_out = nn.Linear(UNITS, size)
    optimizer = torch.optim.Adam([*network.parameters(), *read_out.parameters()], lr=1e-2)
    loss = torch.tensor(math.inf)
    for _ in range(TRAINING_STEPS):
        rows = torch.randint(len(windows), (TRAINING_BATCH,))
        one_hot = nn.functional.one_hot(windows[rows], size).float()
        logits = read_out(network(one_hot)[0])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets[rows].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"{kind}: {loss.item():.3f} nats per character", flush=True)
    return network.eval()
