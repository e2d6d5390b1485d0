"""Which recurrent modules a LightningModule has."""

import warnings
from collections.abc import Iterable, Iterator

from torch import nn

from lightning_lyap.compiled import COMPILED
from lightning_lyap.dynamics import check_supported, is_recurrent


def find_recurrent_modules(
    root: nn.Module, names: Iterable[str] | None = None
) -> dict[str, nn.Module]:
    """Find the recurrent modules inside a module: torch's, torch's cells, and registered types.

    Args:
        root: Any module, a LightningModule as a rule.
        names: Names to choose, as in ``named_modules()``. Default: all that have a spectrum.

    Returns:
        The modules by name. What lies inside one of them is part of it and not listed.

    Raises:
        ValueError: If there is none, a name is not among them, or a chosen one has no spectrum.

    Warns:
        UserWarning: If a module that was not asked for by name has no spectrum and is left out.

    Example:
        >>> list(find_recurrent_modules(nn.Sequential(nn.GRUCell(2, 3), nn.GRU(3, 4))))
        ['0', '1']
    """
    found: dict[str, nn.Module] = {}
    for path, module in _walk(root, "", set()):
        name = ".".join(part for part in path.split(".") if part != COMPILED)
        found[name or type(module).__name__.lower()] = module
    if names is not None:
        return _choose(found, names)
    supported = {name: module for name, module in found.items() if not _is_bidirectional(module)}
    for name in found.keys() - supported.keys():
        warnings.warn(
            f"No Lyapunov spectrum for {name!r}: a bidirectional module is no causal dynamical "
            "system.",
            stacklevel=2,
        )
    if not supported:
        raise ValueError(
            "Expected at least one torch.nn.RNN, GRU or LSTM that runs forward in time, or a cell "
            f"of these, or a module of a registered type, inside {type(root).__name__}, but got "
            + (f"only {sorted(found)} (bidirectional). " if found else "none. ")
            + "Make the recurrence a submodule (self.rnn = nn.LSTM(...)), register its type by "
            "`register_recurrence`, or leave this out."
        )
    return supported


def _walk(module: nn.Module, path: str, seen: set[int]) -> Iterator[tuple[str, nn.Module]]:
    """Yield the recurrent modules of a tree, each once, without looking inside them.

    Args:
        module: Root of the tree.
        path: Its path.
        seen: Identities of the modules visited.

    Yields:
        Paths and modules, in the order of ``named_modules()``.
    """
    if id(module) in seen:
        return
    seen.add(id(module))
    if is_recurrent(module):
        yield path, module
        return
    for name, child in module.named_children():
        yield from _walk(child, f"{path}.{name}" if path else name, seen)


def _is_bidirectional(module: nn.Module) -> bool:
    """Tell whether a module is one of torch's that runs in both directions."""
    return isinstance(module, nn.RNNBase) and module.bidirectional


def _choose(found: dict[str, nn.Module], names: Iterable[str]) -> dict[str, nn.Module]:
    """Choose modules by name.

    Args:
        found: All recurrent modules.
        names: The names chosen.

    Returns:
        The chosen modules, in the order of the names.

    Raises:
        ValueError: If a name is not among them or its module has no spectrum.
    """
    chosen: dict[str, nn.Module] = {}
    for name in names:
        if name not in found:
            raise ValueError(
                f"Expected `modules` to name recurrent modules among {sorted(found)}, "
                f"but got {name!r}."
            )
        module = found[name]
        if isinstance(module, nn.RNNBase):
            check_supported(module)
        chosen[name] = module
    if not chosen:
        raise ValueError("Expected `modules` to name at least one module, but got none.")
    return chosen
