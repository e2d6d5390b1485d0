"""Systems whose spectra are known; see `lightning_lyap.systems` for their sources."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import kaplan_yorke_dimension
from lightning_lyap.systems import (
    HENON,
    LORENZ,
    MEAN_FIELD,
    gaussian_product_exponents,
    gaussian_product_variances,
    henon_step,
    kaplan_yorke_step,
    linear_relu_network,
    linear_step,
    log_moduli,
    lorenz_step,
    product_step,
    random_tanh_network,
    skewed_matrix,
)
from tests.cells import build
from tests.compare import assert_near
from tests.plain import plain_spectrum

F64 = torch.float64


def no_input(batch: int, steps: int) -> Tensor:
    return torch.zeros(batch, steps, 0, dtype=F64)


@pytest.mark.parametrize("num_exponents", [None, 3])
def test_normal_linear_map(num_exponents: int | None) -> None:
    """Symmetric: the basis turns into the eigenvectors; the turning itself costs about 2/T."""
    q = torch.linalg.qr(torch.randn(5, 5, dtype=F64)).Q
    matrix = q @ torch.diag(torch.tensor([2.0, -1.0, 0.5, 0.2, -0.05]).double()) @ q.T
    estimate = plain_spectrum(
        linear_step(matrix),
        no_input(1, 200),
        initial_state=torch.zeros(1, 5, dtype=F64),
        num_exponents=num_exponents,
        warmup_steps=100,
    )
    expected = log_moduli(matrix)[:num_exponents]
    assert_near(estimate.exponents, expected, 1e-10)


def test_non_normal_linear_map_with_rotations() -> None:
    """Eigenvalues, not singular values: they differ by far here. Complex pairs turn for ever.

    Their stretches oscillate with a bounded sum, hence the error of order 1/T.
    """
    matrix = skewed_matrix()
    estimate = plain_spectrum(
        linear_step(matrix), no_input(1, 500), initial_state=torch.zeros(1, 6, dtype=F64)
    )
    assert_near(estimate.exponents, log_moduli(matrix), 5 / 500)
    singular = torch.linalg.svdvals(matrix).log()
    assert float((singular - log_moduli(matrix)).abs().max()) > 0.3


def test_linear_part_of_a_relu_network() -> None:
    """Upper triangular and positive: the identity stays, so the diagonal is exact, in nats."""
    matrix = torch.rand(4, 4, dtype=F64).triu()
    matrix.diagonal().copy_(torch.tensor([0.9, 0.5, 0.25, 0.1]))
    estimate = plain_spectrum(linear_relu_network(matrix), torch.rand(2, 30, 1, dtype=F64))
    expected = torch.tensor([0.9, 0.5, 0.25, 0.1]).double().log()
    assert_near(estimate.exponents, expected, 1e-7)
    assert float(estimate.std.abs().max()) < 1e-7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_orthogonal_weights_neither_stretch_nor_shrink(dtype: torch.dtype) -> None:
    orthogonal = torch.linalg.qr(torch.randn(8, 8, dtype=dtype)).Q
    estimate = plain_spectrum(
        linear_step(orthogonal),
        torch.zeros(1, 100, 0, dtype=dtype),
        initial_state=torch.zeros(1, 8, dtype=dtype),
        orthonormalize_every=7,
    )
    tolerance = 20 * torch.finfo(dtype).eps
    assert float(estimate.exponents.abs().max()) < tolerance


def test_henon_map() -> None:
    """256 orbits of 250 steps; the finite-time exponent of one has a spread of about 0.02.

    Hence 0.0013 for the mean, of which four are allowed. Their sum is exact.
    """
    start = 0.1 * torch.rand(256, 2, dtype=F64)
    estimate = plain_spectrum(henon_step, no_input(256, 300), initial_state=start, warmup_steps=50)
    assert_near(estimate.exponents, torch.tensor(HENON).double(), 0.0052)
    assert float(estimate.exponents.sum()) == pytest.approx(math.log(0.3), abs=1e-12)
    assert float(estimate.standard_errors[0]) < 0.002
    dimension = estimate.measures().kaplan_yorke_dimension
    assert dimension == pytest.approx(1 + HENON[0] / -HENON[1], abs=0.01)


@pytest.mark.slow
def test_lorenz_system() -> None:
    """100 orbits of 10 time units; one has a spread of about 0.15, so four errors are 0.06.

    The sum is minus the divergence, to the order of the Runge-Kutta step.
    """
    start = torch.randn(100, 3, dtype=F64) + torch.tensor([0.0, 0.0, 25.0]).double()
    estimate = plain_spectrum(
        lorenz_step, no_input(100, 1400), initial_state=start, warmup_steps=400
    )
    per_time = estimate.exponents / 0.01
    assert_near(per_time, torch.tensor(LORENZ).double(), 0.06)
    assert float(per_time.sum()) == pytest.approx(-(10 + 1 + 8 / 3), abs=1e-3)


def test_kaplan_yorke_map() -> None:
    """Constant stretches under a shear: exact but for the turning of the basis, below 3/T."""
    inputs = torch.rand(4, 200, 1, dtype=F64)
    estimate = plain_spectrum(kaplan_yorke_step, inputs, initial_state=torch.rand(4, 2, dtype=F64))
    expected = torch.tensor([math.log(2), math.log(0.2)]).double()
    assert_near(estimate.exponents, expected, 3 / 200)
    assert float(estimate.exponents.sum()) == pytest.approx(math.log(0.4), abs=1e-12)
    assert kaplan_yorke_dimension(expected).item() == pytest.approx(1.43068, abs=1e-5)


def test_products_of_gaussian_matrices() -> None:
    """Newman's exponents within four of their exact errors, ``sqrt(psi' / 4 / (B T))``.

    The standard errors reported must be those: with B = 200 they are known to 5 %.
    """
    batch, steps, size = 200, 200, 4
    estimate = plain_spectrum(
        product_step,
        torch.randn(batch, steps, size**2, dtype=F64),
        initial_state=torch.zeros(batch, size, dtype=F64),
    )
    expected = gaussian_product_exponents(size)
    published = torch.tensor([0.557966, 0.364819, 0.057966, -0.635181]).double()
    assert_near(expected, published, 1e-6)
    errors = (gaussian_product_variances(size) / (batch * steps)).sqrt()
    assert bool(((estimate.exponents - expected).abs() < 4 * errors).all())
    torch.testing.assert_close(estimate.standard_errors, errors, atol=0, rtol=4 * 0.05)


@pytest.mark.grid(every=3)
@pytest.mark.parametrize(("gain", "drive_variance"), MEAN_FIELD)
def test_random_tanh_network_follows_mean_field_theory(gain: float, drive_variance: float) -> None:
    """Three networks of 400 units against the limit of infinitely many.

    The largest exponent of a finite network is smaller by 1/N to 5/N (measured at N = 200 and 400)
    and varies by 0.002 to 0.01 between networks of 400 units: 0.02 for the mean of three.
    """
    values = []
    for seed in range(3):
        torch.manual_seed(seed)
        rnn = random_tanh_network(400, gain, drive_variance)
        estimate = plain_spectrum(
            rnn,
            torch.randn(4, 250, 400),
            initial_state=torch.randn(1, 4, 400).tanh(),
            num_exponents=1,
            warmup_steps=100,
        )
        values.append(float(estimate.exponents[0]))
    mean = sum(values) / len(values)
    assert mean == pytest.approx(MEAN_FIELD[gain, drive_variance], abs=0.02)


def test_gru_at_its_zero_fixed_point() -> None:
    """``log |1/2 + eig(W_hn) / 4|``; complex pairs leave an error of order 1/T.

    W_hn is chosen so that those eigenvalues are half of the skewed matrix's.
    """
    gru: Any = build("gru", bias=False, hidden_size=6)
    w_hn = 2 * skewed_matrix() - 2 * torch.eye(6, dtype=F64)
    with torch.no_grad():
        gru.weight_hh_l0[12:] = w_hn
    estimate = plain_spectrum(gru, torch.zeros(1, 500, 3, dtype=F64))
    expected = (0.5 + torch.linalg.eigvals(w_hn) / 4).abs().log().sort(descending=True).values
    assert_near(expected, log_moduli(skewed_matrix()) - math.log(2), 1e-12)
    assert_near(estimate.exponents, expected, 5 / 500)


def test_lstm_without_recurrence() -> None:
    """With W_hh = 0: N times ``<log f_i>`` and N times minus infinity.

    The leading vectors also have a part in h, which adds at most ``log(2) / 2`` to all the T
    stretches together.
    """
    lstm: Any = build("lstm")
    with torch.no_grad():
        lstm.weight_hh_l0.zero_()
    steps = 300
    inputs = torch.randn(2, steps, 3, dtype=F64)
    estimate = plain_spectrum(lstm, inputs, state="full")
    bias = (lstm.bias_ih_l0 + lstm.bias_hh_l0)[7:14]
    forget = (inputs @ lstm.weight_ih_l0[7:14].T + bias).sigmoid().detach()
    expected = forget.log().mean((0, 1)).sort(descending=True).values
    assert_near(estimate.exponents[:7], expected, 0.35 / steps)
    assert bool((estimate.exponents[7:] == -math.inf).all())
    assert estimate.resolved.tolist() == [True] * 7 + [False] * 7


def test_forget_bias_of_three_tells_hidden_from_full() -> None:
    """``log |w / 4|`` against ``log |sigmoid(3) + w / 4|`` and N times minus infinity.

    At zero, with W_hg = 0.08 times a rotation, w its eigenvalues, and all other weights zero. So
    -3.9 against about -0.05: the cell state, not the gates' slopes, carries the memory. The
    exponents of the full state lie close together, so the basis turns slowly: an error of 10/T.
    """
    lstm: Any = nn.LSTM(1, 6, batch_first=True).double()
    generator = torch.zeros(6, 6).double()
    for k, angle in enumerate((0.4, 1.2, 2.4)):
        generator[2 * k, 2 * k + 1] = angle
    rotation = torch.linalg.matrix_exp(generator - generator.T)
    with torch.no_grad():
        for weight in lstm.parameters():
            weight.zero_()
        lstm.bias_ih_l0[6:12] = 3.0
        lstm.weight_hh_l0[12:18] = 0.08 * rotation
    steps = 500
    inputs = torch.zeros(1, steps, 1, dtype=F64)
    hidden = plain_spectrum(lstm, inputs, state="hidden").exponents
    full = plain_spectrum(lstm, inputs, state="full").exponents
    eigenvalues = torch.linalg.eigvals(0.08 * rotation)
    expected = (torch.sigmoid(torch.tensor(3.0)) + eigenvalues / 4).abs().log()
    torch.testing.assert_close(hidden, torch.full((6,), math.log(0.02)).double())
    assert_near(full[:6], expected.sort(descending=True).values, 10 / steps)
    assert float(hidden.mean()) == pytest.approx(-3.9, abs=0.05)
    assert float(full[:6].mean()) == pytest.approx(-0.05, abs=0.01)
    assert float(full[6:].max()) < -30
