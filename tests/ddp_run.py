"""Runs on several processes, one after another in the same ones, started by a test.

`python -m tests.ddp_run FOLDER CASE...`
"""

import os
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn

from lightning_lyap import (
    LyapunovSpectrumCallback,
    lyapunov_spectrum,
    register_recurrence,
)
from tests.networks import FEATURES, Predictor, Windows, train_loader, trainer, val_loader


class BrokenShare(Windows):
    """Windows of which the second process's share can't be measured."""

    def lyapunov_sequences(self, num_sequences: int, num_steps: int) -> Tensor:
        windows = super().lyapunov_sequences(num_sequences, num_steps)
        windows[1::2, 0] = float("nan")
        return windows


@register_recurrence(initial_state=lambda cell, batch_size: torch.zeros(batch_size, 4))
class Halving(nn.Module):
    """A cell whose exponents are all -log 2."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = nn.Linear(FEATURES, 4)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return h / 2 + self.inputs(x)


class Loop(Predictor):
    """A network with a loop over a registered cell, under the name of the predictor's module."""

    def __init__(self) -> None:
        super().__init__(hidden_size=4)
        self.rnn: Any = Halving()

    def forward(self, inputs: Tensor) -> Tensor:
        h, outputs = inputs.new_zeros(len(inputs), 4), []
        for x in inputs.unbind(1):
            h = self.rnn(x, h)
            outputs.append(h)
        return self.read_out(torch.stack(outputs, 1))


class SkippingInSecond(nn.GRU):
    """Ends in another state than its weights say, in the second process alone."""

    def forward(self, *args: Any) -> Any:
        output, state = super().forward(*args)
        second = torch.distributed.is_initialized() and torch.distributed.get_rank() == 1
        return output, state + second


class BrokenInSecond(Predictor):
    """Has another module, which receives numbers that are not finite in the second process."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.GRU(FEATURES, 6, batch_first=True).requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        second = torch.distributed.is_initialized() and torch.distributed.get_rank() == 1
        self.other(inputs / 0.0 if second else inputs)
        return super().forward(inputs)


class UnnamedInFirst(CSVLogger):
    """Can't say in the first process any more where its files are, once its server is gone."""

    is_gone = False

    @property
    def log_dir(self) -> str:
        if self.is_gone:
            raise ConnectionError("server is gone")
        return super().log_dir

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Keep none."""

    def log_hyperparams(self, params: Any = None) -> None:
        """Keep none."""

    def save(self) -> None:
        """Write nothing."""


class Outage(pl.Callback):
    """Ends the server of the first process's logger after Lightning has asked it."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if isinstance(trainer.logger, UnnamedInFirst):
            trainer.logger.is_gone = trainer.is_global_zero


def network(case: str) -> Predictor:
    """The network of a case."""
    if case == "cell":
        return Loop()
    if case == "half":
        return BrokenInSecond()
    model = Predictor()
    if case == "union":
        model.rnn = nn.GRU(FEATURES, 6, num_layers=2, batch_first=True)
    if case == "uncertified":
        model.rnn = SkippingInSecond(FEATURES, 6, batch_first=True)
    return model


class Results(pl.Callback):
    """Writes in each process what the callback has at the end."""

    def __init__(self, folder: Path, ours: LyapunovSpectrumCallback) -> None:
        self.folder = folder
        self.ours = ours

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        history = self.ours.histories["rnn"]
        result = {
            "before": history.exponents()[0] if len(history) else None,
            "after": history.exponents()[-1] if len(history) else None,
            "num_sequences": [spectrum.num_sequences for spectrum in history.spectra],
            "failures": len(history.failures),
            "other_failures": sum(len(each.failures) for each in self.ours.histories.values()),
            "layer": history.spectra[0].layer if len(history) else None,
            "certified": trainer.callback_metrics.get("lyapunov/certified"),
            "max": trainer.callback_metrics.get("lyapunov/max"),
            "keys": sorted(key for key in trainer.callback_metrics if key.endswith("/max")),
            "by_hand": by_hand(pl_module.rnn),
            "state": self.ours.state_dict(),
        }
        torch.save(result, self.folder / f"{trainer.world_size}-{trainer.global_rank}.pt")


def by_hand(rnn: Any) -> Tensor:
    """The spectrum of the weights as they are, on all windows, in this process alone."""
    windows = Windows().lyapunov_sequences(5, 8)
    return lyapunov_spectrum(rnn, windows, dtype=torch.float64).exponents


def main(folder: Path, case: str, devices: int, strategy: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    num_sequences = 1 if case in ("cell", "union") else 5
    on_error = "raise" if case == "raising" else "warn"
    chosen: dict[str, Any] = {"figures": False, "dtype": "float64", "on_error": on_error}
    if case == "union":
        chosen |= {"layers": "union", "num_exponents": 9}
    callback = LyapunovSpectrumCallback(num_sequences, 8, **chosen)
    saver = ModelCheckpoint(folder / str(devices), save_last=True, monitor="lyapunov/max")
    others = [Results(folder, callback), *([saver] if case in ("sound", "watched") else [])]
    fitted = trainer(
        folder,
        Outage(),
        callback,
        *others,
        max_epochs=1,
        devices=devices,
        strategy=strategy,
        enable_checkpointing=case in ("sound", "watched"),
        logger=UnnamedInFirst(folder) if case == "unnamed" else False,
    )
    if case == "watched":
        fitted.fit(network(case), train_loader(), val_loader())
    else:
        broken = case in ("broken", "raising")
        fitted.fit(network(case), datamodule=BrokenShare() if broken else Windows())


def apart(folder: Path, case: str) -> None:
    """Run a case in a folder of its own, with what each process says in a file."""
    (folder / case).mkdir(exist_ok=True)
    said = folder / case / f"said-{os.environ.get('LOCAL_RANK', '0')}.txt"
    with (
        said.open("w") as file,
        redirect_stdout(file),
        redirect_stderr(file),
        warnings.catch_warnings(),  # what was warned of in the case before is warned of again
    ):
        main(folder / case, case, 2, "ddp")


if __name__ == "__main__":
    for each in sys.argv[2:]:
        apart(Path(sys.argv[1]), each)
