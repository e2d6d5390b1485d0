"""What a metric refuses: other sizes than before, settings that can't be, missing inputs."""

import pytest
from torchmetrics import Metric

from lightning_lyap import LyapunovSpectrum, lyapunov_spectrum
from tests.cells import build, sequences
from tests.metrics import measured


@pytest.mark.parametrize(
    ("num_exponents", "sizes"),
    [(None, (7, 5)), (2, (7, 5)), (1, (7, 5))],
    ids=["all", "two", "one"],
)
@pytest.mark.parametrize("way", ["update", "forward", "merge_state"])
def test_networks_of_different_size_need_metrics_of_their_own(
    way: str, num_exponents: int | None, sizes: tuple[int, int]
) -> None:
    if not hasattr(Metric, way):
        pytest.skip("torchmetrics before 1.6 has no merge_state")
    large, small = (build("gru", hidden_size=size) for size in sizes)
    x = sequences(2, 4)
    metric = measured((large, x), num_exponents=num_exponents)
    other = measured((small, x), num_exponents=num_exponents)
    given = (other,) if way == "merge_state" else (small, x)
    with pytest.raises(ValueError, match=r"Expected spectra of .* one metric for each recurrent"):
        getattr(metric, way)(*given)


def test_spectra_of_different_length_are_not_merged() -> None:
    """Sums of one exponent would be added to those of all by broadcasting."""
    module, x = build("gru"), sequences(2, 4)
    metric = measured((module, x))
    with pytest.raises(ValueError, match="7 exponents, N = 7, as before, but got 1, N = 7"):
        metric.merge_state(measured((module, x), num_exponents=1))


def test_an_estimate_of_another_length_than_announced_is_refused() -> None:
    estimate = lyapunov_spectrum(build("gru"), sequences(1, 4), num_exponents=2)
    with pytest.raises(ValueError, match=r"Expected spectra of 3 exponents, .* but got 2"):
        LyapunovSpectrum(3, layers="joint").update(estimate)


def test_settings_are_checked_at_once() -> None:
    with pytest.raises(ValueError, match="`num_exponents` to be at least 1"):
        LyapunovSpectrum(0)
    with pytest.raises(TypeError, match="`warmup_steps` to be an int"):
        LyapunovSpectrum(warmup_steps=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`orthonormalize_every` to be at least 1"):
        LyapunovSpectrum(orthonormalize_every=0)
    with pytest.raises(ValueError, match="`orthonormalize_every` to be an int or 'auto'"):
        LyapunovSpectrum(orthonormalize_every="often")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`layers` to be one of \('joint', 'union'\)"):
        LyapunovSpectrum(layers="each")  # type: ignore[arg-type]


def test_inputs_are_needed_beside_a_module() -> None:
    with pytest.raises(TypeError, match=r"Expected `inputs` \[B, T, I\] beside the dynamics"):
        LyapunovSpectrum().update(build("gru"))
