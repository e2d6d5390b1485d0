"""The spectra of a network's recurrent modules on a batch, without a Trainer."""

import sys
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from lightning_lyap._checks import check_count, check_readable
from lightning_lyap.dynamics.conversion import as_dynamics
from lightning_lyap.dynamics.evaluation_mode import replaced_weights
from lightning_lyap.estimator.inputs import check_weights
from lightning_lyap.estimator.result import SpectrumEstimate
from lightning_lyap.estimator.spectrum import lyapunov_spectrum
from lightning_lyap.network.compiled import eagerly
from lightning_lyap.network.find_modules import find_recurrent_modules
from lightning_lyap.network.input_recorder import InputRecorder
from lightning_lyap.network.sequences import DrivingSequences
from lightning_lyap.network.undisturbed import evaluating, preserved_generators

EVERYTHING = sys.maxsize
GIVEN = {"dynamics", "inputs", "initial_state", "lengths", "num_exponents", "returned"}
# Other settings of `lyapunov_spectrum`, which are passed on to it.
SETTINGS = frozenset(signature(lyapunov_spectrum).parameters) - GIVEN


@torch.no_grad()
def spectra_of(
    module: nn.Module,
    batch: Any,
    *,
    modules: Sequence[str] | str | None = None,
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
        modules: Names of the modules to measure, as in ``named_modules()``, or a single one.
            Default: all.
        num_sequences: Sequences of each module at most. Default: those of the batch.
        num_steps: Steps of each sequence at most, warm-up included. Default: all.
        num_exponents: K, the number of leading exponents; a module that has fewer gives all it has.
            Default: all.
        **settings: Others of `lyapunov_spectrum`: ``state``, ``warmup_steps``, ``layers`` ...

    Returns:
        An estimate for each module, by name.

    Raises:
        RuntimeError: If a module is not called with sequences.
        TypeError: If a setting has the wrong type, or there is none of its name.
        ValueError: If there is no recurrent module, a setting is out of range, the batch is empty,
            or ``forward`` can't take it.

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
        >>> spectra_of(Network(), torch.rand(3, 20, 1))["rnn"].exponents
        tensor([-0.6931, -1.3863], dtype=torch.float64)
    """
    _check_names(settings)
    num_sequences = check_count("num_sequences", num_sequences, 1)
    num_steps = check_count("num_steps", num_steps, 1)
    if num_exponents is not None:
        num_exponents = check_count("num_exponents", num_exponents, 1)
    found = find_recurrent_modules(module, modules)
    check_weights(module)
    recorder = InputRecorder(found, num_sequences, num_steps)
    with recorder, evaluating(module), preserved_generators(), eagerly():
        _run(module, batch)
    return {
        name: spectrum_on(found[name], driving, num_exponents, **settings)
        for name, driving in recorder.sequences().items()
    }


def spectrum_on(
    module: nn.Module, driving: DrivingSequences, num_exponents: int | None, **settings: Any
) -> SpectrumEstimate:
    """Estimate the spectrum of a recurrent module on what drives it.

    With the weights it had when that was recorded, where a hook or a wrapper computes them; and
    compared with what it returned then.

    Args:
        module: The module.
        driving: What it receives.
        num_exponents: K, or None for all; a module that has fewer gives all it has.
        **settings: Others of `lyapunov_spectrum`.

    Returns:
        The estimate.

    Raises:
        ValueError: See `lyapunov_spectrum`.
    """
    with replaced_weights(module, driving.weights):
        if num_exponents is not None:
            system = as_dynamics(module, driving.initial_state, settings.get("state", "full"))
            num_exponents = min(num_exponents, system.tangent_size)
        return lyapunov_spectrum(
            module,
            driving.inputs,
            initial_state=driving.initial_state,
            lengths=driving.lengths,
            num_exponents=num_exponents,
            returned=driving.returned,
            **settings,
        )


def _check_names(settings: Mapping[str, Any]) -> None:
    """Refuse settings the estimator does not have, or that follow from the batch."""
    unknown = sorted(settings.keys() - SETTINGS)
    if unknown:
        raise TypeError(
            f"Expected settings of `lyapunov_spectrum` among {sorted(SETTINGS)}, but got "
            f"{unknown}. Inputs and states are those the modules receive."
        )


def _run(module: nn.Module, batch: Any) -> None:
    """Run a network forward on a batch, one argument or a tuple of several, on its device."""
    given = batch if isinstance(batch, (tuple, list)) else (batch,)
    tensors = [part for part in given if isinstance(part, Tensor)]
    for part in tensors:
        check_readable("batch", part)
        if part.numel() == 0:
            raise ValueError(
                "Expected `batch` with at least one sequence of one step, but got a tensor of the "
                f"shape {tuple(part.shape)}. Take another batch."
            )
    device = next((parameter.device for parameter in module.parameters()), None)
    arguments = [part.to(device) if isinstance(part, Tensor) else part for part in given]
    try:
        module(*arguments)
    except torch.cuda.OutOfMemoryError:
        raise
    # A forward that gets what it does not expect raises anything.
    except Exception as error:
        shown = [str(tuple(p.shape)) if isinstance(p, Tensor) else type(p).__name__ for p in given]
        raise ValueError(
            f"Expected `batch` to be what the forward of {type(module).__name__} takes, but "
            f"{', '.join(shown) or 'nothing'} gave {type(error).__name__}: {error}. Pass its "
            "arguments as a tuple, of the network's type and sizes."
        ) from error
