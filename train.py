"""Train one of the paper's networks and watch its Lyapunov spectrum in TensorBoard.

python train.py task=mocap init_p=0.3
python train.py task=charrnn
python train.py --help
python train.py -m init_p=0.1,0.3
tensorboard --logdir outputs
"""

import logging
import os
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hydra
import numpy
import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from pytorch_lightning.utilities import rank_zero_only

from conf.schema import register
from lightning_lyap import LyapunovSpectrumCallback, __version__
from lightning_lyap.callback.trainer import log_folder
from lightning_lyap.tasks.hparams_table import write_hyperparameters
from lightning_lyap.tasks.loss_recorder import LossRecorder
from lightning_lyap.tasks.objective import Objective, objective_value
from lightning_lyap.tasks.results_table import format_table, results_table
from lightning_lyap.tasks.run_folder import RunFolder, set_aside

log = logging.getLogger(__name__)


register()


def train(cfg: DictConfig) -> dict[str, Any]:
    """Train the network that a configuration describes.

    Args:
        cfg: The configuration; see conf/.

    Returns:
        The final numbers under ``"metrics"``, and the objects ``"trainer"``, ``"model"``,
        ``"datamodule"``, ``"spectra"`` (the callback) and ``"losses"``.
    """
    pl.seed_everything(cfg.seed, workers=True)
    torch.set_flush_denormal(cfg.flush_denormal)
    spectra: LyapunovSpectrumCallback = instantiate(cfg.lyapunov)
    losses, objective = LossRecorder(), Objective(cfg.objective, cfg.lyapunov.name, is_swept())
    recorders = [spectra, losses, objective]
    callbacks = [*(instantiate(node) for node in cfg.callbacks.values()), *recorders]
    # Before the Trainer would: the size of the network is that of the data.
    datamodule: Any = instantiate(cfg.datamodule)
    datamodule.prepare_data()
    datamodule.setup("fit")

    model: pl.LightningModule = instantiate(cfg.model, **sizes(datamodule))
    name = f"{cfg.task.name}-{datamodule.resolved_source}"
    loggers = [build_logger(node, name) for node in cfg.logger.values()]
    trainer: pl.Trainer = instantiate(cfg.trainer, callbacks=callbacks, logger=loggers)
    refuse_processes_in_a_sweep(trainer)
    trainer.fit(model, datamodule=datamodule, ckpt_path=cfg.resume)

    metrics = objective.final_metrics(trainer)
    log_hyperparameters(cfg, trainer, datamodule.resolved_source, metrics)
    return {
        "metrics": metrics,
        "trainer": trainer,
        "model": model,
        "datamodule": datamodule,
        "spectra": spectra,
        "losses": losses,
    }


def build_logger(node: DictConfig, name: str) -> Any:
    """Build a logger with the run's name, which MLflow's calls ``run_name``.

    Lightning's CSVLogger begins a table anew; that of an interrupted run is kept beside it.

    Args:
        node: Its configuration.
        name: The run's name.

    Returns:
        The logger.
    """
    logger = instantiate(node, **{"run_name" if "run_name" in node else "name": name})
    if isinstance(logger, pl.loggers.CSVLogger) and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        set_aside(Path(logger.log_dir) / "metrics.csv")
    return logger


def sizes(datamodule: pl.LightningDataModule) -> dict[str, int]:
    """Return what the data says about the size of the network."""
    names = ("vocab_size", "num_features")
    return {name: getattr(datamodule, name) for name in names if hasattr(datamodule, name)}


def log_hyperparameters(
    cfg: DictConfig, trainer: pl.Trainer, source: str, metrics: dict[str, float]
) -> None:
    """Write the row of TensorBoard's HPARAMS table: settings, versions, final numbers.

    Args:
        cfg: The configuration.
        trainer: After training.
        source: Where the data came from.
        metrics: Final numbers.
    """
    params: dict[str, Any] = dict(OmegaConf.to_container(cfg.task, resolve=True))  # type: ignore[arg-type]
    params |= {
        "max_epochs": cfg.trainer.max_epochs,
        "every_n_validations": cfg.lyapunov.every_n_validations,
        "init_p": cfg.init_p,
        "seed": cfg.seed,
        "state": cfg.lyapunov.state,
        "data": source,
        "lightning_lyap": __version__,
        "torch": torch.__version__,
        "pytorch_lightning": version("pytorch-lightning"),
        "numpy": numpy.__version__,
    }
    shown = ("val/loss_best", "lyapunov/max", "lyapunov/mean", "val/loss")
    best = {key: metrics[key] for key in shown[:1] if key in metrics}
    for logger in trainer.loggers:
        if isinstance(logger, pl.loggers.MLFlowLogger):
            # It takes one value of a name alone, and Lightning gave it those of model and data.
            logger.log_hyperparams({f"run/{name}": value for name, value in params.items()})
        else:
            logger.log_hyperparams(params)
        if isinstance(logger, pl.loggers.TensorBoardLogger):
            logger.log_metrics(best, step=trainer.global_step)
            columns = [key for key in shown if key in metrics]
            # Five are shown at first.
            first = ["init_p", *(name for name in params if name in given())][:5]
            write_hyperparameters(logger.experiment, params, first, columns)
        logger.finalize("success")
        if isinstance(logger, pl.loggers.WandbLogger):
            logger.experiment.finish()  # or the next run of a sweep would go on with this one


