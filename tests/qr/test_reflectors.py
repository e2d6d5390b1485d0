"""Bases kept as reflectors: factorizations and spectra are those of bases written out."""

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import lyapunov_spectrum
from lightning_lyap.dynamics import LayerChoice, from_torch_module
from lightning_lyap.dynamics.gates import GateWeights, mix_gates, mixed_columns
from lightning_lyap.estimator import trajectories
from lightning_lyap.qr import reflectors
from lightning_lyap.qr.error_bounds import CompactOrthonormalization
from lightning_lyap.qr.householder import householder_qr, reflector_qr
from lightning_lyap.qr.reflectors import Reflectors, better_as_reflectors, dense
from tests.compare import assert_near
from tests.exposing import expose

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13}


def _level(dtype: torch.dtype) -> Tensor:
    return torch.randn(4, 7, 7, dtype=dtype)


def _graded(dtype: torch.dtype) -> Tensor:
    """Rows over six orders of magnitude, in another order in each matrix; one matrix is level."""
    sizes = torch.stack([torch.logspace(0, -6, 7)[torch.randperm(7)] for _ in range(4)])
    sizes[2] = 1.0
    return sizes.to(dtype).unsqueeze(-1) * _level(dtype)


KINDS = {"level": _level, "graded": _graded}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflectors, "SMALLEST", 1)


def _reflect(basis: Tensor) -> Reflectors:
    return reflector_qr(basis).basis


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_factorization_is_that_of_householder(kind: str, dtype: torch.dtype) -> None:
    basis = KINDS[kind](dtype)
    compact, written = reflector_qr(basis), householder_qr(basis)
    assert_near(compact.basis.dense(), written.basis, TOLERANCE[dtype])
    assert_near(compact.log_stretch, written.log_stretch, TOLERANCE[dtype])
    assert compact.log_stretch.dtype == torch.float64
    assert compact.basis.shape == basis.shape


def test_products_are_those_with_the_basis_written_out(kind: str) -> None:
    basis = _reflect(KINDS[kind](torch.float64))
    matrix = torch.randn(4, 3, 7, dtype=torch.float64)
    product = basis.applied_to(matrix.mT.contiguous())
    assert_near(product, matrix @ basis.dense(), 1e-13)


def test_a_chain_of_products_and_factorizations_keeps_the_signs(kind: str) -> None:
    compact: Tensor | Reflectors = torch.eye(7, dtype=torch.float64).expand(4, -1, -1)
    written = dense(compact)
    for _ in range(5):
        matrix = KINDS[kind](torch.float64)
        if isinstance(compact, Reflectors):
            moved = compact.applied_to(matrix.mT.contiguous())
        else:
            moved = matrix @ compact
        compact = _reflect(moved)
        written = householder_qr(matrix @ written).basis
    assert_near(dense(compact), written, 1e-9)


def test_bases_on_top_of_each_other(kind: str) -> None:
    bases = _reflect(KINDS[kind](torch.float64))
    both = bases.stacked(2)
    assert both.shape == (2, 14, 7)
    alone = bases.dense()
    assert torch.equal(both.dense(), torch.cat([alone[:2], alone[2:]], dim=1))
    for k, part in enumerate(both.chunk(2, dim=-2)):
        assert torch.equal(part.dense(), alone[2 * k : 2 * k + 2])


def test_lost_columns_go_behind_the_others_as_with_householder(kind: str) -> None:
    basis = KINDS[kind](torch.float64)
    basis[1, :, 1] = 0
    basis[3, :, [0, 4]] = 0
    compact, written = reflector_qr(basis), householder_qr(basis)
    assert_near(compact.log_stretch, written.log_stretch, 1e-13)
    assert (compact.log_stretch == -torch.inf).sum(-1).tolist() == [0, 1, 0, 2]
    assert bool((compact.log_stretch[3, -2:] == -torch.inf).all())
    assert torch.equal(compact.resolved, written.resolved)
    assert not compact.rounding_error.isnan().any()
    assert float(compact.rounding_error[3, -2:].max()) == 0
    q = compact.basis.dense()
    assert_near(q.mT @ q, torch.eye(7, dtype=torch.float64).expand(4, -1, -1), 1e-13)
    assert_near(q[..., :5], written.basis[..., :5], 1e-13)


