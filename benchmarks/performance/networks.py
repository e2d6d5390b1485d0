"""The networks that are measured, and what drives them."""

import torch
from torch import Tensor, nn

# Distinct characters of War and Peace, the text of the paper.
CHARACTERS = 82


def network(kind: str, units: int, layers: int = 1, features: int = CHARACTERS) -> nn.RNNBase:
    """Build a network as torch initializes it, the same one each time.

    Args:
        kind: ``"LSTM"``, ``"GRU"`` or ``"RNN"``.
        units: H.
        layers: L.
        features: I.

    Returns:
        The network, batch first.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built: nn.RNNBase = getattr(nn, kind)(features, units, layers, batch_first=True)
    return built


def characters(batch: int, steps: int, features: int = CHARACTERS) -> Tensor:
    """Draw one-hot characters, the same ones each time.

    Args:
        batch: B.
        steps: T.
        features: Distinct characters.

    Returns:
        ``[B, T, I]``.
    """
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(features, (batch, steps), generator=generator)
    return nn.functional.one_hot(tokens, features).float()
