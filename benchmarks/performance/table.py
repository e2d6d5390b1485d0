"""What a section found: rows of a table, each with its spread, its bar and the verdict."""

import operator
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from performance.timing import Spread

SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">=": operator.ge,
}
HEADER = (
    "| what | median | lowest to highest | rounds | bar | verdict | off by |\n"
    "| --- | ---: | ---: | ---: | ---: | --- | ---: |"
)


@dataclass(frozen=True)
class Bar:
    """What a number has to be.

    Attributes:
        sign: ``"<"``, ``"<="`` or ``">="``.
        value: The limit.
    """

    sign: str
    value: float

    def verdict(self, found: float) -> str:
        """Judge a number.

        Args:
            found: The number.

        Returns:
            ``"met"`` or ``"not met"``; what is not a number does not meet it.

        Example:
            >>> Bar(">=", 1.6).verdict(1.6), Bar("<=", 1.15).verdict(1.2)
            ('met', 'not met')
        """
        return "met" if SIGNS[self.sign](found, self.value) else "not met"


@dataclass(frozen=True)
class Row:
    """One number of a section.

    Attributes:
        what: In words.
        found: The number, over the rounds.
        bar: What its median has to be, or None.
        error: Standard error of a fitted exponent, or None.
        difference: Largest difference of a resolved exponent from the naive twin's, nats per step,
            or None where another row has it.
    """

    what: str
    found: Spread
    bar: Bar | None = None
    error: float | None = None
    difference: float | None = None

    def line(self) -> str:
        """Return the row in Markdown."""
        median, lowest, highest, rounds = self.found
        cells = (
            self.what,
            number(median) + ("" if self.error is None else f" ± {self.error:.2f}"),
            "-" if rounds == 1 else f"{number(lowest)} to {number(highest)}",
            str(rounds),
            "-" if self.bar is None else f"{self.bar.sign} {self.bar.value:g}",
            "-" if self.bar is None else self.bar.verdict(median),
            "-" if self.difference is None else f"{self.difference:.1e}",
        )
        return "| " + " | ".join(cells) + " |"


@dataclass(frozen=True)
class Result:
    """What a section found.

    Attributes:
        title: Of the section.
        text: What the numbers mean.
        rows: The numbers.
    """

    title: str
    text: str
    rows: list[Row] = field(default_factory=list)

    def markdown(self) -> str:
        """Return the section in Markdown."""
        lines = "\n".join(row.line() for row in self.rows)
        return f"## {self.title}\n\n{self.text}\n\n{HEADER}\n{lines}\n"

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)

    @staticmethod
    def from_dict(given: dict[str, Any]) -> "Result":
        """Return what `as_dict` was made of.

        Args:
            given: What `as_dict` returned, or JSON made of it.

        Returns:
            The result.
        """
        rows = [
            Row(
                row["what"],
                Spread(*row["found"]),
                None if row["bar"] is None else Bar(**row["bar"]),
                row["error"],
                row["difference"],
            )
            for row in given["rows"]
        ]
        return Result(given["title"], given["text"], rows)


def number(value: float) -> str:
    """Write a number with three digits.

    Args:
        value: The number.

    Returns:
        The text.

    Example:
        >>> number(12.345), number(1234.5), number(0.00012)
        ('12.3', '1234', '1.2e-04')
    """
    if value != 0 and abs(value) < 0.01:
        return f"{value:.1e}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
