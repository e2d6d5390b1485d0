"""A run's row in TensorBoard's HPARAMS table.

The table opens with five hyperparameters: those marked as differing between runs, then by the
alphabet; torch's and Lightning's writers mark none. Here the interesting ones are marked. Columns
of metrics show the last value of the scalars of their names, which are not written again. This room
needs TensorBoard.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard.summary import hparams

Values = Mapping[str, bool | int | float | str | None]


def write_hyperparameters(
    writer: Any, hyperparameters: Values, first: Collection[str], metrics: Iterable[str]
) -> None:
    """Write the row of a run that ended well.

    Args:
        writer: TensorBoard's SummaryWriter of the run.
        hyperparameters: Numbers and text by name; None is left out.
        first: Names of those to show first.
        metrics: Tags of scalars, in the order of the columns.
    """
    known = {name: value for name, value in hyperparameters.items() if value is not None}
    summaries = hparams(known, dict.fromkeys(metrics, 0.0))
    stored = summaries[0].value[0].metadata.plugin_data
    table = HParamsPluginData.FromString(stored.content)
    for column in table.experiment.hparam_infos:
        column.differs = column.name in first
    stored.content = table.SerializeToString()
    # `add_hparams` would write them into a folder below, as a run of its own.
    for summary in summaries:
        writer._get_file_writer().add_summary(summary)
