"""What the paper claims and what came out, as it goes into docs/REPRODUCTION.md."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from lightning_lyap.sweeps.correlation import Association
from paper.training import write_whole

FILE = "claims.json"
Verdict = Literal["yes", "no", "undecided"]


@dataclass(frozen=True)
class Claim:
    """A claim and its test.

    Attributes:
        item: Figure, table or section.
        claim: What the paper says.
        result: What came out, with its uncertainty.
        agree: ``"yes"``, ``"no"`` or ``"undecided"``.
        scale: At which scale, on which data.
        command: What made it.
    """

    item: str
    claim: str
    result: str
    agree: Verdict
    scale: str
    command: str


def save_claims(claims: Sequence[Claim], folder: Path) -> None:
    """Write claims into the folder of a figure.

    Args:
        claims: The claims.
        folder: The folder.
    """
    text = json.dumps([asdict(claim) for claim in claims], indent=2)
    write_whole(folder / FILE, text + "\n")


def read_claims(file: Path) -> list[Claim]:
    """Read claims.

    Args:
        file: What `save_claims` has written.

    Returns:
        Claims.
    """
    return [Claim(**entry) for entry in json.loads(file.read_text(encoding="utf-8"))]


def positive(association: Association) -> Verdict:
    """Judge whether a coefficient is above zero.

    Args:
        association: The coefficient.

    Returns:
        Yes or no if its 95 % interval excludes zero, else undecided.

    Example:
        >>> positive(Association(0.5, (0.1, 0.8)))
        'yes'
    """
    if association.interval is None:
        return "undecided"
    low, high = association.interval
    return "yes" if low > 0 else "no" if high < 0 else "undecided"


def negative(association: Association) -> Verdict:
    """Judge whether a coefficient is below zero; see `positive`.

    Args:
        association: The coefficient.

    Returns:
        The verdict.

    Example:
        >>> negative(Association(-0.5, (-0.9, 0.1)))
        'undecided'
    """
    opposite: dict[Verdict, Verdict] = {"yes": "no", "no": "yes", "undecided": "undecided"}
    return opposite[positive(association)]
