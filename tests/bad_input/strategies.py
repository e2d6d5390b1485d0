"""What the tests of bad input share: what a refusal is, and values no argument can take."""

import copy
import random
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import lightning_lyap

ROOT = Path(lightning_lyap.__file__).parents[1]
OURS = (ROOT / "lightning_lyap", ROOT / "datamodules")
REFUSALS = (TypeError, ValueError, OSError)
Make = Callable[[Tensor], Any]


def profile(max_examples: int) -> settings:
    """The same cases in every run; files may be written over in one temporary folder.

    Args:
        max_examples: With ``-m slow``; without, a fourth of them.

    Returns:
        The settings.
    """
    return settings(
        max_examples=max_examples * settings().max_examples // 100,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


def assert_refused(
    call: Callable[[], Any],
    argument: str,
    kinds: tuple[type[Exception], ...] = REFUSALS,
) -> str:
    """See that a call is refused by our own code, which names the argument and what it expected.

    Args:
        call: What must fail.
        argument: What the message must name.
        kinds: Errors allowed.

    Returns:
        The message.
    """
    with pytest.raises(kinds) as caught:
        call()
    frame = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert any(Path(frame.filename).is_relative_to(place) for place in OURS), frame
    said = str(caught.value)
    assert said.startswith("Expected "), said
    assert " but " in said, said
    assert argument in said, said
    return said


@contextmanager
def unchanged(*things: Any) -> Iterator[None]:
    """See that modules, tensors and the global random generators stay as they are.

    Args:
        *things: Modules and tensors; anything else is not looked at.

    Yields:
        Nothing.
    """
    before = [_photograph(thing) for thing in things]
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    numpy_state = np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    grad = torch.is_grad_enabled()
    yield
    assert torch.get_rng_state().equal(torch_state)
    assert random.getstate() == python_state
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # type: ignore[index]  # noqa: NPY002
    assert torch.is_grad_enabled() == grad
    for thing, photograph in zip(things, before, strict=True):
        assert _photograph(thing) == photograph


def _photograph(thing: Any) -> Any:
    """Turn a module or a dense tensor into bytes, flags and counters of changes."""
    if isinstance(thing, nn.Module):
        modes = [part.training for part in thing.modules()]
        hooks = [len(part._forward_hooks) for part in thing.modules()]
        return modes, hooks, [_photograph(value) for value in thing.state_dict().values()]
    if not isinstance(thing, Tensor) or thing.layout != torch.strided or thing.is_nested:
        return None
    content = b"" if thing.device.type == "meta" else _bytes(thing)
    version = 0 if thing.is_inference() else thing._version
    return content, version, thing.requires_grad, thing.stride()


def _bytes(tensor: Tensor) -> bytes:
    """Return the numbers of a tensor, NaN included, as bytes."""
    return tensor.detach().clone().contiguous().view(torch.uint8).numpy().tobytes()


# Of a good tensor, what is none that numbers can be read from; all but the device are types.
UNREADABLE: dict[str, Make] = {
    "meta": lambda x: x.to("meta"),
    "sparse": lambda x: x.to_sparse(),
    "mkldnn": lambda x: x.float().to_mkldnn(),
    "nested": lambda x: torch.nested.nested_tensor(list(x)),
    "jagged": lambda x: torch.nested.nested_tensor(list(x), layout=torch.jagged),
}
# What is no tensor at all.
NO_TENSOR: dict[str, Make] = {
    "numpy": lambda x: x.numpy(),
    "list": lambda x: x.tolist(),
    "tuple": lambda x: tuple(x),
    "text": lambda x: "inputs",
    "number": lambda x: 1.5,
    "dict": lambda x: {"inputs": x},
    "object": lambda x: object(),
}
# Types that are no floating-point numbers.
OTHER_TYPES: dict[str, Make] = {
    "int64": lambda x: x.long(),
    "uint8": lambda x: x.to(torch.uint8),
    "bool": lambda x: x > 0,
    "complex": lambda x: x + 0j,
    "float8": lambda x: x.to(torch.float8_e4m3fn),
}


def not_an_int() -> st.SearchStrategy[Any]:
    """Values that stand for no whole number."""
    return st.one_of(
        st.booleans(),
        st.floats(),
        st.complex_numbers(),
        st.text(max_size=3).filter(lambda word: word != "auto"),
        st.binary(max_size=3),
        st.lists(st.integers(), max_size=2),
        st.sampled_from([np.True_, np.float32(2), np.array([1, 2]), np.array("2"), object()]),
        st.sampled_from([torch.tensor(True), torch.tensor(2.0), torch.tensor([1, 2])]).map(
            copy.copy
        ),
        st.just(torch.tensor(2, device="meta")),
    )


def bad_counts(minimum: int) -> st.SearchStrategy[Any]:
    """Values that stand for no whole number of at least some size."""
    small = st.integers(max_value=minimum - 1)
    return st.one_of(not_an_int(), small, st.integers(-9, minimum - 1).map(np.int64))


def bad_words(*good: str) -> st.SearchStrategy[Any]:
    """Values that are none of some words."""
    return st.one_of(
        st.text(max_size=8).filter(lambda word: word not in good),
        st.sampled_from([word.upper() for word in good]),
        st.sampled_from([None, 0, 1.5, True, b"full", object()]),
        st.lists(st.sampled_from(good), max_size=2),
        st.just(np.array([*good, "x"])),
    )


def bad_flags() -> st.SearchStrategy[Any]:
    """Values that are neither True nor False."""
    words = st.sampled_from(["yes", "no", "", None, 0, 1, 0.5, np.array([True, False])])
    return st.one_of(words, st.lists(st.booleans(), max_size=2))


def bad_positives() -> st.SearchStrategy[Any]:
    """Values that are no finite number above zero."""
    numbers = st.floats(max_value=0.0, allow_nan=False)
    words = st.sampled_from([float("nan"), float("inf"), "0.1", True, [0.1], 1j, np.array([1.0])])
    return st.one_of(numbers, words, st.just(torch.tensor(0.1)))


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """A file cut anywhere, or with one bit turned over."""
    cut = st.integers(0, len(content) - 1).map(lambda end: content[:end])
    return st.one_of(cut, st.integers(0, 8 * len(content) - 1).map(lambda i: turned(content, i)))


def turned(content: bytes, bit: int) -> bytes:
    """Turn over one bit."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def shapes() -> st.SearchStrategy[list[int]]:
    """Shapes of tensors, empty ones included."""
    return st.lists(st.integers(0, 4), max_size=5)
