"""What both tasks share: which cell, how large, how initialized, and what is logged."""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial

from pytorch_lightning import LightningModule
from torch import Tensor, nn

from lightning_lyap._checks import check_count, check_range

CELLS: dict[str, Callable[..., nn.RNNBase]] = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "rnn": nn.RNN,
    "rnn_relu": partial(nn.RNN, nonlinearity="relu"),
}


def build_recurrent(
    cell: str, input_size: int, hidden_size: int, num_layers: int, bias: bool, init_p: float
) -> nn.RNNBase:
    """Build a recurrent module with weights uniform on ``[-p, p]``, batch first.

    Biases keep PyTorch's initialization.

    Args:
        cell: ``"lstm"``, ``"gru"``, ``"rnn"`` (tanh) or ``"rnn_relu"``.
        input_size: I.
        hidden_size: H.
        num_layers: L.
        bias: Whether there are biases.
        init_p: p, above 0.

    Returns:
        The module.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.

    Reference:
        Vogt et al., On Lyapunov Exponents for RNNs, Section 5.1.
    """
    check_count("hidden_size", hidden_size, 1)
    check_count("num_layers", num_layers, 1)
    check_range("init_p", init_p, 0, open_low=True)
    if cell not in [*CELLS]:
        raise ValueError(f"Expected `cell` to be one of {tuple(CELLS)}, but got {cell!r}.")
    recurrent = CELLS[cell](input_size, hidden_size, num_layers, bias=bias, batch_first=True)
    for name, parameter in recurrent.named_parameters():
        if name.startswith("weight"):
            nn.init.uniform_(parameter, -init_p, init_p)
    return recurrent


class Predictor(LightningModule):
    """Trains on batches of inputs and what follows them; logs ``train/loss`` and ``val/loss``.

    Attributes:
        metric_names: What is logged; a subclass that logs more says so here, for objectives.
    """

    metric_names: tuple[str, ...] = ("train/loss", "val/loss")

    @abstractmethod
    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the loss of a batch.

        Args:
            batch: Inputs and what follows them.

        Returns:
            A scalar.
        """

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        loss = self.loss(batch)
        self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the loss of a batch."""
        self.log("val/loss", self.loss(batch), prog_bar=True, sync_dist=True)
