"""Orthonormalization: the factorization's defining properties, signs, and lost columns."""

import math
from collections.abc import Iterator

import pytest
import torch

from lightning_lyap.dynamics import from_torch_module
from lightning_lyap.householder import householder_qr, reflector_qr
from lightning_lyap.orthonormal import orthonormalize, random_orthonormal_basis
from tests.cells import INPUT_SIZE, ONE_OF_EACH, Case, random_state
from tests.compare import assert_near


@pytest.mark.parametrize(("size", "count"), [(1, 1), (5, 5), (7, 3), (6, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_factorization(size: int, count: int, dtype: torch.dtype) -> None:
    basis = torch.randn(4, size, count, dtype=dtype)
    q, log_stretch, *_ = orthonormalize(basis)
    tolerance = 100 * torch.finfo(dtype).eps
    assert_near(q.mT @ q, torch.eye(count, dtype=dtype).expand(4, -1, -1), tolerance)
    r = q.mT @ basis
    assert_near(q @ r, basis, tolerance)
    assert float(r.tril(-1).abs().max()) < tolerance
    assert q.dtype == dtype
    assert log_stretch.dtype == torch.float64
    torch.testing.assert_close(
        log_stretch.exp().to(dtype), r.diagonal(dim1=-2, dim2=-1), atol=tolerance, rtol=tolerance
    )


def test_diagonal_is_positive_so_columns_keep_their_side() -> None:
    """Each q has a positive product with its own column: the factorization is unique."""
    basis = torch.randn(10, 6, 4, dtype=torch.float64)
    q, *_ = orthonormalize(basis)
    assert bool(((q * basis).sum(1) > 0).all())
    again, stretch, *_ = orthonormalize(q)
    assert_near(again, q, 1e-14)
    assert_near(stretch, torch.zeros_like(stretch), 1e-14)


def test_natural_logarithm() -> None:
    _, log_stretch, *_ = orthonormalize(torch.diag(torch.tensor([math.e, 1.0, 1 / math.e]))[None])
    torch.testing.assert_close(log_stretch[0], torch.tensor([1.0, 0, -1]).double())


def test_stretches_of_float32_bases_are_logged_in_float64() -> None:
    _, log_stretch, *_ = orthonormalize(torch.full((1, 1, 1), 3.0))
    assert float(log_stretch) == pytest.approx(math.log(3), abs=1e-15)


def test_sequences_are_factored_independently() -> None:
    basis = torch.randn(5, 6, 4, dtype=torch.float64)
    whole = orthonormalize(basis)
    for b in range(5):
        for part, all_of_it in zip(orthonormalize(basis[b : b + 1]), whole, strict=True):
            assert_near(part[0], all_of_it[b], 1e-14)


def test_zero_columns_go_behind_the_others() -> None:
    """What is left spans a plane with stretches 1 and 2; the lost column measures nothing."""
    basis = torch.zeros(2, 3, 3, dtype=torch.float64)
    basis[0, 0, 1], basis[0, 1, 2] = 1.0, 2.0
    basis[1] = torch.eye(3)
    q, log_stretch, *_ = orthonormalize(basis)
    assert log_stretch[0].tolist() == [0.0, math.log(2), -math.inf]
    assert log_stretch[1].tolist() == [0, 0, 0]
    identity = torch.eye(3, dtype=torch.float64).expand(2, -1, -1)
    assert_near(q.mT @ q, identity, 1e-14)


def test_columns_whose_squares_vanish_stay_where_they_are() -> None:
    basis = torch.diag(torch.tensor([1.0, 1e-25, 1.0]))[None]
    for factor in (householder_qr, reflector_qr):
        log_stretch = factor(basis).log_stretch[0].tolist()
        assert log_stretch == pytest.approx([0, math.log(1e-25), 0], abs=1e-6)


def test_a_lost_column_does_not_hide_the_others() -> None:
    """``[[0, 1], [0, 0]]`` stretches one direction by 1 and loses the other."""
    _, log_stretch, *_ = orthonormalize(torch.tensor([[[0.0, 1.0], [0.0, 0.0]]]))
    assert log_stretch[0].tolist() == [0, -math.inf]


def test_zero_columns_get_an_orthonormal_replacement_that_grows_again() -> None:
    q, log_stretch, *_ = orthonormalize(torch.zeros(2, 4, 3))
    assert bool((log_stretch == -math.inf).all())
    torch.testing.assert_close(q.mT @ q, torch.eye(3).expand(2, -1, -1))
    _, log_stretch, *_ = orthonormalize(2 * q)
    torch.testing.assert_close(log_stretch, torch.full((2, 3), math.log(2)).double())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_sequence_that_is_not_finite_spoils_no_other(bad: float) -> None:
    basis = torch.randn(3, 4, 4, dtype=torch.float64)
    expected = orthonormalize(basis)
    basis[1, 2, 0] = bad
    q, log_stretch, *_ = orthonormalize(basis)
    assert not bool(log_stretch[1].isfinite().all())
    for b in (0, 2):
        assert torch.equal(q[b], expected[0][b])
        assert torch.equal(log_stretch[b], expected[1][b])


def test_graded_rows_keep_their_stretches() -> None:
    """Rows of size 1 to e^-40, as saturated units make them, in float32.

    ``R = D Q`` has no diagonal in closed form, so float64 is the reference: it resolves e^-36.
    """
    rows = torch.linspace(0, -40, 8, dtype=torch.float64)[torch.tensor([3, 0, 7, 5, 1, 6, 2, 4])]
    basis = rows.exp().unsqueeze(-1) * torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64)).Q
    single, double = orthonormalize(basis.float()[None]), orthonormalize(basis[None])
    assert bool(single.resolved.all())
    assert_near(single.log_stretch, double.log_stretch, 1e-3)
    assert float(single.log_stretch.sum()) == pytest.approx(float(rows.sum()), abs=1e-3)


@pytest.mark.parametrize("size", [4, 64, 256])
def test_rounding_noise_is_not_resolved(size: int) -> None:
    """Half the rank: the other half of the diagonal is noise, some ``sqrt(N) eps``.

    The margin lets one in fifty through at most; an exponent must pass at every factorization.
    """
    half = size // 2
    flat = torch.randn(5, size, half) @ torch.randn(5, half, size) / size
    resolved = orthonormalize(flat).resolved
    assert bool(resolved[:, : half - 1].all())
    assert float(resolved[:, half:].float().mean()) < 0.02


def test_zero_columns_are_not_resolved() -> None:
    assert orthonormalize(torch.eye(3)[None]).resolved.tolist() == [[True] * 3]
    assert not bool(orthonormalize(torch.zeros(1, 3, 3)).resolved.any())


def test_random_basis_is_orthonormal_seeded_and_private() -> None:
    before = torch.get_rng_state()
    cpu = torch.device("cpu")
    basis = random_orthonormal_basis(9, 4, 3, torch.float64, cpu)
    assert torch.equal(torch.get_rng_state(), before)
    assert_near(basis.mT @ basis, torch.eye(4).double(), 1e-14)
    assert torch.equal(basis, random_orthonormal_basis(9, 4, 3, torch.float64, cpu))
    assert not torch.equal(basis, random_orthonormal_basis(9, 4, 4, torch.float64, cpu))
    single = random_orthonormal_basis(9, 4, 3, torch.float32, cpu)
    assert torch.equal(single, basis.float())


def test_random_basis_is_uniformly_distributed() -> None:
    """The mean square of an entry is 1/N. 200 bases: its error is about sqrt(2)/N/sqrt(200)."""
    entries = torch.stack(
        [
            random_orthonormal_basis(5, 1, seed, torch.float64, torch.device("cpu"))[:, 0]
            for seed in range(200)
        ]
    )
    assert_near(entries.square().mean(0), torch.full((5,), 0.2).double(), 4 * 0.02)
    assert float(entries.mean(0).abs().max()) < 4 * (0.2 / 200) ** 0.5


def test_a_single_vector_ignores_the_default_device() -> None:
    vector = torch.tensor([[[0.0], [-2.0]], [[0.0], [0.0]]])
    with torch.device("meta"):
        result = orthonormalize(vector)
    assert result.basis[..., 0].tolist() == [[0.0, -1.0], [1.0, 0.0]]


def test_random_basis_ignores_the_default_device() -> None:
    with torch.device("meta"):
        basis = random_orthonormal_basis(4, 2, 0, torch.float64, torch.device("cpu"))
    assert basis.device.type == "cpu"


def graded(dtype: torch.dtype, lowest: float = -60.0) -> torch.Tensor:
    """Rows of a well-conditioned matrix scaled from 1 down to ``exp(lowest)``, in mixed order."""
    scales = torch.linspace(0, lowest, 30, dtype=torch.float64).exp()[torch.randperm(30)]
    return (scales.unsqueeze(1) * torch.linalg.qr(torch.randn(30, 30).double()).Q)[None].to(dtype)


@pytest.fixture(params=[False, True], ids=["denormals", "flushed"])
def flush(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run with denormal numbers as they are, and flushed to zero, as training may set it."""
    torch.set_flush_denormal(request.param)
    yield
    torch.set_flush_denormal(False)


@pytest.mark.usefixtures("flush")
@pytest.mark.parametrize("lowest", [-20, -40, -60, -80])
def test_rows_of_very_different_size_keep_their_accuracy(lowest: float) -> None:
    """Float32 finds stretches of -80 nats, where plain QR returns noise nats above them."""
    exact = graded(torch.float64, lowest).float().double()
    single, double = orthonormalize(exact.float()), orthonormalize(exact)
    assert float(double.log_stretch.min()) < lowest + 5
    assert bool(single.resolved.all())
    # Relative errors of some 1e-7 times the condition of the unscaled rows.
    torch.testing.assert_close(single.log_stretch, double.log_stretch, rtol=0, atol=1e-3)
    plain = torch.linalg.qr(exact.float()).R.diagonal(dim1=-2, dim2=-1).abs().log().double()
    assert float((plain - double.log_stretch).abs().max()) > (1 if lowest < -20 else 0.01)


def test_large_entries_are_resolved() -> None:
    _, log_stretch, resolved, _ = orthonormalize(torch.diag(torch.tensor([1e20, 1.0, 1e19]))[None])
    expected = torch.tensor([1e20, 1.0, 1e19]).double().log()
    torch.testing.assert_close(log_stretch[0], expected, rtol=1e-6, atol=1e-6)
    assert bool(resolved.all())


def test_bounds_are_the_same_at_any_scale() -> None:
    q, _ = torch.linalg.qr(torch.randn(2, 20, 20, dtype=torch.float64))
    p, _ = torch.linalg.qr(torch.randn(2, 20, 20, dtype=torch.float64))
    basis = (q * torch.logspace(0, -5, 20, dtype=torch.float64)) @ p
    near, far = (orthonormalize((scale * basis).float()) for scale in (1.0, 1e38))
    assert bool(near.resolved.all())
    assert bool(far.resolved.all())
    torch.testing.assert_close(far.rounding_error, near.rounding_error, rtol=0.5, atol=0)


def test_moderately_different_rows_stay_accurate_in_place() -> None:
    """Just below the factor from which rows are sorted: errors of ``1e3 eps``, as documented."""
    exact = graded(torch.float64, -6.9).float().double()
    single, double = orthonormalize(exact.float()), orthonormalize(exact)
    torch.testing.assert_close(single.log_stretch, double.log_stretch, rtol=0, atol=3e-4)
    assert bool(single.resolved.all())


@pytest.mark.parametrize("count", [30, 7])
def test_order_of_the_rows_changes_nothing_but_theirs(count: int) -> None:
    basis = graded(torch.float64)[..., :count]
    order = torch.randperm(30)
    one, other = orthonormalize(basis), orthonormalize(basis[:, order])
    torch.testing.assert_close(one.log_stretch, other.log_stretch, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(one.basis[:, order], other.basis, rtol=1e-6, atol=1e-9)


def test_what_is_left_of_a_cancellation_is_not_resolved() -> None:
    """Rows that are equal but for 1e-9: float32 has lost the difference, float64 has it."""
    row = torch.randn(6, dtype=torch.float64)
    basis = torch.randn(1, 6, 6, dtype=torch.float64)
    basis[0, 1] = row
    basis[0, 4] = row * (1 + 1e-9 * torch.randn(6).double())
    single, double = orthonormalize(basis.float()), orthonormalize(basis)
    assert single.resolved[0].tolist() == [True] * 5 + [False]
    assert bool(double.resolved.all())
    torch.testing.assert_close(
        single.log_stretch[:, :5], double.log_stretch[:, :5], rtol=0, atol=1e-4
    )


def error_ratios(basis: torch.Tensor) -> torch.Tensor:
    """Errors of float32's resolved stretches, in units of their bounds; float64 knows them."""
    single = basis.float()
    got, exact = orthonormalize(single), orthonormalize(single.double())
    known = got.resolved & (got.rounding_error > 0)
    return ((got.log_stretch - exact.log_stretch).abs() / got.rounding_error)[known]


def random_bases(kind: str, lowest: float, size: int) -> torch.Tensor:
    """Make bases with rows, columns or singular values from 1 down to ``exp(lowest)``."""
    scales = torch.linspace(0, lowest, size, dtype=torch.float64).exp()
    left, right = (torch.linalg.qr(torch.randn(20, size, size).double()).Q for _ in range(2))
    if kind == "columns":
        return torch.randn(20, size, size).double() * scales
    if kind == "singular values":
        return left @ (scales.unsqueeze(-1) * right)
    rows = scales[torch.stack([torch.randperm(size) for _ in range(20)])].unsqueeze(-1) * left
    return rows if kind == "rows" else rows[..., : size // 2]


@pytest.mark.parametrize(
    ("kind", "lowest"),
    [("columns", low) for low in (0, -4, -10, -20, -40)]
    + [("singular values", low) for low in (0, -4, -10, -20, -40)]
    + [("rows", low) for low in (0, -4)]
    + [("fewer columns", low) for low in (0, -4, -10)],
)
def test_bounds_hold_for_random_bases(kind: str, lowest: float) -> None:
    """The median lies at 0.02 to 0.16 of the bound, 99 % below 0.9."""
    ratios = torch.cat([error_ratios(random_bases(kind, lowest, n)) for n in (4, 10, 32, 64)])
    assert ratios.numel() > 500
    assert float((ratios > 1).float().mean()) < 0.01
    assert float(ratios.max()) < 10
    assert float(ratios.median()) > 0.02


@pytest.mark.parametrize("lowest", [-10, -20])
def test_bounds_of_graded_rows_are_less_sure(lowest: float) -> None:
    """Cox and Higham pivot the columns; in a run earlier steps have ordered them, here nothing."""
    ratios = torch.cat([error_ratios(random_bases("rows", lowest, n)) for n in (4, 10, 32, 64)])
    assert 0.02 < float(ratios.median()) < 0.2
    assert float((ratios > 1).float().mean()) < 0.05
    assert float(ratios.max()) < 30


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=str)
@torch.no_grad()
def test_bounds_hold_for_products_of_jacobians(case: Case) -> None:
    """Blocks of one to four steps of every kind of network."""
    ratios = []
    for _ in range(4):
        module = case.module()
        system = from_torch_module(module, case.state)
        state = system.initial_state(random_state(module, 8), 8)
        basis = torch.eye(system.tangent_size, dtype=torch.float64).expand(8, -1, -1)
        for steps in (1, 2, 3, 4) * 3:
            for drive in system.drive(torch.randn(8, steps, INPUT_SIZE, dtype=torch.float64)):
                state, push = system.step(drive, state)
                basis = push(basis)
            ratios.append(error_ratios(basis))
            basis = orthonormalize(basis).basis
    all_ratios = torch.cat(ratios)
    assert all_ratios.numel() > 1000
    assert float((all_ratios > 1).float().mean()) < 0.01
    assert float(all_ratios.max()) < 10
    assert float(all_ratios.median()) > 0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bounds_in_closed_form(dtype: torch.dtype) -> None:
    """Orthogonal columns have the condition 1, whatever their lengths."""
    eps = torch.finfo(dtype).eps
    basis = torch.eye(4, dtype=dtype) * torch.tensor([1.0, 3.0, 0.1, 20.0], dtype=dtype)
    error = orthonormalize(basis[None]).rounding_error
    expected = torch.full((1, 4), 3 * eps, dtype=torch.float64)
    torch.testing.assert_close(error, expected, rtol=1e-6, atol=0)
    column = torch.randn(1, 5, 1, dtype=dtype)
    parallel = orthonormalize(column.repeat(1, 1, 2))
    assert parallel.rounding_error[0, 1] > 1 or parallel.log_stretch[0, 1] == -math.inf
    assert parallel.resolved.tolist() == [[True, False]]


def test_bounds_grow_as_columns_close_in() -> None:
    """Two columns at a small angle: the second keeps what is left, so the error goes as 1/angle."""
    angles = torch.tensor([1e-1, 1e-2, 1e-3], dtype=torch.float64)
    turned = torch.stack([0 * angles, angles]) + math.pi / 4
    basis = torch.stack([turned.cos(), turned.sin()]).permute(2, 0, 1)
    error = orthonormalize(basis).rounding_error
    growth = error[1:, 1] / error[:-1, 1]
    torch.testing.assert_close(growth, torch.full_like(growth, 10.0), rtol=0.1, atol=0)
    torch.testing.assert_close(error[:, 0], error[:1, 0].expand(3))


def test_zero_columns_have_no_error() -> None:
    basis = torch.zeros(2, 3, 3)
    basis[0, 0, 1] = 1.0
    assert orthonormalize(basis).rounding_error[:, 1:].tolist() == [[0.0, 0.0]] * 2
    assert orthonormalize(basis).rounding_error.isfinite().all()
