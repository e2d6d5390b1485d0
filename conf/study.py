"""Searches by Optuna that go on where they were killed: a Hydra callback before its sweeper.

Hydra's sweeper adds `n_trials` to a stored study at every start, never repeats trials that were
killed, and begins to draw anew from the sampler's seed. This callback asks for the trials that are
missing, enqueues the killed ones, whose runs then go on in their folders, and moves the seed on.
"""

import sys
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write

from lightning_lyap.objective import objective_keys

SWEEPER = "hydra_optuna_sweeper"


class StudyGoesOn(Callback):
    """Prepares a search by Optuna; does nothing for other sweepers.

    What is wrong ends the command: Hydra would turn an ordinary exception into a warning.
    """

    def __init__(self) -> None:
        self._lock: FileLock | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the lock behind: the workers of launchers get copies."""
        return {"_lock": None}

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the directions, and let a stored study go on.

        Args:
            config: The configuration, `hydra` included; the sweeper's part is changed.
            **kwargs: Not used.
        """
        sweeper = config.hydra.sweeper
        if SWEEPER not in sweeper._target_:
            return
        check_directions(config.objective, sweeper.direction)
        folder = Path(config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        if not isinstance(sweeper.storage, str) or sweeper.study_name is None:
            return
        self._lock = FileLock(folder / "study.lock")
        try:
            self._lock.acquire(timeout=10)
        except Timeout:
            sys.exit(f"Expected {folder} for this search alone, but another process runs it.")
        told, waiting = resume_study(sweeper.storage, sweeper.study_name)
        with read_write(config), open_dict(config):
            sweeper.n_trials = max(0, sweeper.n_trials - told)
            if OmegaConf.select(sweeper, "sampler.seed") is not None:
                sweeper.sampler.seed += told + waiting


def check_directions(objective: Any, direction: Any) -> None:
    """Refuse another number of directions than of objectives, before the first trial.

    Args:
        objective: A name, or a list of names.
        direction: Of the sweeper: one, or a list of them.
    """
    try:
        keys = objective_keys(objective)
    except ValueError as error:
        sys.exit(str(error))
    directions = list(direction) if isinstance(direction, ListConfig) else [direction]
    if len(directions) != len(keys):
        sys.exit(
            f"Expected `hydra.sweeper.direction` to have one for each of {', '.join(keys)}, but "
            f"got {len(directions)}. Set it to minimize or maximize, or to a list such as "
            "[minimize,maximize]."
        )


def resume_study(storage: str, name: str) -> tuple[int, int]:
    """Find out how far a study came, and enqueue its trials that were killed.

    Args:
        storage: URL of the storage.
        name: Name of the study.

    Returns:
        How many trials ended, well or not, and how many were killed by now.
    """
    import optuna

    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return 0, 0
    killed = 0
    for trial in study.get_trials(deepcopy=False):
        if trial.state == optuna.trial.TrialState.RUNNING:
            # A mark of ours: the sweeper's own failures are trials that ended.
            optuna.trial.Trial(study, trial._trial_id).set_user_attr("killed", True)
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            if trial.params:
                study.enqueue_trial(trial.params)
    trials = study.get_trials(deepcopy=False)
    killed = sum("killed" in trial.user_attrs for trial in trials)
    ended = sum(trial.state.is_finished() for trial in trials) - killed
    return ended, killed
