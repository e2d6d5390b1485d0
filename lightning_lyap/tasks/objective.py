"""What a sweep optimizes: metrics by name, refused early where no run will have them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_lyap.statistics.measures import STATISTICS as MEASURES

LOSS = "val/loss"
# Of all recurrent modules together.
COSTS = {"seconds", "epoch_fraction"}
# What `LyapunovSpectrumCallback` logs of each module: numbers, not the flags.
STATISTICS = {*MEASURES} | {"max_standard_error", "max_margin", "rounding_error", "certified"}


def objective_keys(objective: Any) -> tuple[str, ...]:
    """Return the names of the metrics to optimize.

    Args:
        objective: A name, or a list of names.

    Returns:
        The names.

    Raises:
        ValueError: If it is neither, or a name comes twice.
    """
    keys = (objective,) if isinstance(objective, str) else tuple(objective or ())
    if not keys or len({*keys}) < len(keys) or not all(isinstance(k, str) and k for k in keys):
        raise ValueError(
            "Expected `objective` to be the name of a metric or a list of different names, such as "
            f"{LOSS}_best or [{LOSS}_best,lyapunov/max], but got {objective!r}."
        )
    return keys


def objective_value(objective: Any, metrics: Mapping[str, float]) -> float | tuple[float, ...]:
    """Read what a sweep optimizes from the final metrics of a run.

    Args:
        objective: A name, or a list of names.
        metrics: Numbers by name.

    Returns:
        A number, or for several names a tuple in their order.

    Raises:
        ValueError: If one is missing or not finite: sweepers have no use for it.

    Example:
        >>> objective_value(["a", "b"], {"a": 1.0, "b": 2.0, "c": 3.0})
        (1.0, 2.0)
    """
    keys = objective_keys(objective)
    bad = [key for key in keys if not math.isfinite(metrics.get(key, math.nan))]
    if bad:
        got = ", ".join(f"{key}={metrics[key]}" if key in metrics else f"no {key}" for key in bad)
        raise ValueError(
            f"Expected the run to end with a finite objective, but got {got}. The training "
            "may have diverged, or the metric was never logged; there were "
            f"{', '.join(sorted(metrics))}."
        )
    values = tuple(metrics[key] for key in keys)
    return values[0] if len(values) == 1 else values


class Objective(Callback):
    """Keeps the latest metrics of a run, through checkpoints too, and refuses unknown objectives.

    Before training where the names are known: a LightningModule may tell what it logs by an
    attribute ``metric_names``, and the names of the statistics of spectra are given. Otherwise, in
    a sweep, at the end of the first epoch with a validation.

    Args:
        objective: A name, or a list of names.
        spectra: Name of the callback that measures spectra.
        swept: Whether a sweep waits for the objective.

    Attributes:
        metrics: Numbers by name: the latest of everything logged, and ``val/loss_best``, the lowest
            validation loss at the end of an epoch.
    """

    def __init__(self, objective: Any, spectra: str = "lyapunov", swept: bool = False) -> None:
        self.keys = objective_keys(objective)
        self.metrics: dict[str, float] = {}
        self._spectra = spectra
        self._swept = swept
        self._validated = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse an objective that can't be: before training.

        Raises:
            ValueError: If a name is known to be none.
        """
        declared: Sequence[str] | None = getattr(pl_module, "metric_names", None)
        spectra = {f"{self._spectra}/{name}" for name in STATISTICS | COSTS}
        names = {*(declared or ()), *spectra, *self._best_names(trainer)}
        possible = {
            key
            for key in self.keys
            if (key.split("/")[-1] in STATISTICS if self._place(key) else declared is None)
        }
        self._refuse_unless(possible, names)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that there was a validation."""
        self._validated |= not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the metrics of the epoch that ends.

        Raises:
            ValueError: If a sweep waits for one that is still missing.
        """
        self.metrics |= {key: float(value) for key, value in trainer.callback_metrics.items()}
        loss = self.metrics.get(LOSS, math.nan)
        if math.isfinite(loss):
            self.metrics[f"{LOSS}_best"] = min(loss, self.metrics.get(f"{LOSS}_best", math.inf))
        if self._swept and (self._validated or not trainer.enable_validation):
            names = {*self.metrics, *self._best_names(trainer)}
            # Spectra whose first measurement failed may come, but on the modules of the others;
            # `epoch_fraction` comes with the second.
            places = {self._place(name) for name in names} - {""}
            possible = {f"{self._spectra}/{name}" for name in COSTS}
            spectra = [key for key in self.keys if self._place(key)]
            possible |= {key for key in spectra if not places or self._place(key) in places}
            self._refuse_unless(possible, names)

    def final_metrics(self, trainer: Trainer) -> dict[str, float]:
        """Return all metrics at the end of a run.

        Args:
            trainer: After training.

        Returns:
            Numbers by name; also, as ``MONITOR_best``, the best of what checkpoints are chosen by.
        """
        chosen: Any = trainer.checkpoint_callbacks
        best = {f"{one.monitor}_best": one.best_model_score for one in chosen}
        latest = {key: value for key, value in best.items() if value is not None}
        latest |= self.metrics | trainer.callback_metrics
        return {key: float(value) for key, value in latest.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the metrics so far."""
        return {"metrics": self.metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with metrics that `state_dict` returned."""
        self.metrics = dict(state_dict["metrics"])

    def _place(self, key: str) -> str:
        """Return what precedes the statistic in the name of a module's; nothing for other names."""
        place, _, statistic = key.rpartition("/")
        return place if key.startswith(f"{self._spectra}/") and statistic not in COSTS else ""

    def _best_names(self, trainer: Trainer) -> set[str]:
        """Return the names of the best values: of the loss, and of what checkpoints go by."""
        chosen: Any = trainer.checkpoint_callbacks
        monitors = {one.monitor for one in chosen if one.monitor}
        # As long as nothing was logged a loss may come.
        lossless = bool(self.metrics) and LOSS not in self.metrics
        return {f"{name}_best" for name in (monitors if lossless else {*monitors, LOSS})}

    def _refuse_unless(self, possible: set[str], names: set[str]) -> None:
        """Refuse objectives that are neither names of metrics nor possible otherwise."""
        bad = [key for key in self.keys if key not in names | possible]
        if bad:
            raise ValueError(
                f"Expected `objective` to name metrics of the run, but got {', '.join(bad)}. There "
                f"are {', '.join(sorted(names))}."
            )
