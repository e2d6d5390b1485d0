"""Sums and counts: however the sequences are dealt out, the metric is that of all of them."""

import copy
import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torchmetrics import Metric

from lightning_lyap import LyapunovSpectrum, lyapunov_spectrum
from lightning_lyap.certificate import Check
from lightning_lyap.estimate import MeanSpectrum
from lightning_lyap.systems import linear_relu_network, product_step
from tests.cells import INPUT_SIZE, ONE_OF_EACH, Case, build
from tests.compare import assert_near

F64 = torch.float64
VECTORS = ("exponents", "std", "standard_errors", "margins", "resolved", "rounding_errors")


def sequences(batch: int, steps: int = 12) -> Tensor:
    return torch.randn(batch, steps, INPUT_SIZE, dtype=F64)


def scaled(*scales: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Sequences of diagonal 2 x 2 matrices for `product_step`, and their zero initial states."""
    rows = torch.tensor([[first, 0.0, 0.0, second] for first, second in scales], dtype=F64)
    return rows[:, None].repeat(1, 5, 1), torch.zeros(len(scales), 2, dtype=F64)


def measured(*batches: tuple[Any, ...], **settings: Any) -> LyapunovSpectrum:
    metric = LyapunovSpectrum(**settings)
    for batch in batches:
        metric.update(*batch)
    return metric


def assert_equal(got: MeanSpectrum, expected: MeanSpectrum, tolerance: float = 1e-12) -> None:
    for name in VECTORS:
        torch.testing.assert_close(
            getattr(got, name), getattr(expected, name), atol=tolerance, rtol=0, equal_nan=True
        )
    assert got.num_sequences == expected.num_sequences
    assert got.tangent_size == expected.tangent_size


def summed(one: LyapunovSpectrum, other: LyapunovSpectrum) -> LyapunovSpectrum:
    """Add the sums by hand."""
    for name in ("squares", "cross", "weights", "terms", "rounding", "unresolved"):
        setattr(one, name, getattr(one, name) + getattr(other, name))
    return one


def merged(one: LyapunovSpectrum, other: LyapunovSpectrum) -> LyapunovSpectrum:
    one.merge_state(other)
    return one


def merged_by_sums(one: LyapunovSpectrum, other: LyapunovSpectrum) -> LyapunovSpectrum:
    one.merge_state(other.metric_state)
    return one


JOINS = [summed, *([merged, merged_by_sums] if hasattr(Metric, "merge_state") else [])]
Join = Callable[[LyapunovSpectrum, LyapunovSpectrum], LyapunovSpectrum]


@pytest.mark.parametrize("join", JOINS)
@pytest.mark.parametrize("case", ONE_OF_EACH, ids=str)
def test_two_metrics_merged_are_one_over_all_sequences(case: Case, join: Join) -> None:
    module, x = case.module(), sequences(7)
    settings: dict[str, Any] = {"state": case.state, "warmup_steps": 2}
    one, other = (measured((module, part), **settings) for part in (x[:3], x[3:]))
    whole = measured((module, x), **settings)
    estimate = lyapunov_spectrum(module, x, **settings)
    assert_equal(join(one, other).mean_spectrum(), whole.mean_spectrum())
    assert_equal(whole.mean_spectrum(), estimate)


@pytest.mark.parametrize("join", JOINS)
def test_parts_that_sort_their_exponents_differently_are_merged_by_direction(join: Join) -> None:
    """The first part grows along the second vector, the second part along the first."""
    x, start = scaled((0.5, 3.0), (0.7, 2.0), (4.0, 0.1))
    one, other = (
        measured((product_step, x[:2], start[:2])),
        measured((product_step, x[2:], start[2:])),
    )
    assert one.cross[0, 0] < 0 < one.cross[0, 1]
    assert other.cross[0, 0] > 0 > other.cross[0, 1]
    spectrum = join(one, other).mean_spectrum()
    logs = torch.tensor([[0.5, 3.0], [0.7, 2.0], [4.0, 0.1]], dtype=F64).log()
    mean, order = logs.mean(0).sort(descending=True)
    assert_near(spectrum.exponents, mean, 1e-12)
    assert_near(spectrum.std, logs.std(0)[order], 1e-12)
    assert_near(spectrum.standard_errors, logs.std(0)[order] / math.sqrt(3), 1e-12)


def test_resolved_means_resolved_in_every_part() -> None:
    """Whatever the order of the parts, and of the exponents within each."""
    module = build("gru", hidden_size=3)
    one, other = (lyapunov_spectrum(module, sequences(2)) for _ in range(2))
    lost = one.order[2].item()  # the vector whose exponent comes last in one part
    unresolved = torch.zeros(3, dtype=torch.int64).index_fill(0, one.order[2:], 2)
    one = replace(one, sums=replace(one.sums, unresolved=unresolved))
    assert bool(other.resolved.all())
    for parts in ((one, other), (other, one)):
        metric = measured(*((part,) for part in parts))
        assert [i for i, times in enumerate(metric.unresolved.tolist()) if times] == [lost]
        assert metric.mean_spectrum().resolved.sum() == 2


def test_an_estimate_given_equals_measuring() -> None:
    module, x = build("gru"), sequences(5)
    estimate = lyapunov_spectrum(module, x, num_exponents=3, orthonormalize_every=2)
    settings = {"num_exponents": 3, "orthonormalize_every": 2}
    assert_equal(
        measured((estimate,), **settings).mean_spectrum(),
        measured((module, x), **settings).mean_spectrum(),
    )


def test_lengths_and_initial_states_are_handed_on() -> None:
    module, x = build("tanh"), sequences(3)
    initial = torch.randn(1, 3, 7, dtype=F64)
    lengths = [12, 4, 7]
    metric = measured((module, x, initial, lengths))
    estimate = lyapunov_spectrum(module, x, initial_state=initial, lengths=lengths)
    assert_equal(metric.mean_spectrum(), estimate)


@pytest.mark.parametrize("num_exponents", [1, 3])
def test_leading_exponents(num_exponents: int) -> None:
    module, x = build("gru"), sequences(6)
    metric = measured((module, x[:2]), (module, x[2:]), num_exponents=num_exponents)
    spectrum = metric.mean_spectrum()
    assert_equal(spectrum, lyapunov_spectrum(module, x, num_exponents=num_exponents))
    assert spectrum.num_exponents == num_exponents
    assert not spectrum.is_complete
    assert spectrum.measures().max == spectrum.exponents[0].item()


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
    assert "layer" not in measured((stack, x)).compute()
    assert "layer" not in measured((single, x), layers="union").compute()
    assert measured((single, x), layers="union").mean_spectrum().layer is None


def test_joint_and_layered_spectra_are_not_added() -> None:
    stack, x = build("gru", num_layers=2), sequences(2)
    metric = measured((lyapunov_spectrum(stack, x),))
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


def test_automatic_intervals_agree_within_their_tolerance() -> None:
    module, x = build("gru"), sequences(6, 40)
    settings: dict[str, Any] = {"orthonormalize_every": "auto"}
    parts = measured((module, x[:2]), (module, x[2:]), **settings).mean_spectrum()
    assert bool(parts.resolved.all())
    assert float(parts.rounding_errors.max()) <= 1e-6
    assert_near(parts.exponents, lyapunov_spectrum(module, x).exponents, 2e-6)


def test_one_batch_that_fails_its_certificate_is_never_forgotten() -> None:
    module, x = build("gru"), sequences(4)
    good = lyapunov_spectrum(module, x[:2])
    bad = replace(good, certificate=replace(good.certificate, states=Check(1.0, 1e-6)))
    for batches in ((good, bad), (bad, good)):
        assert not bool(measured(*((batch,) for batch in batches)).compute()["certified"])
    merged = measured((good,))
    merged.merge_state(measured((bad,)))
    assert not bool(merged.compute()["certified"])


def test_compute_returns_the_fields_by_name() -> None:
    values = measured((build("gru"), sequences(4))).compute()
    assert set(values) == {*VECTORS, "num_sequences", "tangent_size", "certified"}
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


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_without_a_sequence_nothing_is_known() -> None:
    spectrum = LyapunovSpectrum(3).mean_spectrum()
    assert spectrum.num_exponents == 3
    assert bool(spectrum.exponents.isnan().all())
    assert bool(spectrum.std.isnan().all())
    assert not bool(spectrum.resolved.any())
    assert (spectrum.num_sequences, spectrum.tangent_size) == (0, 0)
    assert LyapunovSpectrum().mean_spectrum().num_sequences == 0


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
@pytest.mark.parametrize("num_exponents", [None, 2])
def test_a_metric_without_sequences_merges_as_zero(num_exponents: int | None) -> None:
    module, x = build("gru"), sequences(3)
    full = measured((module, x), num_exponents=num_exponents)
    expected = full.mean_spectrum()
    empty = LyapunovSpectrum(num_exponents)
    empty.merge_state(full)
    full.merge_state(LyapunovSpectrum(num_exponents))
    assert_equal(empty.mean_spectrum(), expected, 0)
    assert_equal(full.mean_spectrum(), expected, 0)


def with_infinite_state(*broken: bool) -> tuple[nn.RNNBase, Tensor, Tensor]:
    module = build("relu")
    initial = torch.zeros(1, len(broken), 7, dtype=F64)
    initial[0, torch.tensor(broken), 0] = math.inf
    return module, sequences(len(broken)), initial


def test_sequences_that_overflow_are_left_out() -> None:
    module, x, initial = with_infinite_state(False, True, False)
    with pytest.warns(RuntimeWarning, match="1 of 3 sequences"):
        metric = measured((module, x, initial))
    assert_equal(metric.mean_spectrum(), lyapunov_spectrum(module, x[[0, 2]]))


def test_a_batch_that_overflows_altogether_changes_nothing() -> None:
    module, x, initial = with_infinite_state(True, True)
    good = sequences(3)
    with pytest.warns(RuntimeWarning, match="2 of 2 sequences"):
        metric = measured((module, x, initial), (module, good))
    assert_equal(metric.mean_spectrum(), lyapunov_spectrum(module, good))


def test_directions_mapped_to_zero_stay_at_minus_infinity() -> None:
    rnn = linear_relu_network(torch.diag(torch.tensor([0.5, 0.0], dtype=F64)))
    x = torch.ones(2, 6, 1, dtype=F64)
    spectrum = measured((rnn, x), (rnn, x)).mean_spectrum()
    assert spectrum.exponents.tolist() == pytest.approx([math.log(0.5), -math.inf])
    assert spectrum.resolved.tolist() == [True, False]
    assert spectrum.std[1].isnan()


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
        LyapunovSpectrum(3).update(estimate)


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


SHARES = {"both": [(0, 4), (4, 6)], "one idle": [(0, 6), (6, 6)]}
COUNTS = (7, 1, 3)
LAYERED_COUNTS = (None, 1, 17)


def synchronized(rank: int, folder: str) -> None:
    """One process of two: measure a share of the sequences, save what both know together."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    torch.manual_seed(0)
    module, x = build("gru"), sequences(6)
    results: dict[str, Any] = {}
    layered: dict[str, Any] = {}
    for name, shares in SHARES.items():
        for count in COUNTS:
            metric = LyapunovSpectrum(count)
            part = x[slice(*shares[rank])]
            if len(part):
                metric.update(module, part)
            results[f"{name} {count}"] = metric.compute()
    stack = build("lstm", num_layers=2)
    for name, shares in SHARES.items():
        for num_exponents in LAYERED_COUNTS:
            metric = LyapunovSpectrum(num_exponents, layers="union")
            metric.expect(stack)
            part = x[slice(*shares[rank])]
            if len(part):
                metric.update(stack, part)
            layered[f"{name} {num_exponents}"] = metric.compute()
    torch.save(layered, Path(folder) / f"layered-{rank}.pt")
    torch.save(results, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="needs torch.distributed with gloo",
)
def test_two_processes_equal_one(tmp_path: Path) -> None:
    """Also where one of them has no sequence."""
    spawn(synchronized, (str(tmp_path),), nprocs=2)
    torch.manual_seed(0)
    module, x = build("gru"), sequences(6)
    for rank in range(2):
        results = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert len(results) == len(SHARES) * len(COUNTS)
        for label, values in results.items():
            count = int(label.split()[-1])
            expected = lyapunov_spectrum(module, x, num_exponents=count)
            for name in VECTORS:
                assert_near(values[name].reshape(-1), getattr(expected, name), 1e-12)
            assert (values["num_sequences"], values["tangent_size"]) == (6, 7)
    stack = build("lstm", num_layers=2)
    for rank in range(2):
        results = torch.load(tmp_path / f"layered-{rank}.pt", weights_only=True)
        assert len(results) == len(SHARES) * len(LAYERED_COUNTS)
        for label, values in results.items():
            k = None if label.endswith("None") else int(label.split()[-1])
            expected = lyapunov_spectrum(stack, x, num_exponents=k, layers="union")
            assert expected.layer is not None
            for name in VECTORS:
                assert_near(values[name].reshape(-1), getattr(expected, name), 1e-12)
            assert values["layer"].reshape(-1).tolist() == expected.layer.tolist()
