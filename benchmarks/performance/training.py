"""Training as it goes on a GPU beside a spectrum: what an epoch of it costs."""

from collections.abc import Callable
from typing import Any

import torch

from lightning_lyap.tasks import CharRNN
from performance.networks import CHARACTERS

# Training steps of an epoch on War and Peace, and their batches: sequences, characters of each.
EPOCH, BATCH, STEPS = 257, 100, 100


def char_rnn(units: int) -> CharRNN:
    """Build the paper's network for characters as it starts, the same one each time.

    Args:
        units: H.

    Returns:
        The network, an LSTM with its read-out.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CharRNN(CHARACTERS, hidden_size=units)


def training_steps(
    units: int, count: int, device: torch.device, batch: int = BATCH, steps: int = STEPS
) -> Callable[[], None]:
    """Return what trains a network for some steps, one after the other without a pause.

    Args:
        units: H.
        count: Training steps of a call.
        device: Where.
        batch: Sequences of a batch.
        steps: Characters of each.

    Returns:
        The call; the network goes on learning with each.
    """
    model = char_rnn(units).to(device)
    chosen: Any = model.configure_optimizers()
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(CHARACTERS, (batch, steps + 1), generator=generator).to(device)

    @torch.enable_grad()
    def train() -> None:
        for _ in range(count):
            chosen["optimizer"].zero_grad()
            model.loss((tokens[:, :-1], tokens[:, 1:])).backward()
            chosen["optimizer"].step()

    return train
