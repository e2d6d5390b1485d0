import math

import pytest

from paper.readout import converged, findings, read_out, sign_test
from paper.records import Record
from tests.paper.test_archive import ABOUT, record


def networks(count: int, told: float, loss_tells: bool) -> list[Record]:
    """Networks whose maximum after epoch 1 tells the final loss, and its loss then does or not."""
    made = []
    for i in range(count):
        top = -0.5 + told * 0.01 * i
        early = 3.0 + (0.1 * i if loss_tells else 0.1 * (i * 7 % count))
        losses = {1.0: early, 2.0: 2.0 + 0.01 * i}
        other = -3.0 - 0.01 * (i * 5 % count)
        rows = ([-1.0, -4.0], [top, other], [top, other])
        about = ABOUT | {"name": str(i)}
        made.append(Record(str(i), about, record(*rows).history, losses))
    return made


@pytest.mark.parametrize(("told", "verdict"), [(-1.0, "yes"), (1.0, "no")])
def test_an_early_maximum_that_tells_the_loss_is_seen(told: float, verdict: str) -> None:
    readout = read_out("charrnn", networks(13, told, loss_tells=False))
    tells, *_ = findings(readout)
    assert readout.early == 1.0
    assert tells.agree == verdict
    assert "epoch 1 of 2, n = 13" in tells.result


def test_what_the_early_loss_knows_already_adds_nothing() -> None:
    readout = read_out("charrnn", networks(13, -1.0, loss_tells=True))
    assert findings(readout)[1].agree == "undecided"
    row = readout.row(1.0, "max")
    assert row is not None
    assert row.given_early_loss is not None
    assert row.given_early_loss.value is None


def test_the_epoch_of_convergence_is_the_last_arrival() -> None:
    one = record([-4.0], [-1.0], [-2.5], [-2.05], [-2.0])
    assert converged(one, "max") == 3.0
    assert converged(record([-1.0], [-1.0]), "max") == 0.0


def test_the_sign_test_is_binomial() -> None:
    assert sign_test(9, 1) == pytest.approx(2 * (1 + 10) / 2**10)
    assert sign_test(3, 3) == 1.0
    assert math.isclose(sign_test(0, 0), 1.0)
