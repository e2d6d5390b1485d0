"""Compiled modules: where their calls can be watched, and how to run what is in them uncompiled.

A hook inside a compiled module changes what `torch.compile` makes of it, and one that is put there
later may never be called. So calls are watched from outside, and what happens inside is seen in a
second, uncompiled run of a copy.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import copy, deepcopy
from typing import Any

import torch
from torch import nn

COMPILED = "_orig_mod"
HOOKS = ("_forward_hooks", "_forward_pre_hooks")
Before = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]
After = Callable[[nn.Module, tuple[Any, ...], Any], None]


class _CallWatch:
    """Watches the calls of a module that was compiled in place, by ``module.compile()``.

    Several may lie around each other, and each may be removed first.
    """

    def __init__(self, module: nn.Module, before: Before, after: After) -> None:
        self._module = module
        self._inner: Any = module._compiled_call_impl
        self._before, self._after = before, after
        module._compiled_call_impl = self

    def remove(self) -> None:
        """End it: what lies around it calls what lies inside, in whatever order they end."""
        outer: Any = self._module._compiled_call_impl
        if outer is self:
            self._module._compiled_call_impl = self._inner
        while isinstance(outer, _CallWatch):
            if outer._inner is self:
                outer._inner = self._inner
            outer = outer._inner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module."""
        self._before(self._module, args, kwargs)
        output = self._inner(*args, **kwargs)
        self._after(self._module, args, output)
        return output


def is_compiled(module: nn.Module) -> bool:
    """Return whether a module is the outside of a compiled one.

    Args:
        module: Any module.

    Returns:
        True for ``torch.compile(module)`` and after ``module.compile()``.

    Example:
        >>> is_compiled(nn.Linear(2, 3)), is_compiled(torch.compile(nn.Linear(2, 3)))
        (False, True)
    """
    return COMPILED in module._modules or module._compiled_call_impl is not None


def uncompiled(module: nn.Module) -> nn.Module:
    """Return the module that ``torch.compile(module)`` was given; any other one as it is."""
    return module._modules.get(COMPILED) or module


def boundaries(root: nn.Module) -> dict[nn.Module, nn.Module]:
    """Find the outermost compiled module around each module.

    Args:
        root: Any module.

    Returns:
        What lies in compiled modules, each with the outside of the outermost.
    """
    around: dict[nn.Module, nn.Module] = {}
    waiting: list[tuple[nn.Module, nn.Module | None]] = [(root, None)]
    seen: set[nn.Module] = set()
    while waiting:
        module, outside = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        if outside is None and is_compiled(module):
            outside = module
        if outside is not None:
            around[module] = outside
        waiting.extend((child, outside) for child in module.children())
    return around


def _hook(module: nn.Module, hook: Any) -> Any:
    """Return a hook that changes nothing where a compiled function calls its module."""
    # Torch's recurrent modules are called from outside of what is compiled, so the hook must not be
    # compiled by itself. In all other modules it is compiled into the function: it must do nothing
    # where `torch.compiler.is_compiling()`.
    dynamo: Any = sys.modules.get("torch._dynamo")
    called_outside = isinstance(module, nn.RNNBase) and dynamo is not None
    if called_outside and not getattr(dynamo.config, "allow_rnn", False):
        return torch.compiler.disable(hook)
    return hook


def watch_calls(module: nn.Module, before: Before, after: After) -> list[Callable[[], None]]:
    """Watch the calls of a module, of a compiled one from outside.

    Args:
        module: Any module.
        before: Called with the module and the arguments, by position and by name.
        after: Called with the module, the arguments by position, and the output.

    Returns:
        Functions to call to end it.
    """
    if module._compiled_call_impl is not None:
        return [_CallWatch(module, before, after).remove]
    return [
        module.register_forward_pre_hook(_hook(module, before), with_kwargs=True).remove,
        module.register_forward_hook(_hook(module, after)).remove,
    ]


def twin(
    module: nn.Module, parts: Iterable[nn.Module]
) -> tuple[nn.Module, dict[nn.Module, nn.Module]]:
    """Copy a module but for its parameters, so that running the copy leaves it as it is.

    Args:
        module: The module, or the outside of a compiled one.
        parts: Modules in it.

    Returns:
        The copy, not compiled, and that of each part.
    """
    inner = uncompiled(module)
    shared: dict[int, Any] = {id(parameter): parameter for parameter in inner.parameters()}
    for part in inner.modules():
        # The hooks of others may belong to anything: a copy calls them, and copies none.
        shared |= {id(vars(part)[name]): copy(vars(part)[name]) for name in HOOKS}
        if COMPILED in part._modules:
            shared[id(vars(part)["dynamo_ctx"])] = vars(part)["dynamo_ctx"]
    copied = deepcopy(inner, shared)
    return copied, {part: shared[id(part)] for part in parts}


@contextmanager
def eagerly() -> Iterator[None]:
    """Run compiled modules and functions uncompiled: nothing is compiled, anew or differently."""
    # Before torch 2.6 there is no such switch; without dynamo nothing has been compiled.
    stance: Any = getattr(torch.compiler, "set_stance", None)
    if stance is None or "torch._dynamo" not in sys.modules:
        yield
    else:
        with stance("force_eager"):
            yield
