"""What happens when something of the callback fails: a counted gap and one warning, or an error."""

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

import torch
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn

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
def guarded(on_error: OnError, doing: str, report: Callable[[str], None]) -> Iterator[None]:
    """Keep an error of the callback from ending the user's training, unless asked to.

    Interrupts and exits are no errors: they pass.

    Args:
        on_error: ``"raise"`` lets errors pass.
        doing: What is being done.
        report: Called with what went wrong.

    Yields:
        None.
    """
    try:
        yield
    except Exception as error:  # loggers, figures and file systems raise whatever they like
        if on_error == "raise":
            raise
        message = describe(error, doing)
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
    """Return what an error says; `traceback` knows what to do where that fails."""
    return "".join(traceback.format_exception_only(error)).partition(": ")[2].rstrip()


def ran_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or one behind it, is that memory ran out, on whatever device."""
    return any(
        isinstance(one, torch.OutOfMemoryError | MemoryError)
        or (isinstance(one, RuntimeError) and NO_MEMORY_ON_CPU in _text(one))
        for one in _chain(error)
    )


def free_memory() -> None:
    """Give back what nothing refers to any more, on CUDA to the device: training needs it.

    Call it outside of the ``except`` block: inside, the error still holds the frames it passed
    through, and these their tensors.
    """
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those behind it, each once."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__


class WarnOnce:
    """Warns on rank zero, once for each key."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, message: str | None, *keys: str) -> None:
        """Warn, unless that was done before for all the keys.

        Args:
            message: What to say; None says nothing.
            keys: What counts as the same warning.
        """
        self._say(rank_zero_warn, message, keys)

    def inform(self, message: str, *keys: str) -> None:
        """Say what is no reason to worry, unless that was done before for all the keys.

        Args:
            message: What to say.
            keys: What counts as the same.
        """
        self._say(rank_zero_info, message, keys)

    def _say(self, say: Callable[[str], None], message: str | None, keys: tuple[str, ...]) -> None:
        """Say a message if one of its keys is new."""
        if message is not None and not self._said.issuperset(keys):
            self._said.update(keys)
            say(message)