def test_bounds_of_errors_are_not_smaller_than_those_of_householder_by_far(kind: str) -> None:
    basis = KINDS[kind](torch.float32)
    compact, written = reflector_qr(basis), householder_qr(basis)
    ratio = compact.rounding_error / written.rounding_error
    if kind == "level":
        torch.testing.assert_close(ratio, torch.ones_like(ratio), atol=1e-4, rtol=0)
    # Sixteen samples of a square: off by more than a factor of 2 once in ten thousand.
    assert 0.5 < float(ratio.min()) <= float(ratio.max()) < 2


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_noise_is_not_resolved_and_the_rest_is(scale: float) -> None:
    q, _ = torch.linalg.qr(torch.randn(6, 40, 40, dtype=torch.float64))
    p, _ = torch.linalg.qr(torch.randn(6, 40, 40, dtype=torch.float64))
    sizes = torch.logspace(0, -12, 40, dtype=torch.float64)
    basis = scale * (q * sizes) @ p
    exact = reflector_qr(basis)
    rounded = reflector_qr(basis.float())
    error = (rounded.log_stretch - exact.log_stretch).abs()
    assert float(error[rounded.resolved].max()) < 1
    assert bool((~rounded.resolved).any())
    assert bool(rounded.resolved[:, :10].all())


@pytest.mark.parametrize("gates", [1, 4])
def test_columns_of_the_weighted_sum(gates: int) -> None:
    weight = torch.randn(gates, 3, 5, dtype=torch.float64)
    coefficients = torch.randn(2, gates, 3, dtype=torch.float64)
    expected = torch.einsum("bgh,ghd->bhd", coefficients, weight)
    columns = mixed_columns(GateWeights(weight.flatten(0, 1), gates)[:], coefficients, None)
    assert columns.is_contiguous()
    assert_near(columns.mT, expected, 1e-14)


def test_a_diagonal_is_added_in_every_way(kind: str) -> None:
    basis = _reflect(KINDS[kind](torch.float64))
    weight = GateWeights(torch.randn(21, 7, dtype=torch.float64), 3)[:]
    slopes, diagonal = (torch.randn(4, *s, 7, dtype=torch.float64) for s in ((3,), ()))
    expected = mix_gates(weight, slopes, basis.dense()) + diagonal[..., None] * basis.dense()
    for tangent in (basis, basis.dense()):
        assert_near(mix_gates(weight, slopes, tangent, diagonal), expected, 1e-13)
    few = basis.dense()[..., :1]
    assert_near(mix_gates(weight, slopes, few, diagonal), expected[..., :1], 1e-13)


SETTINGS: dict[str, dict[str, object]] = {
    "every step": {},
    "every third": {"orthonormalize_every": 3},
    "auto": {"orthonormalize_every": "auto"},
    "warm-up": {"warmup_steps": 4, "orthonormalize_every": 3},
    "lengths": {"lengths": [13, 9, 13]},
    "union": {"layers": "union"},
}


def _network(name: str, num_layers: int) -> nn.RNNBase:
    kinds = {"tanh": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM, "projected": nn.LSTM}
    more = {"proj_size": 5} if name == "projected" else {}
    more |= {"num_layers": num_layers, "batch_first": True}
    network: nn.RNNBase = kinds[name](2, 6, dtype=torch.float64, **more)
    return network


