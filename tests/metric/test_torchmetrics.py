"""A metric as all of torchmetrics: computed, reset, copied, saved, cast and plotted."""

import copy
import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import LyapunovSpectrum, lyapunov_spectrum
from tests.cells import F64, build, sequences
from tests.compare import assert_near
from tests.metrics import VECTORS, assert_equal, measured


def test_compute_returns_the_fields_by_name() -> None:
    values = measured((build("gru"), sequences(4))).compute()
    assert set(values) == {
        *VECTORS,
        "num_sequences",
        "num_steps",
        "warmup_steps",
        "settled",
        "statistic_errors",
        "overlap",
        "steps_to_settle",
        "tangent_size",
        "certified",
    }
    assert bool(values["certified"])
    assert all(isinstance(value, Tensor) for value in values.values())
    assert (values["num_sequences"].item(), values["tangent_size"].item()) == (4, 7)
    assert values["exponents"].dtype == F64
    assert bool((values["exponents"].diff() <= 0).all())


def test_float32_networks_are_summed_in_float64() -> None:
    values = measured((nn.GRU(3, 4, batch_first=True), torch.randn(2, 5, 3))).compute()
    assert values["exponents"].dtype == values["std"].dtype == F64


def test_forward_returns_the_batch_and_accumulates() -> None:
    module, x = build("lstm"), sequences(6)
    metric = LyapunovSpectrum()
    for part in (x[:4], x[4:]):
        value = metric(module, part)
        expected = lyapunov_spectrum(module, part)
        assert_near(value["exponents"], expected.exponents, 1e-12)
        assert_near(value["std"], expected.std, 1e-9)
        assert value["num_sequences"] == len(part)
    assert_equal(metric.mean_spectrum(), lyapunov_spectrum(module, x))


def test_reset_forgets_everything_but_the_settings() -> None:
    metric = measured((build("gru"), sequences(2)), orthonormalize_every=4)
    metric.compute()
    metric.reset()
    assert int(metric.terms[0]) == int(metric.tangent_size) == 0
    smaller, x = build("gru", hidden_size=3), sequences(2)
    metric.update(smaller, x)
    expected = lyapunov_spectrum(smaller, x, orthonormalize_every=4)
    assert_equal(metric.mean_spectrum(), expected)


def test_what_was_computed_before_a_merge_is_computed_anew() -> None:
    module, x = build("gru"), sequences(5)
    one, other = measured((module, x[:2])), measured((module, x[2:]))
    one.compute()
    one.merge_state(other)
    assert_equal(one.mean_spectrum(), lyapunov_spectrum(module, x))


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, LyapunovSpectrum.clone],
    ids=["deepcopy", "clone"],
)
def test_copies_go_on_independently(copied: Callable[[LyapunovSpectrum], LyapunovSpectrum]) -> None:
    module, x = build("gru"), sequences(5)
    metric = measured((module, x[:2]), orthonormalize_every=3, dtype=F64)
    twin = copied(metric)
    twin.update(module, x[2:])
    assert_equal(twin.mean_spectrum(), lyapunov_spectrum(module, x, orthonormalize_every=3))
    assert_equal(metric.mean_spectrum(), lyapunov_spectrum(module, x[:2], orthonormalize_every=3))


@pytest.mark.parametrize("num_exponents", [None, 1, 3])
def test_state_goes_through_a_file_of_tensors_alone(num_exponents: int | None) -> None:
    module, x = build("gru"), sequences(5)
    metric = measured((module, x[:2]), num_exponents=num_exponents)
    assert metric.state_dict() == {}  # as all of torchmetrics: only when asked for
    metric.persistent(True)
    file = io.BytesIO()
    torch.save(metric.state_dict(), file)
    file.seek(0)
    restored = LyapunovSpectrum(num_exponents)
    restored.load_state_dict(torch.load(file, weights_only=True))
    restored.update(module, x[2:])
    expected = lyapunov_spectrum(module, x, num_exponents=num_exponents)
    assert_equal(restored.mean_spectrum(), expected)


def test_a_network_cast_to_half_precision_leaves_its_metric_in_float64() -> None:
    module, x = build("gru"), sequences(2)
    holder = nn.ModuleDict({"network": nn.Linear(2, 2), "metric": measured((module, x))})
    expected = lyapunov_spectrum(module, x)
    holder.half().to("cpu").bfloat16()
    metric = holder["metric"]
    assert isinstance(metric, LyapunovSpectrum)
    assert metric.half().cross.dtype == metric.squares.dtype == F64
    assert_equal(metric.mean_spectrum(), expected)


def test_works_across_inference_mode() -> None:
    module, x = build("gru"), sequences(4)
    metric = LyapunovSpectrum()
    with torch.inference_mode():
        metric.update(module, x[:2])
        metric.compute()
    metric.update(module, x[2:])
    assert_equal(metric.mean_spectrum(), lyapunov_spectrum(module, x))


def test_plot() -> None:
    metric = measured((build("gru"), sequences(3)))
    figure, ax = metric.plot()
    assert ax.figure is figure
    drawn = ax.get_lines()[1].get_ydata()
    assert_near(torch.tensor(drawn), metric.mean_spectrum().exponents)
    twice, same = metric.plot(metric.compute(), ax=ax)
    assert (twice, same) == (figure, ax)
    one = measured((build("gru"), sequences(3)), num_exponents=1)
    assert len(one.plot()[1].get_lines()[1].get_ydata()) == 1
