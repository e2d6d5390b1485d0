"""Networks whose exponents follow from their weights, or from the statistics of their weights."""

import math
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


def mean_field_exponent(gain: float, drive_variance: float) -> float:
    """Compute the largest exponent of `random_tanh_network` as N goes to infinity.

    The activations are normal with variance ``q = g^2 E tanh^2(sqrt(q) z) + s^2``, z ~ N(0, 1), and
    ``lambda_1 = log(g^2 E sech^4(sqrt(q) z)) / 2``.

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
    # The trapezoidal rule converges exponentially for smooth functions times a Gaussian.
    z = torch.linspace(-10, 10, 4001, dtype=torch.float64)
    weight = torch.softmax(-z.square() / 2, 0)
    variance = torch.tensor(gain**2 + drive_variance, dtype=torch.float64)
    for _ in range(2000):
        squares = (variance.sqrt() * z).tanh().square()
        variance = gain**2 * (weight * squares).sum() + drive_variance
    slopes = 1 - (variance.sqrt() * z).tanh().square()
    return 0.5 * math.log(gain**2 * float((weight * slopes.square()).sum()))


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
