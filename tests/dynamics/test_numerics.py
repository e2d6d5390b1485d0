"""Slopes of saturated units: accurate where the textbook forms are zero."""

import torch

from lightning_lyap import lyapunov_spectrum
from lightning_lyap.dynamics.numerics import sigmoid_slope, tanh_slope


def test_slopes_are_the_derivatives() -> None:
    a = torch.linspace(-8, 8, 33, dtype=torch.float64, requires_grad=True)
    for function, slope in ((torch.tanh, tanh_slope), (torch.sigmoid, sigmoid_slope)):
        (expected,) = torch.autograd.grad(function(a).sum(), a)
        torch.testing.assert_close(slope(a.detach()), expected, rtol=1e-9, atol=0)


def test_slopes_keep_their_relative_accuracy_in_saturation() -> None:
    """``sech^2(a)`` is about ``4 exp(-2a)``, ``sigmoid'(a)`` about ``exp(-a)``, to 1e-15 at 20."""
    a = torch.tensor([20.0, -20.0, 40.0, 43.9])
    torch.testing.assert_close(tanh_slope(a), 4 * torch.exp(-2 * a.abs()), rtol=1e-5, atol=0)
    torch.testing.assert_close(sigmoid_slope(a), torch.exp(-a.abs()), rtol=1e-5, atol=0)
    assert bool((1 - torch.tanh(a).square() == 0).all())


def test_spectra_of_saturated_networks_agree_in_single_and_double_precision() -> None:
    """Gates driven far into saturation: exponents below float32's ``log eps = -15.9``."""
    lstm = torch.nn.LSTM(4, 12)
    with torch.no_grad():
        for parameter in lstm.parameters():
            parameter.mul_(25)
    x = torch.randn(3, 40, 4)
    single = lyapunov_spectrum(lstm, x, state="hidden")
    double = lyapunov_spectrum(lstm, x, state="hidden", dtype=torch.float64)
    assert float(double.exponents[-1]) < -16
    assert bool(single.resolved.all())
    # Activations of some tens carry rounding errors of 1e-5 from step to step; a log-slope in
    # saturation changes by twice that, and weights of about 7 mix a dozen of them.
    torch.testing.assert_close(single.exponents, double.exponents, rtol=0, atol=1e-2)
