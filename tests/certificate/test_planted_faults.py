"""Faults of all kinds, through what a user calls: the certificate fails for each of them.

And networks without a fault, of all kinds: it passes for each of them.
"""

import warnings

import pytest

from lightning_lyap import spectra_of
from tests.healthy_networks import draw
from tests.planted_in_networks import FAULTS


@pytest.mark.filterwarnings("ignore:The Lyapunov spectrum fails its certificate")
@pytest.mark.parametrize("name", list(FAULTS))
def test_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    estimate = FAULTS[name](monkeypatch)
    assert not estimate.certificate.passed
    if name.startswith("time_first"):
        assert "`batch_first = False`" in "".join(estimate.certificate.failures)


def alarms(seeds: range) -> list[str]:
    """Measure healthy networks; return those whose certificates fail."""
    found = []
    for seed in seeds:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            healthy = draw(seed)
            with healthy.around():
                measured = spectra_of(healthy.network, healthy.batch, **healthy.settings)
        found += [
            f"{seed}: {healthy.told}: {estimate.certificate.failures}"
            for estimate in measured.values()
            if estimate.num_sequences and not estimate.certificate.passed
        ]
    return found


@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_healthy_networks_pass(first: int) -> None:
    """A stack twice, a cell in a loop, a module of somebody's own."""
    assert alarms(range(first, 24, 4)) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The Lyapunov spectrum fails its certificate")
def test_all_faults_and_no_false_alarm(capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for name, plant in FAULTS.items():
        with pytest.MonkeyPatch.context() as patch:
            found += [] if plant(patch).certificate.passed else [name]
    false = alarms(range(200))
    with capsys.disabled():
        print(f"\n{len(FAULTS)} faults, {len(found)} found; 200 healthy, {len(false)} alarms")
    assert len(found) == len(FAULTS) >= 20
    assert false == []
