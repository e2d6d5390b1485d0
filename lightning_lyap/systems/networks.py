"""Networks whose exponents follow from their weights, or from the statistics of their weights."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

# (gain g, variance s^2 of the drive) -> largest exponent as N goes to infinity, nats per step:
# `mean_field_exponent` to six digits.
MEAN_FIELD = {
    (1.5, 0.0): 0.065217,
    (2.0, 0.0): 0.154724,
    (3.0, 0.0): 0.310249,
    (5.0, 0.0): 0.532428,
    (1.5, 0.1): 0.026200,
    (1.5, 1.0): -0.141825,
    (3.0, 1.0): 0.268516,
}
REACH = 10.0  # of Gaussian integrals, in standard deviations


def gaussian_mean(function: Callable[[Tensor], Tensor], variance: float) -> float:
    """Compute the mean of ``function(a)`` over normal a of mean zero.

    The trapezoidal rule, which converges exponentially for smooth functions, on points that lie
    dense both near zero and over the Gaussian, however far it reaches.

    Args:
        function: Of ``[n]``, elementwise, of a scale of one near zero.
        variance: Of a.

    Returns:
        The mean, to about 1e-12 of its scale.

    Example:
        >>> round(gaussian_mean(torch.square, 3.0), 9)
        3.0
    """
    near = min(1.0, variance**-0.5) if variance > 0 else 1.0
    end = math.asinh(REACH / near)
    position = torch.linspace(-end, end, 801, dtype=torch.float64)
    z = near * position.sinh()
    weight = torch.softmax(position.cosh().log() - z.square() / 2, 0)
    return float(weight @ function(math.sqrt(variance) * z))


def mean_field_variance(gain: float, drive_variance: float) -> float:
    """Compute the variance of a unit's activation as N goes to infinity.

    It solves ``q = g^2 E tanh^2(sqrt(q) z) + s^2``, z ~ N(0, 1).

    Args:
        gain: g.
        drive_variance: s^2.

    Returns:
        q.

    Example:
        >>> mean_field_variance(0.0, 2.0)
        2.0

    Reference:
        Molgedey, Schuchhardt, Schuster (1992), Physical Review Letters 69, 3717-3719.
    """
    variance, before = gain**2 + drive_variance, math.inf
    for _ in range(2000):
        if variance == before:
            break
        squares = gaussian_mean(lambda a: a.tanh().square(), variance)
        variance, before = gain**2 * squares + drive_variance, variance
    return variance


def mean_field_exponent(gain: float, drive_variance: float) -> float:
    """Compute the largest exponent of `random_tanh_network` as N goes to infinity.

    ``lambda_1 = log(g^2 E sech^4(sqrt(q) z)) / 2`` with the q of `mean_field_variance`.

    Args:
        gain: g.
        drive_variance: s^2.

    Returns:
        Nats per step.

    Example:
        >>> round(mean_field_exponent(0.5, 0.0), 6) == round(math.log(0.5), 6)
        True
        >>> round(mean_field_exponent(2.0, 0.0), 6)
        0.154724

    Reference:
        Molgedey, Schuchhardt, Schuster (1992), Physical Review Letters 69, 3717-3719.
    """
    variance = mean_field_variance(gain, drive_variance)
    return 0.5 * math.log(gain**2 * gaussian_mean(lambda a: a.cosh() ** -4, variance))


def random_tanh_network(size: int, gain: float, drive_variance: float) -> nn.RNN:
    """Draw ``h' = tanh(V h + s x)``, V ~ N(0, g^2 / N), from torch's global generator.

    Args:
        size: N, also the number of inputs, which are to be white with variance 1.
        gain: g.
        drive_variance: s^2.

    Returns:
        A network without biases, batch first; `mean_field_exponent` is its largest exponent but for
        deviations of order 1/N.

    Example:
        >>> random_tanh_network(5, 2.0, 0.25).weight_ih_l0.diagonal()
        tensor([0.5000, 0.5000, 0.5000, 0.5000, 0.5000], grad_fn=...)

    Reference:
        Molgedey, Schuchhardt, Schuster (1992), Physical Review Letters 69, 3717-3719.
    """
    rnn: Any = nn.RNN(size, size, bias=False, batch_first=True)
    with torch.no_grad():
        rnn.weight_hh_l0.normal_(0, gain / math.sqrt(size))
        rnn.weight_ih_l0.copy_(math.sqrt(drive_variance) * torch.eye(size))
    return rnn


def linear_relu_network(matrix: Tensor) -> nn.RNN:
    """Build a relu network that stays in its linear part: ``h' = relu(W h + x)``.

    Args:
        matrix: W, ``[N, N]``, no entry negative; inputs are to be positive, ``[B, T, 1]``.

    Returns:
        A network without biases, batch first, with the exponents of `log_moduli` (W).

    Raises:
        ValueError: If an entry is negative.

    Example:
        >>> linear_relu_network(torch.tensor([[0.5]]))(torch.ones(1, 3, 1))[0].flatten().tolist()
        [1.0, 1.5, 1.75]
    """
    if not bool((matrix >= 0).all()):
        raise ValueError(
            f"Expected a matrix without negative entries, but got one of {float(matrix.min())}: "
            "units could die."
        )
    size = matrix.shape[0]
    rnn: Any = nn.RNN(1, size, nonlinearity="relu", bias=False, batch_first=True).to(matrix)
    with torch.no_grad():
        rnn.weight_ih_l0.fill_(1)
        rnn.weight_hh_l0.copy_(matrix)
    return rnn
