"""Which recurrent modules a LightningModule has."""

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from lightning_lyap.dynamics import check_supported, is_recurrent
from lightning_lyap.network.compiled import COMPILED


def find_recurrent_modules(
    root: nn.Module, names: Iterable[str] | str | None = None
) -> dict[str, nn.Module]:
    """Find the recurrent modules inside a module: torch's, torch's cells, and registered types.

    Args:
        root: Any module, a LightningModule as a rule.
        names: Names to choose, as in ``named_modules()``, or a single one. Default: all that have
            a spectrum.

    Returns:
        The modules by name. What lies inside one of them is part of it and not listed.

    Raises:
        TypeError: If ``root`` is no module, or ``names`` are no names.
        ValueError: If there is none, a name is not among them, or a chosen one has no spectrum.

    Warns:
        UserWarning: If a module that was not asked for by name has no spectrum and is left out.

    Example:
        >>> list(find_recurrent_modules(nn.Sequential(nn.GRUCell(2, 3), nn.GRU(3, 4))))
        ['0', '1']
    """
    supported, unsupported = split_recurrent_modules(root, names)
    for reason in unsupported.values():
        warnings.warn(reason, stacklevel=2)
    if not supported:
        raise ValueError(_nothing_found(root, f"only {sorted(unsupported)} (bidirectional)"))
    return supported


def split_recurrent_modules(
    root: nn.Module, names: Iterable[str] | str | None = None
) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Find the recurrent modules inside a module, those without a spectrum apart.

    Args:
        root: Any module.
        names: See `find_recurrent_modules`.

    Returns:
        The modules that have a spectrum by name, and the reason why not by the name of each that
        has none; the latter only where no names are given.

    Raises:
        TypeError: If ``root`` is no module, or ``names`` are no names.
        ValueError: If there is no recurrent module of either kind, a name is not among them, or a
            chosen one has no spectrum.
    """
    if not isinstance(root, nn.Module):
        got = f"the class {root.__name__}" if isinstance(root, type) else type(root).__name__
        raise TypeError(
            f"Expected `module` to be a torch.nn.Module, but got {got}. Pass the network itself."
        )
    found: dict[str, nn.Module] = {}
    for path, module in _walk(root, "", set()):
        name = ".".join(part for part in path.split(".") if part != COMPILED)
        found[name or type(module).__name__.lower()] = module
    if names is not None:
        return _choose(found, read_names(names)), {}
    if not found:
        raise ValueError(_nothing_found(root, "none"))
    supported = {name: module for name, module in found.items() if not _is_bidirectional(module)}
    unsupported = {
        name: f"No Lyapunov spectrum for {name!r}: a bidirectional module is no causal dynamical "
        "system."
        for name in found
        if name not in supported
    }
    return supported, unsupported


def _nothing_found(root: nn.Module, got: str) -> str:
    """Say what to do about a network that has something else than recurrent modules to measure."""
    return (
        "Expected at least one torch.nn.RNN, GRU or LSTM that runs forward in time, or a cell "
        f"of these, or a module of a registered type, inside {type(root).__name__}, but got "
        f"{got}. Make the recurrence a submodule (self.rnn = nn.LSTM(...)), register its type by "
        "`register_recurrence`, or leave this out."
    )


def read_names(names: Any) -> tuple[str, ...]:
    """Read the names of modules.

    Args:
        names: Names, or a single one.

    Returns:
        The names.

    Raises:
        TypeError: If they are no words.
    """
    given = (names,) if isinstance(names, str) else names
    if not isinstance(given, Iterable) or isinstance(given, bytes):
        raise TypeError(f"Expected `modules` to be names of modules, but got {names!r}.")
    chosen = tuple(given)
    if not all(isinstance(name, str) for name in chosen):
        raise TypeError(
            f"Expected `modules` to be names of modules, as in `named_modules()`, but got {names!r}"
            ". Pass the names, not the modules."
        )
    return chosen


def _walk(module: nn.Module, path: str, seen: set[int]) -> Iterator[tuple[str, nn.Module]]:
    """Yield the recurrent modules of a tree with their paths, each once; nothing inside of them."""
    if id(module) in seen:
        return
    seen.add(id(module))
    if is_recurrent(module):
        yield path, module
        return
    for name, child in module.named_children():
        yield from _walk(child, f"{path}.{name}" if path else name, seen)


def _is_bidirectional(module: nn.Module) -> bool:
    """Return whether a module is one of torch's that runs in both directions."""
    return isinstance(module, nn.RNNBase) and module.bidirectional


def _choose(found: dict[str, nn.Module], names: Iterable[str]) -> dict[str, nn.Module]:
    """Return the modules of some names, in their order; refuse those without a spectrum."""
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
