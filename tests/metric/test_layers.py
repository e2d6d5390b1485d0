"""The metric of layers apart, and a size that is known before the first sequence."""

from typing import Any

import pytest

from lightning_lyap import LyapunovSpectrum, lyapunov_spectrum
from tests.cells import build, sequences
from tests.metrics import JOINS, Join, assert_equal, measured


@pytest.mark.grid(every=2)
@pytest.mark.parametrize("join", JOINS)
@pytest.mark.parametrize("num_exponents", [None, 1, 4, 11])
def test_layers_apart_are_merged_exponent_by_exponent(
    join: Join, num_exponents: int | None
) -> None:
    """Parts whose exponents interleave otherwise; more columns are summed than exponents asked."""
    module, x = build("lstm", num_layers=3), sequences(5)
    settings: dict[str, Any] = {"num_exponents": num_exponents, "layers": "union"}
    one, other = (measured((module, part), **settings) for part in (x[:2], x[2:]))
    estimate = lyapunov_spectrum(module, x, **settings)
    joined = join(one, other).mean_spectrum()
    assert joined.layer is not None
    assert estimate.layer is not None
    assert_equal(joined, estimate)
    assert joined.layer.tolist() == estimate.layer.tolist()
    assert one.unresolved.numel() == 3 * min(num_exponents or 14, 14)
    assert one.compute()["layer"].reshape(-1).tolist() == estimate.layer.tolist()


def test_layers_are_told_where_there_are_several() -> None:
    x = sequences(2)
    stack, single = build("gru", num_layers=2), build("gru")
    assert "layer" not in measured((stack, x), layers="joint").compute()
    assert "layer" not in measured((single, x), layers="union").compute()
    assert measured((single, x), layers="union").mean_spectrum().layer is None


def test_joint_and_layered_spectra_are_not_added() -> None:
    stack, x = build("gru", num_layers=2), sequences(2)
    metric = measured((lyapunov_spectrum(stack, x, layers="joint"),))
    with pytest.raises(ValueError, match=r"with 14 exponents of each layer summed, .* but got 7"):
        metric.update(lyapunov_spectrum(stack, x, layers="union"))


@pytest.mark.parametrize("num_exponents", [None, 3, 9])
@pytest.mark.parametrize("layers", ["joint", "union"])
def test_the_size_is_known_before_the_first_sequence(
    layers: Any, num_exponents: int | None
) -> None:
    module, x = build("lstm", num_layers=2), sequences(3)
    settings: dict[str, Any] = {"num_exponents": num_exponents, "layers": layers}
    metric = LyapunovSpectrum(**settings)
    metric.expect(module)
    full = measured((module, x), **settings)
    for name, value in full.metric_state.items():
        assert getattr(metric, name).shape == value.shape  # type: ignore[union-attr]
    metric.update(module, x)
    assert_equal(metric.mean_spectrum(), full.mean_spectrum(), 0)
    metric.expect(module)
    assert_equal(metric.mean_spectrum(), full.mean_spectrum(), 0)
    with pytest.raises(ValueError, match="Use one metric for each recurrent"):
        metric.expect(build("gru"))
