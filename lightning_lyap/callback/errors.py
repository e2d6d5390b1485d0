"""What happens when something of ours fails: a counted gap and one warning, or an error."""

import gc
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

import torch

OnError: TypeAlias = Literal["warn", "raise"]
Doing: TypeAlias = Literal["measuring", "drawing", "logging", "saving", "finding the folder"]
OUTCOMES: dict[Doing, str] = {
    "measuring": "No complete Lyapunov spectrum from this validation",
    "drawing": "No figures of this Lyapunov spectrum",
    "logging": "This Lyapunov spectrum did not reach every logger",
    "saving": "This Lyapunov spectrum is not in the files; those written before are intact",
    "finding the folder": "No files of the Lyapunov spectra of this run",
}
LESS_MEMORY = (
    "Out of memory: fewer `num_sequences`, `num_exponents=32` (the leading ones alone) or, for "
    "stacks of layers, `layers='union'` need less"
)
# What torch's CPU allocator says; it raises a plain RuntimeError.
NO_MEMORY_ON_CPU = "can't allocate memory"


@contextmanager
def guarded(on_error: OnError, doing: Doing, report: Callable[[str], None]) -> Iterator[None]:
    """Keep an error of ours from ending the user's training, unless asked to.

    Interrupts and exits are no errors: they pass.

    Args:
        on_error: ``"raise"`` lets errors pass.
        doing: What is being done.
        report: Called with what went wrong, once nothing of the error is held any more.

    Yields:
        None.
    """
    of_the_user = sys.exc_info()[1]
    try:
        yield
    except Exception as error:
        if on_error == "raise":
            raise
        message = describe(error, doing)
        release(error, of_the_user)
    else:
        return
    report(message)


def describe(error: BaseException, doing: str) -> str:
    """Say what went wrong, and the remedy where memory ran out.

    Args:
        error: The error.
        doing: What was being done.

    Returns:
        Text.

    Example:
        >>> describe(KeyError("rnn"), "measuring")
        "KeyError while measuring: 'rnn'"
        >>> print(describe(MemoryError("no room"), "measuring"))
        MemoryError while measuring: no room. Out of memory: fewer `num_sequences`, ...
    """
    message = f"{type(error).__name__} while {doing}: {_text(error)}"
    if ran_out_of_memory(error):
        message = f"{message.rstrip('. ')}. {LESS_MEMORY}"
    return message


def _text(error: BaseException) -> str:
    """Return what an error says; some fail at that."""
    try:
        return str(error)
    except Exception as another:
        return f"its text can't be read ({type(another).__name__})"


def ran_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error, or one behind it, is that memory ran out, on whatever device."""
    return any(
        isinstance(one, torch.OutOfMemoryError | MemoryError)
        or (isinstance(one, RuntimeError) and NO_MEMORY_ON_CPU in _text(one))
        for one in _chain(error)
    )


def release(error: BaseException, until: BaseException | None = None) -> None:
    """Let go of the tensors in the frames an error passed through.

    If it is that memory ran out, what CUDA caches of them goes back to the device, for the
    training to use.

    Args:
        error: An error that was handled; frames that still run keep what they hold.
        until: An error that was being handled before, in whose wake this one came: it stays whole.
    """
    for one in _chain(error, until):
        traceback.clear_frames(one.__traceback__)
        one.__traceback__ = None
    if ran_out_of_memory(error):
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def _chain(error: BaseException, until: BaseException | None = None) -> list[BaseException]:
    """Return an error and all errors behind it, each once, up to one that does not count."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not until and one is not None and all(one is not other for other in found):
            found.append(one)
            waiting += [one.__cause__, one.__context__]
    return found
