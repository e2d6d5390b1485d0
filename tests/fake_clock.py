"""A clock that stands still but for the calls that take time by it."""

from collections.abc import Callable


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[float] = []

    def __call__(self) -> float:
        return self.now

    def taking(self, *seconds: float) -> Callable[[], None]:
        """Return a call that takes these times, the last one for ever."""
        left = list(seconds)

        def call() -> None:
            took = left.pop(0) if len(left) > 1 else left[0]
            self.calls.append(took)
            self.now += took

        return call
