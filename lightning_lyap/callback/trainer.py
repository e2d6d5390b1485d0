"""Facts read off a Trainer that it has no public name for, each in one place."""

from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.trainer.states import TrainerFn

from lightning_lyap.callback.errors import describe


def is_fitting(trainer: Trainer) -> bool:
    """Return whether the Trainer is in `fit`, its validations and sanity check included."""
    return trainer.state.fn == TrainerFn.FITTING


def running_method(trainer: Trainer) -> str:
    """Return the name of the Trainer's method that runs: fit, validate, test; else nothing."""
    return "" if trainer.state.fn is None else trainer.state.fn.value


def logging_step(trainer: Trainer) -> int:
    """Return the step Lightning stamps on what is logged in a validation.

    It is not ``trainer.global_step`` (which counts the steps of every optimizer); figures need it
    to stand at the same step as their scalars.

    Args:
        trainer: The Trainer.

    Returns:
        Number of batches that took an optimizer step.
    """
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def completed_epochs(trainer: Trainer) -> float:
    """Return how many epochs were trained, with a fraction in the middle of one.

    Args:
        trainer: The Trainer.

    Returns:
        Epochs; whole ones where the length of an epoch is unknown.
    """
    if trainer.sanity_checking or not is_fitting(trainer):
        return float(trainer.current_epoch)
    progress = trainer.fit_loop.epoch_loop.batch_progress
    if progress.is_last_batch:
        return trainer.current_epoch + 1.0
    return trainer.current_epoch + progress.current.ready / trainer.num_training_batches


def is_last_batch(trainer: Trainer) -> bool:
    """Return, at the end of a validation or test batch, whether it was the last.

    Lightning fetches one batch ahead from loaders without a length, so it knows of theirs too; only
    where a step fetches its batches itself (``dataloader_iter``) a length is needed.

    Args:
        trainer: The Trainer.

    Returns:
        True if no batch follows, of any loader.
    """
    loop = trainer.test_loop if trainer.testing else trainer.validate_loop
    if is_fitting(trainer):
        loop = trainer.fit_loop.epoch_loop.val_loop
    fetcher = loop._data_fetcher
    return fetcher is not None and fetcher.done


def first_reason(trainer: Trainer, reason: str | None) -> str:
    """Return in every process why something failed in one of them; every process must ask.

    Args:
        trainer: The Trainer.
        reason: Why it failed in this process, None where it did not; some process has one.

    Returns:
        The reason of the first process that has one.
    """
    everyone = range(trainer.world_size)
    reasons = (trainer.strategy.broadcast(reason, src=rank) for rank in everyone)
    return next(reason for reason in reasons if reason is not None)


def writes_files(trainer: Trainer) -> bool:
    """Return whether a run is meant to leave files: not in the Trainer's fast_dev_run."""
    return not getattr(trainer, "fast_dev_run", False)


def log_folder(trainer: Trainer) -> Path:
    """Return the folder for the files of a run; every process must ask.

    The ``log_dir`` of the first logger, if it has one of its own for each run (TensorBoard's, CSV);
    else, as for Lightning's checkpoints, one by the logger's name and version, so that the runs of
    one ``save_dir`` (Weights & Biases', MLflow's) keep apart.

    Args:
        trainer: The Trainer.

    Returns:
        The folder.

    Raises:
        RuntimeError: If the logger fails when it is asked, in all processes.
    """
    folder, reason, failed = None, "", None
    try:
        folder = _own_folder(trainer)
    # Some ask a server, from the first process alone: the others must not wait for it.
    except Exception as error:
        reason, failed = describe(error, "asking the logger for its folder"), error
    folder, reason = trainer.strategy.broadcast((folder, reason))
    if folder is not None:
        return Path(folder)
    try:
        raise RuntimeError(
            f"Expected a logger that names the folder of its run, but got {reason}"
        ) from failed
    finally:
        failed = None  # this frame is part of its traceback, and would hold itself


def _own_folder(trainer: Trainer) -> str:
    """Return the folder of the first logger's run, in this process; see `log_folder`."""
    # Not `Trainer.log_dir`: it waits for other processes.
    logger: Any = next(iter(trainer.loggers), None)
    own = getattr(logger, "log_dir", None)
    if isinstance(own, str):
        return own
    root = Path(getattr(logger, "save_dir", None) or trainer.default_root_dir)
    if not hasattr(logger, "name") or not hasattr(logger, "version"):
        return str(root)
    version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
    return str(root / str(logger.name) / version)
