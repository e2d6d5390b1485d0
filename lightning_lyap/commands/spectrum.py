"""``python -m lightning_lyap spectrum``: the spectrum of a trained network, without a Trainer."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import torch

from lightning_lyap.checkpoints import (
    load_network,
    read_batch,
    read_checkpoint,
    task_of,
    task_sequences,
)
from lightning_lyap.checks import check_count
from lightning_lyap.commands.output import check_output
from lightning_lyap.estimate import SpectrumEstimate
from lightning_lyap.history import SpectrumHistory
from lightning_lyap.network_spectra import spectra_of
from lightning_lyap.plotting import plot_convergence, plotting_available, render, save_png
from lightning_lyap.spectrum_text import format_estimate

DESCRIPTION = """Measure the Lyapunov spectrum of every recurrent module of a trained network, on
held-out sequences: those of the task's DataModule, or inputs from a file."""
KEPT = ("num_sequences", "num_steps", "dtype")  # beside the estimator's settings
DTYPES = {"float32": torch.float32, "float64": torch.float64}


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
    add("--num-sequences", type=int, default=10, help="default: 10, or all that --data holds")
    add("--num-steps", type=int, default=100, help="steps counted in each; default: 100")
    add("--warmup-steps", type=int, default=0, help="steps before those; default: 0")
    add("--num-exponents", type=int, help="the leading ones alone; default: all")
    add("--orthonormalize-every", type=_interval, default=1, help="steps, or auto; default: 1")
    add(
        "--state",
        choices=("full", "hidden"),
        help="of LSTMs: (h, c), or the paper's h alone; default: hidden for its tasks, else full",
    )
    add("--layers", choices=("joint", "union"), default="joint", help="default: joint")
    add("--dtype", choices=tuple(DTYPES), help="default: the network's own")
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
    check_count("num_sequences", arguments.num_sequences, 1)
    check_count("num_steps", arguments.num_steps, 1)
    check_count("warmup_steps", arguments.warmup_steps, 0)
    check_count("show", arguments.show, 0)
    check_output(arguments.output)
    checkpoint = read_checkpoint(arguments.checkpoint)
    task = task_of(checkpoint) if arguments.class_path is None else None
    network = load_network(arguments.checkpoint, task, arguments.class_path)
    if arguments.dtype is not None:
        network = network.to(DTYPES[arguments.dtype])
    window = arguments.warmup_steps + arguments.num_steps
    batch, source = _inputs(arguments, checkpoint, task, window, network.dtype)
    settings: dict[str, Any] = {
        "warmup_steps": arguments.warmup_steps,
        "orthonormalize_every": arguments.orthonormalize_every,
        "num_exponents": arguments.num_exponents,
        "state": arguments.state or ("full" if task is None else "hidden"),
        "layers": arguments.layers,
    }
    estimates = spectra_of(
        network,
        batch,
        modules=arguments.modules,
        num_sequences=arguments.num_sequences,
        num_steps=window,
        keep_log_stretches=arguments.output is not None,
        **settings,
    )
    epoch, step = checkpoint.get("epoch", -1) + 1, checkpoint.get("global_step", 0)
    print(f"{arguments.checkpoint}, after epoch {epoch}; data: {source}")
    for name, estimate in estimates.items():
        print()
        print(format_estimate(name, estimate, settings, arguments.show))
    if arguments.output is not None:
        print()
        settings |= {name: getattr(arguments, name) for name in KEPT}
        for name, estimate in estimates.items():
            folder = arguments.output / name if len(estimates) > 1 else arguments.output
            history = SpectrumHistory(settings | {"module": name})
            history.append(epoch, step, estimate, 0.0)
            for path in _write(folder, history, estimate):
                print(path)


def _interval(text: str) -> int | str:
    """Parse an interval: a whole number, or auto."""
    return text if text == "auto" else int(text)


def _inputs(
    arguments: Namespace,
    checkpoint: dict[str, Any],
    task: str | None,
    window: int,
    dtype: torch.dtype | str,
) -> tuple[Any, str]:
    """Choose what to measure on.

    Args:
        arguments: As parsed.
        checkpoint: What it holds.
        task: The task it is of, or None.
        window: Steps of a sequence.
        dtype: Type of the network.

    Returns:
        A batch, and where it comes from.

    Raises:
        ValueError: If nothing says where from.
    """
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
    """Write a spectrum and its figures.

    Args:
        folder: Made if it is not there.
        history: The one spectrum.
        estimate: The same, with its log-stretches.

    Returns:
        The files.
    """
    files = [history.save(folder / "spectra.npz")]
    if plotting_available():
        figures = {
            "spectrum": history.plot_spectrum(),
            "convergence": plot_convergence(estimate.running_exponents(), estimate.block_ends),
        }
        for name, (figure, _) in figures.items():
            files.append(folder / f"{name}.png")
            save_png(render(figure), files[-1])
    return files