@pytest.mark.grid(every=5)
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("name", ["tanh", "GRU", "LSTM", "projected"])
def test_spectra_are_the_same(name: str, settings: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = _network(name, num_layers=3 if settings == "union" else 1)
    inputs = torch.randn(3, 13, 2, dtype=torch.float64)
    given: dict[str, object] = {"keep_log_stretches": True} | SETTINGS[settings]
    if "LSTM" in name or name == "projected":
        given["state"] = "hidden"
    found = []
    for smallest in (1, 1000):
        monkeypatch.setattr(reflectors, "SMALLEST", smallest)
        found.append(lyapunov_spectrum(network, inputs, **given))  # type: ignore[arg-type]
    compact, written = found
    assert compact.certificate.passed
    assert compact.certificate.checks.keys() == written.certificate.checks.keys()
    if settings == "auto":
        # What it promises: the samples may choose other intervals.
        assert_near(compact.exponents, written.exponents, 1e-6)
    else:
        assert_near(compact.exponents, written.exponents, 1e-10)
        assert_near(compact.log_stretches, written.log_stretches, 1e-8)
        assert_near(compact.final_basis, written.final_basis, 1e-8)
    assert torch.equal(compact.resolved, written.resolved)


def test_a_network_that_loses_directions_keeps_its_reflectors(
    always: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rectified units that are silent lose their directions; the others are measured."""
    network = nn.RNN(1, 4, nonlinearity="relu", bias=False, batch_first=True)
    network.weight_ih_l0 = nn.Parameter(torch.tensor([[1.0], [1.0], [0.0], [0.0]]))
    network.weight_hh_l0 = nn.Parameter(torch.diag(torch.tensor([0.5, 0.25, 1.0, 1.0])))
    monkeypatch.setattr(trajectories, "orthonormalize", lambda _: pytest.fail("written out"))
    estimate = lyapunov_spectrum(network, torch.ones(2, 30, 1))
    assert_near(estimate.exponents[:2].exp().float(), torch.tensor([0.5, 0.25]), 1e-6)
    assert bool((estimate.exponents[2:] == -torch.inf).all())


@pytest.mark.parametrize("layers", ["joint", "union"])
def test_reflectors_that_are_not_orthogonal_are_found(
    layers: LayerChoice, always: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A coefficient that is off makes of a reflection another map, which keeps no lengths."""
    network = _network("GRU", num_layers=1 if layers == "joint" else 2)
    inputs = torch.randn(3, 9, 2, dtype=torch.float64)
    check = lyapunov_spectrum(network, inputs, layers=layers).certificate.orthogonality
    assert check is not None
    assert check.passed
    made = reflector_qr

    def spoiled(basis: Tensor) -> CompactOrthonormalization:
        result = made(basis)
        result.basis._scales[-1, 2] *= 1 + 1e-9
        return result

    monkeypatch.setattr(trajectories, "reflector_qr", spoiled)
    expose(network, inputs, "orthogonality", layers=layers)


def test_large_complete_bases_of_single_layers_are_kept_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert better_as_reflectors(torch.empty(2, 128, 128))
    assert not better_as_reflectors(torch.empty(2, 128, 127))
    assert not better_as_reflectors(torch.empty(2, 127, 127))
    assert better_as_reflectors(torch.empty(2, 256, 128), blocks=2)
    assert not better_as_reflectors(torch.empty(2, 128, 64), blocks=2)
    assert not better_as_reflectors(torch.empty(2, 128, 128, device="meta"))
    takes = {
        "GRU": from_torch_module(nn.GRU(1, 3)),
        "hidden": from_torch_module(nn.LSTM(1, 3), state="hidden"),
        "full": from_torch_module(nn.LSTM(1, 3), state="full"),
        "stack": from_torch_module(nn.GRU(1, 3, num_layers=2)),
    }
    said = {name: system.takes_reflectors for name, system in takes.items()}
    assert said == {"GRU": True, "hidden": True, "full": False, "stack": False}

    calls = []
    own = Reflectors.applied_to

    def count(basis: Reflectors, columns: Tensor) -> Tensor:
        calls.append(basis.shape)
        return own(basis, columns)

    monkeypatch.setattr(reflectors, "SMALLEST", 3)
    monkeypatch.setattr(Reflectors, "applied_to", count)
    lyapunov_spectrum(nn.GRU(1, 3), torch.randn(2, 5, 1))
    assert calls == [(2, 3, 3)] * 4
