"""Small LightningModules and data for the tests of the callback."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

FEATURES, STEPS, SEQUENCES = 3, 12, 32


class Predictor(pl.LightningModule):
    """Predicts a delayed input with a recurrent network and dropout."""

    def __init__(self, cell: str = "gru", hidden_size: int = 6) -> None:
        super().__init__()
        self.save_hyperparameters()
        kinds: dict[str, Any] = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}
        self.rnn: nn.RNNBase = kinds[cell](FEATURES, hidden_size, batch_first=True)
        self.dropout = nn.Dropout(0.3)
        self.read_out = nn.Linear(hidden_size, FEATURES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.read_out(self.dropout(self.rnn(inputs)[0]))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = nn.functional.mse_loss(self(batch[0]), batch[1])
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val/loss", nn.functional.mse_loss(self(batch[0]), batch[1]))

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("test/loss", nn.functional.mse_loss(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class EncoderDecoder(Predictor):
    """Two recurrent modules, the second driven by the first."""

    def __init__(self) -> None:
        super().__init__()
        del self.rnn
        self.encoder = nn.GRU(FEATURES, 4, batch_first=True)
        self.decoder = nn.LSTM(4, 6, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.read_out(self.decoder(self.encoder(inputs)[0])[0])


def sequences(seed: int = 0) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(SEQUENCES, STEPS, FEATURES, generator=generator)
    return TensorDataset(inputs, inputs.roll(1, dims=1))


def train_loader() -> DataLoader[Any]:
    return DataLoader(sequences(), batch_size=8, shuffle=True)


def val_loader() -> DataLoader[Any]:
    return DataLoader(sequences(1), batch_size=8)


class Windows(pl.LightningDataModule):
    """Offers held-out windows of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[int, int]] = []

    def train_dataloader(self) -> DataLoader[Any]:
        return train_loader()

    def val_dataloader(self) -> DataLoader[Any]:
        return val_loader()

    def lyapunov_sequences(self, num_sequences: int, num_steps: int) -> Tensor:
        self.asked.append((num_sequences, num_steps))
        generator = torch.Generator().manual_seed(5)
        return torch.randn(num_sequences, num_steps, FEATURES, generator=generator)


def trainer(folder: Path, *callbacks: pl.Callback, **settings: Any) -> pl.Trainer:
    defaults: dict[str, Any] = {
        "max_epochs": 2,
        "default_root_dir": folder,
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "log_every_n_steps": 1,
        "logger": False,
    }
    return pl.Trainer(**defaults | settings, callbacks=list(callbacks))


def fit(
    folder: Path,
    *callbacks: pl.Callback,
    network: type[pl.LightningModule] = Predictor,
    seed: int = 3,
    ckpt_path: str | None = None,
    **settings: Any,
) -> tuple[pl.Trainer, pl.LightningModule]:
    pl.seed_everything(seed, workers=True, verbose=False)
    model, fitted = network(), trainer(folder, *callbacks, **settings)
    fitted.fit(model, train_loader(), val_loader(), ckpt_path=ckpt_path)
    return fitted, model
