"""Train one of the paper's networks and watch its Lyapunov spectrum in TensorBoard.

python train.py task=mocap init_p=0.3
python train.py task=charrnn
python train.py --help
python train.py -m init_p=0.1,0.3
tensorboard --logdir outputs
"""

import logging
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
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from conf.schema import register
from lightning_lyap import LyapunovSpectrumCallback, __version__
from lightning_lyap.hyperparameters import write_hyperparameters
from lightning_lyap.reporting import LossRecorder, format_table, results_table

log = logging.getLogger(__name__)


def run_folder(resume: str | None, new: str) -> str:
    """Return where a run writes: a resumed one goes on in its own folder.

    Args:
        resume: Checkpoint to go on from, or None.
        new: Folder of a new run.

    Returns:
        A folder.
    """
    checkpoints = None if resume is None else Path(resume).parent
    if checkpoints is None or checkpoints.name != "checkpoints":
        return new
    return str(checkpoints.parent)


register()
OmegaConf.register_new_resolver("run_folder", run_folder)


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
    losses = LossRecorder()
    callbacks = [*(instantiate(node) for node in cfg.callbacks.values()), spectra, losses]
    datamodule: Any = instantiate(cfg.datamodule)
    datamodule.prepare_data()
    datamodule.setup("fit")

    model: pl.LightningModule = instantiate(cfg.model, **sizes(datamodule))
    name = f"{cfg.task.name}-{datamodule.resolved_source}"
    loggers = [instantiate(node, name=name) for node in cfg.logger.values()]
    trainer: pl.Trainer = instantiate(cfg.trainer, callbacks=callbacks, logger=loggers)
    trainer.fit(model, datamodule=datamodule, ckpt_path=cfg.resume)

    metrics = final_metrics(trainer)
    log_hyperparameters(cfg, trainer, datamodule.resolved_source, metrics)
    return {
        "metrics": metrics,
        "trainer": trainer,
        "model": model,
        "datamodule": datamodule,
        "spectra": spectra,
        "losses": losses,
    }


def sizes(datamodule: pl.LightningDataModule) -> dict[str, int]:
    """Return what the data says about the size of the network."""
    names = ("vocab_size", "num_features")
    return {name: getattr(datamodule, name) for name in names if hasattr(datamodule, name)}


def final_metrics(trainer: pl.Trainer) -> dict[str, float]:
    """Return the last value of everything monitored, and the lowest validation loss.

    Args:
        trainer: After training.

    Returns:
        Numbers by key.
    """
    metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
    checkpoint: Any = trainer.checkpoint_callback
    best = getattr(checkpoint, "best_model_score", None)
    if best is not None:
        metrics["val/loss_best"] = float(best)
    return metrics


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
        logger.log_hyperparams(params)
        if isinstance(logger, pl.loggers.TensorBoardLogger):
            logger.log_metrics(best, step=trainer.global_step)
            columns = [key for key in shown if key in metrics]
            # Five are shown at first.
            first = ["init_p", *(name for name in params if name in given())][:5]
            write_hyperparameters(logger.experiment, params, first, columns)
        logger.finalize("success")


def given() -> set[str]:
    """Return the names of the settings that the command line gave."""
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return {override.split("=")[0].split(".")[-1] for override in overrides}


def report(cfg: DictConfig, result: dict[str, Any]) -> str:
    """Say what came out and where it is.

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
    best = result["metrics"].get("val/loss_best")
    if best is not None:
        lines += [
            "",
            f"lowest validation loss {best:.4f}: {trainer.checkpoint_callback.best_model_path}",
        ]
    folder = Path(trainer.log_dir or trainer.default_root_dir) / spectra.name
    lines += [f"{path.name}: {path}" for path in sorted(folder.rglob("*.*"))]
    if any(isinstance(logger, pl.loggers.TensorBoardLogger) for logger in trainer.loggers):
        run = shlex.quote(HydraConfig.get().runtime.output_dir)
        lines += ["", f"tensorboard --logdir {run} --samples_per_plugin images=1000"]
    return "\n".join(lines)


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float | None:
    """Train, report, and return the lowest validation loss, the objective of sweeps."""
    result = train(cfg)
    log.info(report(cfg, result))
    return result["metrics"].get("val/loss_best")


if __name__ == "__main__":
    try:
        main()
    except SystemExit as end:
        if end.code:
            sys.stderr.write("Every key and group, with examples: python train.py --help\n")
        raise
