"""CharRNN: predict the next character of a text."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_lyap._checks import check_count, check_range
from lightning_lyap.tasks.predictor import Predictor, build_recurrent


class CharRNN(Predictor):
    """A recurrent network on one-hot characters with dropout and a linear read-out.

    Logs ``train/loss`` and ``val/loss``: cross-entropy, nats per character.

    Args:
        vocab_size: Number of distinct characters.
        cell: ``"lstm"``, ``"gru"``, ``"rnn"`` or ``"rnn_relu"``. Default: the paper's LSTM.
        hidden_size: Default 512 (A.1).
        num_layers: Default 1 (A.1).
        bias: Whether the recurrent module has biases. Default False (A.1).
        init_p: Recurrent weights are uniform on ``[-p, p]``. Default 0.08 (Table 2).
        dropout: On the output of the recurrent module. Default 0.034 (Table 2, blue).
        lr: Of Adam. Default 0.00301 (Table 2, blue).
        lr_decay: Factor of the rate for every epoch beyond ``constant_epochs``. Default 0.95
            (A.1).
        constant_epochs: Epochs at the full rate. Default 10 (A.1): the 11th is the first at a
            lower one.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.

    Reference:
        Vogt et al., On Lyapunov Exponents for RNNs, Section 5.1, A.1, Table 2.
    """

    def __init__(
        self,
        vocab_size: int,
        cell: str = "lstm",
        hidden_size: int = 512,
        num_layers: int = 1,
        bias: bool = False,
        init_p: float = 0.08,
        dropout: float = 0.034,
        lr: float = 0.00301,
        lr_decay: float = 0.95,
        constant_epochs: int = 10,
    ) -> None:
        super().__init__()
        check_count("vocab_size", vocab_size, 2)
        check_range("dropout", dropout, 0, 1)
        check_range("lr", lr, 0, open_low=True)
        check_range("lr_decay", lr_decay, 0, open_low=True)
        check_count("constant_epochs", constant_epochs, 0)
        self.save_hyperparameters()
        self.rnn = build_recurrent(cell, vocab_size, hidden_size, num_layers, bias, init_p)
        self.dropout = nn.Dropout(dropout)
        self.read_out = nn.Linear(hidden_size, vocab_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """Predict the character after each one.

        Args:
            tokens: ``[B, T]``, int64.

        Returns:
            Logits, ``[B, T, V]``.
        """
        one_hot = functional.one_hot(tokens, self.read_out.out_features)
        hidden, _ = self.rnn(one_hot.to(self.read_out.weight.dtype))
        return self.read_out(self.dropout(hidden))

    def configure_optimizers(self) -> Any:
        """Return Adam with its rate constant at first, then falling by a factor every epoch."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])
        constant, decay = self.hparams["constant_epochs"], self.hparams["lr_decay"]
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda epoch: decay ** max(0, epoch + 1 - constant)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule}}

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the mean cross-entropy, nats per character.

        Args:
            batch: Characters and the characters that follow, ``[B, T]`` each.

        Returns:
            A scalar.
        """
        tokens, following = batch
        return functional.cross_entropy(self(tokens).flatten(0, 1), following.flatten())
