"""Figures of what is measured on trained networks, in place of the spectra of training."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from omegaconf import DictConfig

from paper.command import Figure, Finding, Result
from paper.measured import Measured
from paper.measuring import Measure, measured_for
from paper.networks import trained
from paper.records import Record

T = TypeVar("T")


def measured_figure(
    name: str,
    measure: Measure,
    read: Callable[[str, Measured], T],
    table: Callable[[T], list[dict[str, Any]]],
    findings: Callable[[T], list[Finding]],
    draw: Callable[[Sequence[T]], Any],
) -> Figure:
    """Make a figure of one trained network for each task.

    Args:
        name: Of its command and files.
        measure: Measures a network.
        read: Takes the task and the numbers of a network.
        table: Lists the rows of a network.
        findings: Tests the claims on a network.
        draw: Draws all networks.

    Returns:
        The figure; it raises a ValueError if a network was not measured.
    """

    def make(records: Sequence[Record], cfg: DictConfig) -> Result:
        found = [read(*one) for one in measured_for(name, records, cfg)]
        rows = [row for one in found for row in table(one)]
        return Result(draw(found), rows, [finding for one in found for finding in findings(one)])

    return Figure(name, trained, make, measure)
