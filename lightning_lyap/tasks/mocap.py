"""Mocap: predict the next frame of a motion."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_lyap._checks import check_count, check_range
from lightning_lyap.tasks.predictor import Predictor, build_recurrent


class MocapRNN(Predictor):
    """A recurrent network on frames of motion with a linear read-out of its last output.

    Logs ``train/loss`` and ``val/loss``: squared error, mean over features, which are in units of
    their standard deviation.

    Args:
        num_features: Features of a frame. Default 20 (A.2).
        cell: ``"lstm"``, ``"gru"``, ``"rnn"`` or ``"rnn_relu"``. Default: the paper's LSTM.
        hidden_size: Default 256 (A.2).
        num_layers: Default 1 (Section 5.1).
        bias: Whether the recurrent module has biases. Default True (A.2: a standard LSTM).
        init_p: Recurrent weights are uniform on ``[-p, p]``. Default 0.3 (Table 3: 0.06 to 0.48).
        dropout: On the output of the recurrent module. Default 0 (Table 3).
        lr: Of Adam. Default 0.05 (Table 3).

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.

    Reference:
        Vogt et al., On Lyapunov Exponents for RNNs, Section 5.1, A.2, Table 3.
    """

    def __init__(
        self,
        num_features: int = 20,
        cell: str = "lstm",
        hidden_size: int = 256,
        num_layers: int = 1,
        bias: bool = True,
        init_p: float = 0.3,
        dropout: float = 0.0,
        lr: float = 0.05,
    ) -> None:
        super().__init__()
        check_count("num_features", num_features, 1)
        check_range("dropout", dropout, 0, 1)
        check_range("lr", lr, 0, open_low=True)
        self.save_hyperparameters()
        self.rnn = build_recurrent(cell, num_features, hidden_size, num_layers, bias, init_p)
        self.dropout = nn.Dropout(dropout)
        self.read_out = nn.Linear(hidden_size, num_features)

    def forward(self, frames: Tensor) -> Tensor:
        """Predict the frame after the last.

        Args:
            frames: ``[B, T, F]``.

        Returns:
            ``[B, F]``.
        """
        hidden, _ = self.rnn(frames)
        return self.read_out(self.dropout(hidden[:, -1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the mean squared error of the predicted frame.

        Args:
            batch: Windows ``[B, T, F]`` and the frames that follow, ``[B, F]``.

        Returns:
            A scalar.
        """
        frames, following = batch
        return functional.mse_loss(self(frames), following)
