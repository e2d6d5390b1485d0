"""Searches by Optuna that go on where they were killed: a Hydra callback before its sweeper.

Hydra's sweeper adds `n_trials` to a stored study at every start, never repeats trials that were
killed, and draws from its sampler's seed anew. This callback asks for the trials that are missing
and enqueues the killed ones, whose runs then go on in their folders. Where the sampler has no seed
it gets that of the runs, so that a search is repeatable; it moves on with a stored study.
"""

import sys
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, ListConfig, open_dict, read_write

from lightning_lyap.tasks.objective import objective_keys

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
        told, killed = 0, 0
        if isinstance(sweeper.storage, str) and sweeper.study_name is not None:
            self._hold(folder)
            told, killed = resume_study(sweeper.storage, sweeper.study_name)
        with read_write(config), open_dict(config):
            sweeper.n_trials = max(0, sweeper.n_trials - told)
            if "seed" in sweeper.sampler:
                seed = sweeper.sampler.seed
                sweeper.sampler.seed = (config.seed if seed is None else seed) + told + killed

    def _hold(self, folder: Path) -> None:
        """Keep other processes from the study as long as this one lives."""
        self._lock = FileLock(folder / "study.lock")
        try:
            self._lock.acquire(timeout=10)
        except Timeout:
            sys.exit(f"Expected {folder} for this search alone, but another process runs it.")


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
            # Trials that the sweeper itself fails came to an end: they have no such mark.
            optuna.trial.Trial(study, trial._trial_id).set_user_attr("killed", True)
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            if trial.params:
                study.enqueue_trial(trial.params)
    trials = study.get_trials(deepcopy=False)
    killed = sum("killed" in trial.user_attrs for trial in trials)
    ended = sum(trial.state.is_finished() for trial in trials) - killed
    return ended, killed
