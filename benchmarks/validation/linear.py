"""Linear maps, networks in their linear part or at a fixed point, products of random matrices."""

import math
from typing import Any

import torch
from torch import nn

from lightning_lyap import lyapunov_spectrum
from lightning_lyap.systems import (
    gaussian_product_exponents,
    linear_relu_network,
    linear_step,
    log_moduli,
    product_step,
    skewed_matrix,
)
from validation.row import Effort, Row, farthest

F64 = torch.float64
STEPS = 1000


def gaussian_products(effort: Effort) -> list[Row]:
    """Products of Gaussian 4 x 4 matrices, which the input carries."""
    estimate = lyapunov_spectrum(
        product_step,
        torch.randn(effort.orbits, effort.steps, 16, dtype=F64),
        initial_state=torch.zeros(effort.orbits, 4, dtype=F64),
        warmup_steps=0,
    )
    return [
        Row(
            "Gaussian products, N = 4",
            f"exponent {k + 1}",
            "Newman 1986",
            known,
            float(estimate.exponents[k]),
            float(estimate.standard_errors[k]),
        )
        for k, known in enumerate(gaussian_product_exponents(4).tolist())
    ]


def linear(effort: Effort) -> list[Row]:
    """A non-normal linear map with complex pairs, and a relu network that stays linear.

    The basis of the first turns for ever: an error below 5/T. The matrix of the second is
    symmetric, so after the warm-up the basis stays and the exponents are exact.
    """
    matrix = skewed_matrix()
    turning = lyapunov_spectrum(
        linear_step(matrix),
        torch.zeros(1, STEPS, 0, dtype=F64),
        initial_state=torch.zeros(1, 6, dtype=F64),
        warmup_steps=0,
    )
    places = torch.arange(6, dtype=F64)
    symmetric = 0.3 * torch.exp(-(places[:, None] - places).abs())
    network = linear_relu_network(symmetric)
    still = lyapunov_spectrum(network, torch.ones(2, 500, 1, dtype=F64), warmup_steps=400)
    source = "log of eigenvalue moduli"
    return [
        farthest(
            "linear map, not normal",
            "all 6 exponents",
            source,
            log_moduli(matrix),
            turning.exponents,
            5 / STEPS,
        ),
        farthest(
            "relu network in its linear part",
            "all 6 exponents",
            source,
            log_moduli(symmetric),
            still.exponents,
            1e-10,
        ),
    ]


def gru_at_zero(effort: Effort) -> list[Row]:
    """A GRU without biases or input stays at zero; complex pairs leave an error below 5/T."""
    gru: Any = nn.GRU(1, 6, bias=False, batch_first=True).double()
    candidate = 2 * skewed_matrix() - 2 * torch.eye(6, dtype=F64)
    with torch.no_grad():
        gru.weight_hh_l0[12:] = candidate
    estimate = lyapunov_spectrum(gru, torch.zeros(1, STEPS, 1, dtype=F64), warmup_steps=0)
    known = log_moduli(0.5 * torch.eye(6, dtype=F64) + candidate / 4)
    source = "log |1/2 + eig(W_hn)/4|"
    return [
        farthest("GRU at zero", "all 6 exponents", source, known, estimate.exponents, 5 / STEPS)
    ]


def lstm_without_recurrence(effort: Effort) -> list[Row]:
    """Full state, W_hh = 0: cell states that forget, hidden states without memory.

    The leading vectors' part in h adds at most ``log(2) / 2`` to all stretches together.
    """
    lstm: Any = nn.LSTM(2, 6, batch_first=True).double()
    steps = 300
    inputs = torch.randn(4, steps, 2, dtype=F64)
    with torch.no_grad():
        lstm.weight_hh_l0.zero_()
        bias = (lstm.bias_ih_l0 + lstm.bias_hh_l0)[6:12]
        forget = (inputs @ lstm.weight_ih_l0[6:12].T + bias).sigmoid()
    estimate = lyapunov_spectrum(lstm, inputs, state="full", warmup_steps=0).exponents
    known = forget.log().mean((0, 1)).sort(descending=True).values
    name, none = "full LSTM, W_hh = 0", torch.full((6,), -math.inf, dtype=F64)
    return [
        farthest(name, "exponents 1 to 6", "<log f_i>", known, estimate[:6], 0.35 / steps),
        farthest(name, "exponents 7 to 12", "no memory in h", none, estimate[6:], 0.0),
    ]


def lstm_at_zero(effort: Effort) -> list[Row]:
    """Both readings of an LSTM at zero: forget bias 3, W_hg = 0.08 times a rotation, else zero.

    Eigenvalues close to each other turn the basis slowly: an error below 10/T.
    """
    generator = torch.zeros(6, 6, dtype=F64)
    for k, angle in enumerate((0.4, 1.2, 2.4)):
        generator[2 * k, 2 * k + 1] = angle
    rotation = 0.08 * torch.linalg.matrix_exp(generator - generator.T)
    lstm: Any = nn.LSTM(1, 6, batch_first=True).double()
    with torch.no_grad():
        for weight in lstm.parameters():
            weight.zero_()
        lstm.bias_ih_l0[6:12] = 3.0
        lstm.weight_hh_l0[12:18] = rotation
    inputs = torch.zeros(1, STEPS, 1, dtype=F64)
    hidden = lyapunov_spectrum(lstm, inputs, state="hidden", warmup_steps=0).exponents
    full = lyapunov_spectrum(lstm, inputs, state="full", warmup_steps=0).exponents[:6]
    forget = torch.sigmoid(torch.tensor(3.0, dtype=F64)) * torch.eye(6, dtype=F64)
    name = "LSTM at zero, forget bias 3"
    return [
        farthest(
            f"{name}, hidden",
            "all 6 exponents",
            "log |eig(W_hg)/4|",
            log_moduli(rotation / 4),
            hidden,
            1e-10,
        ),
        farthest(
            f"{name}, full",
            "exponents 1 to 6",
            "log |sigmoid(3) + eig(W_hg)/4|",
            log_moduli(forget + rotation / 4),
            full,
            10 / STEPS,
        ),
    ]
