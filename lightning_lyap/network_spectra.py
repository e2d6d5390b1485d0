"""The spectra of a network's recurrent modules on a batch, without a Trainer."""

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_lyap.capture import InputRecorder
from lightning_lyap.compiled import eagerly
from lightning_lyap.dynamics import as_dynamics
from lightning_lyap.estimate import SpectrumEstimate
from lightning_lyap.finding import find_recurrent_modules
from lightning_lyap.generators import preserved_generators
from lightning_lyap.modes import evaluating
from lightning_lyap.recordings import DrivingSequences
from lightning_lyap.spectrum import lyapunov_spectrum

EVERYTHING = sys.maxsize


@torch.no_grad()
def spectra_of(
    module: nn.Module,
    batch: Any,
    *,
    modules: Sequence[str] | None = None,
    num_sequences: int = EVERYTHING,
    num_steps: int = EVERYTHING,
    num_exponents: int | None = None,
    **settings: Any,
) -> dict[str, SpectrumEstimate]:
    """Estimate the spectrum of every recurrent module of a network on what it receives in a batch.

    The network runs forward once, in evaluation mode; weights, modes, gradients and global random
    generators stay as they are. The callback measures in the same way.

    Args:
        module: The network, a LightningModule or any other.
        batch: What its ``forward`` takes, one row a sequence; a tuple or list for several
            arguments. Tensors go to the network's device.
        modules: Names of the modules to measure, as in ``named_modules()``. Default: all.
        num_sequences: Sequences of each module at most. Default: those of the batch.
        num_steps: Steps of each sequence at most, warm-up included. Default: all.
        num_exponents: K, the number of leading exponents; a module that has fewer gives all it has.
            Default: all.
        **settings: Others of `lyapunov_spectrum`: ``state``, ``warmup_steps``, ``layers`` ...

    Returns:
        An estimate for each module, by name.

    Raises:
        RuntimeError: If a module is not called with sequences.
        TypeError: If a setting has the wrong type.
        ValueError: If there is no recurrent module, or a setting is out of range.

    Example:
        >>> class Network(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.rnn = nn.RNN(1, 2, nonlinearity="relu", bias=False, batch_first=True)
        ...         nn.init.ones_(self.rnn.weight_ih_l0)
        ...         self.rnn.weight_hh_l0.data.copy_(torch.diag(torch.tensor([0.5, 0.25])))
        ...
        ...     def forward(self, x):
        ...         return self.rnn(x)[0].mean()
        >>> spectra_of(Network(), torch.ones(3, 20, 1))["rnn"].exponents
        tensor([-0.6931, -1.3863], dtype=torch.float64)
    """
    found = find_recurrent_modules(module, modules)
    given = batch if isinstance(batch, (tuple, list)) else (batch,)
    device = next((parameter.device for parameter in module.parameters()), None)
    arguments = [part.to(device) if isinstance(part, Tensor) else part for part in given]
    recorder = InputRecorder(found, num_sequences, num_steps)
    with recorder, evaluating(module), preserved_generators(), eagerly():
        module(*arguments)
    return {
        name: lyapunov_spectrum(
            found[name],
            driving.inputs,
            initial_state=driving.initial_state,
            lengths=driving.lengths,
            num_exponents=_at_most_all(found[name], driving, num_exponents, settings),
            **settings,
        )
        for name, driving in recorder.sequences().items()
    }


def _at_most_all(
    module: nn.Module, driving: DrivingSequences, count: int | None, settings: dict[str, Any]
) -> int | None:
    """Lower the number of exponents to those a module has.

    Args:
        module: The module.
        driving: What drives it.
        count: K, or None.
        settings: Of the estimator.

    Returns:
        At most N, or None.
    """
    if count is None:
        return None
    system = as_dynamics(module, driving.initial_state, settings.get("state", "full"))
    return min(count, system.tangent_size)
