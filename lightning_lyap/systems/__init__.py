"""Systems whose Lyapunov spectra are known, each with its source: to test and to validate with.

A step function takes ``x_t``, ``[B, I]``, and the state, ``[B, N]``, and returns the new state; it
goes straight into `lightning_lyap.lyapunov_spectrum` with an ``initial_state``. Autonomous systems
take ``I = 0``. Exponents are in nats per step, flows' in nats per unit of time.
"""

from lightning_lyap.systems.flows import (
    LORENZ,
    LORENZ_FIXED,
    LORENZ_STEP,
    lorenz_fixed_point,
    lorenz_step,
)
from lightning_lyap.systems.maps import (
    HENON,
    bernoulli_lattice_exponents,
    bernoulli_lattice_step,
    henon_step,
    ikeda_step,
    kaplan_yorke_step,
    logistic_step,
)
from lightning_lyap.systems.networks import (
    MEAN_FIELD,
    gaussian_mean,
    linear_relu_network,
    mean_field_exponent,
    mean_field_variance,
    random_tanh_network,
)
from lightning_lyap.systems.products import (
    gaussian_product_exponents,
    gaussian_product_variances,
    linear_step,
    log_moduli,
    product_step,
    skewed_matrix,
)

__all__ = [
    "HENON",
    "LORENZ",
    "LORENZ_FIXED",
    "LORENZ_STEP",
    "MEAN_FIELD",
    "bernoulli_lattice_exponents",
    "bernoulli_lattice_step",
    "gaussian_mean",
    "gaussian_product_exponents",
    "gaussian_product_variances",
    "henon_step",
    "ikeda_step",
    "kaplan_yorke_step",
    "linear_relu_network",
    "linear_step",
    "log_moduli",
    "logistic_step",
    "lorenz_fixed_point",
    "lorenz_step",
    "mean_field_exponent",
    "mean_field_variance",
    "product_step",
    "random_tanh_network",
    "skewed_matrix",
]
