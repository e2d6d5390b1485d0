"""``python -m lightning_lyap spectrum``: the spectrum of a trained network, without a Trainer."""

import warnings
from argparse import ArgumentParser, Namespace
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import torch

from lightning_lyap._checks import check_count
from lightning_lyap.cli.checkpoints import (
    load_network,
    read_batch,
    read_checkpoint,
    task_of,
    task_sequences,
)
from lightning_lyap.cli.spectrum_report import format_estimate
from lightning_lyap.dynamics import LayerChoice, StateChoice
from lightning_lyap.estimator.remarks import OVERLAPPING, SETTLING
from lightning_lyap.estimator.result import SpectrumEstimate
from lightning_lyap.estimator.settings import DTYPES, MeasurementSettings
from lightning_lyap.history import SpectrumHistory
from lightning_lyap.network.spectra import spectra_of
from lightning_lyap.plotting import plot_convergence, plotting_available, render, save_png

DESCRIPTION = """Measure the Lyapunov spectrum of every recurrent module of a trained network, on
held-out sequences: those of the task's DataModule, or inputs from a file."""


def _count_or_auto(text: str) -> int | str:
    """Parse a whole number, or auto."""
    return text if text == "auto" else int(text)


# How settings that are no whole numbers are parsed.
PARSED: dict[str, dict[str, Any]] = {
    "warmup_steps": {"type": _count_or_auto},
    "orthonormalize_every": {"type": _count_or_auto},
    "state": {"choices": get_args(StateChoice)},
    "layers": {"choices": get_args(LayerChoice)},
    "dtype": {"choices": tuple(DTYPES)},
}
# What the tasks' configuration measures with: the paper's choices.
PAPER: dict[str, Any] = {"state": "hidden", "warmup_steps": 0, "layers": "joint"}
# Help where the value of the default alone would mislead.
OTHER_DEFAULTS = {
    "num_sequences": "default: 10, or all that --data holds",
    "num_exponents": "default: all",
    "state": "default: hidden for CharRNN and MocapRNN, else full",
    "warmup_steps": "default: 0 for CharRNN and MocapRNN, else auto",
    "layers": "default: joint for CharRNN and MocapRNN, else union",
    "dtype": "default: the network's own",
}


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of the command.

    Args:
        parser: Its parser.
    """
    parser.description = DESCRIPTION
    add = parser.add_argument
    add("checkpoint", type=Path, help="of CharRNN, MocapRNN or, with --class, any LightningModule")
    add("--class", dest="class_path", metavar="CLASS", help="package.module.Class to load")
    add("--data", type=Path, help=".npy or .pt with inputs [B, T, ...] that `forward` takes")
    add("--data-dir", help="folder of the real data; default: as in training")
    add("--source", choices=("auto", "real", "synthetic"), help="default: as in training")
    add("--modules", nargs="+", help="which recurrent modules; default: all")
    for setting in fields(MeasurementSettings):
        default = OTHER_DEFAULTS.get(setting.name, f"default: {setting.default}")
        add(
            f"--{setting.name.replace('_', '-')}",
            **PARSED.get(setting.name, {"type": int}),
            default=None if setting.name in PAPER else setting.default,
            help=f"{setting.metadata['meaning']}; {default}",
        )
    add("--show", type=int, default=10, help="exponents to print; default: 10")
    add("--output", type=Path, help="folder for spectra.npz and figures; default: none is written")


def run(arguments: Namespace) -> None:
    """Print the spectra, and write them where asked to.

    Args:
        arguments: As parsed.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If something does not fit together.
    """
    check_count("show", arguments.show, 0)
    given = {each.name: getattr(arguments, each.name) for each in fields(MeasurementSettings)}
    given = {name: value for name, value in given.items() if name not in PAPER or value is not None}
    # Built first: wrong settings are refused before the checkpoint is read.
    settings = MeasurementSettings(**given)
    checkpoint = read_checkpoint(arguments.checkpoint)
    task = task_of(checkpoint) if arguments.class_path is None else None
    if task is not None:
        settings = replace(settings, **{k: v for k, v in PAPER.items() if k not in given})
    network = load_network(arguments.checkpoint, task, arguments.class_path)
    if settings.dtype is not None:
        network = network.to(DTYPES[str(settings.dtype)])
    batch, source = _inputs(arguments, checkpoint, task, settings.window, network.dtype)
    with warnings.catch_warnings():
        # They are lines of the report.
        for said in (SETTLING, OVERLAPPING):
            warnings.filterwarnings("ignore", said)
        estimates = spectra_of(
            network,
            batch,
            modules=arguments.modules,
            num_sequences=settings.num_sequences,
            num_steps=settings.window,
            num_exponents=settings.num_exponents,
            keep_log_stretches=arguments.output is not None,
            **settings.estimator_settings(),
        )
    epoch, step = checkpoint.get("epoch", -1) + 1, checkpoint.get("global_step", 0)
    print(f"{arguments.checkpoint}, after epoch {epoch}; data: {source}")
    for name, estimate in estimates.items():
        print()
        print(format_estimate(name, estimate, settings.as_dict(), arguments.show))
    if arguments.output is not None:
        print()
        for name, estimate in estimates.items():
            folder = arguments.output / name if len(estimates) > 1 else arguments.output
            history = SpectrumHistory(settings.as_dict() | {"module": name})
            history.append(epoch, step, estimate, 0.0)
            for path in _write(folder, history, estimate):
                print(path)


def _inputs(
    arguments: Namespace,
    checkpoint: dict[str, Any],
    task: str | None,
    window: int,
    dtype: torch.dtype | str,
) -> tuple[Any, str]:
    """Return a batch to measure on, ``[B, T, ...]`` each, and where it comes from."""
    if arguments.data is not None:
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"Expected a network of one type, but got {dtype!r}.")
        return read_batch(arguments.data, dtype), str(arguments.data)
    if task is None:
        raise ValueError(
            "Expected inputs for the network, but got none. Give `--data FILE` with a tensor "
            "[B, T, ...] that its `forward` takes."
        )
    given = {"data_dir": arguments.data_dir, "source": arguments.source}
    changes = {name: value for name, value in given.items() if value is not None}
    batch, source = task_sequences(checkpoint, task, changes, arguments.num_sequences, window)
    # Tokens keep their type; features take the network's.
    floating = batch.is_floating_point() and isinstance(dtype, torch.dtype)
    return (batch.to(dtype) if floating else batch), source


def _write(folder: Path, history: SpectrumHistory, estimate: SpectrumEstimate) -> list[Path]:
    """Write the history of one spectrum, and its figures; return the files."""
    files = [history.save(folder / "spectra.npz")]
    if plotting_available():
        figures = {
            "spectrum": history.plot_spectrum(),
            "convergence": plot_convergence(
                estimate.running_exponents(), estimate.block_ends, settled=estimate.settled
            ),
        }
        for name, (figure, _) in figures.items():
            files.append(folder / f"{name}.png")
            save_png(render(figure), files[-1])
    return files