def given() -> set[str]:
    """Return the names of the settings that the command line gave."""
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return {override.split("=")[0].split(".")[-1] for override in overrides}


def report(cfg: DictConfig, result: dict[str, Any]) -> str:
    """Return what came out and where it is, as text.

    Args:
        cfg: The configuration.
        result: What `train` returned.

    Returns:
        Text.
    """
    trainer, datamodule, spectra = result["trainer"], result["datamodule"], result["spectra"]
    lines = ["", f"{cfg.task.name}, init_p={cfg.init_p:g}, data: {datamodule.resolved_source}"]
    if datamodule.resolved_source == "synthetic":
        lines.append("SYNTHETIC STAND-IN, not the paper's data: see data=real and data_dir.")
    for name, history in spectra.histories.items():
        lines += ["", f"{name}, state={cfg.lyapunov.state}; exponents in nats per step"]
        lines.append(format_table(results_table(result["losses"].losses, history)))
        if history.failures:
            lines.append(f"{len(history.failures)} failed: {history.failures[0]['message']}")
    if hasattr(datamodule, "baselines"):
        baselines = datamodule.baselines()
        lines += ["", "validation loss of predictors without a network:"]
        lines += [f"  {name}: {value:.4f}" for name, value in baselines.items()]
    best: Any = trainer.checkpoint_callback
    if best is not None and best.monitor == "val/loss" and best.best_model_path:
        lowest = result["metrics"]["val/loss_best"]
        lines += ["", f"lowest validation loss {lowest:.4f}: {best.best_model_path}"]
    try:
        folder = log_folder(trainer) / spectra.name
        lines += [f"{path.name}: {path}" for path in sorted(folder.rglob("*.*"))]
    except RuntimeError as error:
        lines.append(f"no files: {error}")
    if any(isinstance(logger, pl.loggers.TensorBoardLogger) for logger in trainer.loggers):
        run = shlex.quote(HydraConfig.get().runtime.output_dir)
        lines += ["", f"tensorboard --logdir {run} --samples_per_plugin images=1000"]
    return "\n".join(lines)


def is_swept() -> bool:
    """Return whether this is one of the runs of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def refuse_processes_in_a_sweep(trainer: pl.Trainer) -> None:
    """Refuse several processes a run in a sweep: each would start the whole sweep again.

    Args:
        trainer: Before training.

    Raises:
        ValueError: If it would start processes.
    """
    starts = isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher)
    if is_swept() and starts and trainer.num_devices > 1:
        raise ValueError(
            f"Expected one device for each run of a sweep, but got {trainer.num_devices}. Sweep "
            "with trainer.devices=1, start the runs one by one without `-m`, or let Slurm start "
            "their processes; see docs/scale.md."
        )


def settings(cfg: DictConfig) -> dict[str, Any]:
    """Return what decides the outcome of a run.

    Args:
        cfg: The configuration.

    Returns:
        All of it but what is only looked at.
    """
    kept: Any = OmegaConf.to_container(cfg)
    del kept["objective"], kept["trainer"]["enable_progress_bar"]
    del kept["trainer"]["enable_model_summary"], kept["resume"]
    return kept


def run(cfg: DictConfig) -> dict[str, float]:
    """Train and report in a folder, unless that was done before; go on if it was begun.

    Args:
        cfg: The configuration.

    Returns:
        The final metrics.
    """
    path = Path(HydraConfig.get().runtime.output_dir).resolve()
    goes_on = cfg.resume is not None and Path(cfg.resume).resolve().is_relative_to(path)
    start = {"resume": None if goes_on else cfg.resume}
    leads = rank_zero_only.rank == 0  # type: ignore[attr-defined]
    folder = RunFolder(path, settings(cfg) | start, leads)
    with folder.held():
        metrics = None if goes_on else folder.finished()
        if metrics is not None:
            log.info(f"Finished before, not run again: {path}")
            return metrics
        folder.claim(goes_on)
        cfg.resume = cfg.resume if goes_on else folder.checkpoint() or cfg.resume
        result = train(cfg)
        log.info(report(cfg, result))
        folder.finish(result["metrics"])
    return result["metrics"]


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float | tuple[float, ...] | None:
    """Run, and return to a sweep what it optimizes."""
    metrics = run(cfg)
    return objective_value(cfg.objective, metrics) if is_swept() else None


if __name__ == "__main__":
    # The jobs of launchers are new processes in any folder: they import what lies here.
    places = [sys.path[0], *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(places)
    try:
        main()
    except SystemExit as end:
        if end.code:
            sys.stderr.write("Every key and group, with examples: python train.py --help\n")
        raise
