"""A module as it is evaluated, beside its training: its mode, and weights that hooks compute."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

FLAT = ("_flat_weights", "_flat_weight_refs")
# Of a weight that a wrapper has not computed yet.
MISSING = object()


@contextmanager
def as_evaluated(module: nn.Module) -> Iterator[None]:
    """Put a module and its parts in evaluation mode, with the weights of its next forward pass.

    Pruning and the old weight and spectral norms compute weights in hooks before each forward pass:
    after a step of the optimizer or a loaded checkpoint the attributes are those of another time.
    They are computed anew, without a step of the power iteration. In the end each part is in the
    mode it was in, and all attributes are the objects they were.

    Args:
        module: The module.
    """
    modes = [(part, part.training) for part in module.modules()]
    try:
        for part, _ in modes:
            part.training = False  # `eval` may be the user's own
        with replaced_weights(module, computed_weights(module)):
            yield
    finally:
        for part, training in modes:
            part.training = training


def computed_weights(module: nn.Module) -> dict[str, Tensor]:
    """Compute the weights that torch's own hooks compute before each forward pass.

    Args:
        module: Any module.

    Returns:
        Tensors by their names in the module, of the next forward pass in evaluation mode.

    Example:
        >>> rnn = nn.RNN(2, 3)
        >>> _ = nn.utils.prune.random_unstructured(rnn, "weight_hh_l0", 0.5)
        >>> list(computed_weights(rnn))
        ['weight_hh_l0']
    """
    weights: dict[str, Tensor] = {}
    for path, part in module.named_modules():
        for hook in list(getattr(part, "_forward_pre_hooks", {}).values()):
            own = _computed_by(hook, part)
            if own is not None:
                weights[f"{path}.{own[0]}" if path else own[0]] = own[1]
    return weights


@torch.no_grad()
def _computed_by(hook: Any, part: nn.Module) -> tuple[str, Tensor] | None:
    """Return the name and value of the weight that a hook computes; None if it is no such hook."""
    if isinstance(hook, WeightNorm):
        return hook.name, hook.compute_weight(part)
    if isinstance(hook, SpectralNorm):
        return hook.name, hook.compute_weight(part, do_power_iteration=False)
    if isinstance(hook, BasePruningMethod):
        return hook._tensor_name, hook.apply_mask(part)
    return None


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the weights and biases that a module and its parts compute with now.

    Args:
        module: Any module.

    Returns:
        Tensors by their names in the module: parameters as they are, so that it can be seen whether
        they have been exchanged since; copies of those that a hook or a wrapper has computed.
    """
    weights: dict[str, Tensor] = {}
    for path, part in module.named_modules():
        parameters = {name: p for name, p in part._parameters.items() if p is not None}
        computed = {k: v.detach().clone() for k, v in vars(part).items() if isinstance(v, Tensor)}
        for name, tensor in (parameters | computed).items():
            if name.startswith(("weight", "bias")):
                weights[f"{path}.{name}" if path else name] = tensor
    return weights


@contextmanager
def replaced_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Let a module have other tensors for some of its weights, and its own ones in the end.

    Args:
        module: The module.
        weights: Tensors by their names in the module; those of parts that it does not have are left
            out (what is compiled has another name outside than inside).
    """
    parts = dict(module.named_modules(remove_duplicate=False))
    kept: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for name, tensor in weights.items():
            path, _, attribute = name.rpartition(".")
            part: Any = parts.get(path)
            if part is None:
                continue
            # A wrapper may leave both, and then the plain attribute hides the parameter.
            hidden = attribute in vars(part) or attribute not in part._parameters
            own = vars(part) if hidden else part._parameters
            kept.append((own, attribute, own.get(attribute, MISSING)))
            own[attribute] = tensor
            if attribute in getattr(part, "_flat_weights_names", ()):
                # Where torch's forward pass looks weights up; it may replace both lists.
                kept += [
                    (vars(part), name, vars(part)[name]) for name in FLAT if name in vars(part)
                ]
                part._flat_weights = list(part._flat_weights)
                part._flat_weights[part._flat_weights_names.index(attribute)] = tensor
        yield
    finally:
        for own, attribute, value in reversed(kept):
            if value is MISSING:
                del own[attribute]
            else:
                own[attribute] = value
