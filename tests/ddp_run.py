"""A run on two processes, started by a test: `python -m tests.ddp_run FOLDER CASE`."""

import sys
from pathlib import Path

import torch
from torch import Tensor

from lightning_lyap import LyapunovSpectrumCallback
from tests.networks import Predictor, Windows, trainer


class BrokenShare(Windows):
    """Windows of which the second process's share can't be measured."""

    def lyapunov_sequences(self, num_sequences: int, num_steps: int) -> Tensor:
        windows = super().lyapunov_sequences(num_sequences, num_steps)
        windows[1::2, 0] = float("nan")
        return windows


def main(folder: Path, case: str, devices: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    callback = LyapunovSpectrumCallback(5, 8, figures=False, dtype="float64")
    fitted = trainer(folder, callback, max_epochs=1, devices=devices, strategy="ddp")
    model = Predictor()
    fitted.fit(model, datamodule=BrokenShare() if case == "broken" else Windows())
    history = callback.histories["rnn"]
    result = {
        "before": history.exponents()[0] if len(history) else None,
        "failures": len(history.failures),
        "max": fitted.callback_metrics.get("lyapunov/max"),
    }
    torch.save(result, folder / f"{devices}-{fitted.global_rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
