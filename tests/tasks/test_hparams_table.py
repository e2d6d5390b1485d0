"""A row of TensorBoard's HPARAMS table, as TensorBoard itself reads it back."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.hparams.api_pb2 import (
    STATUS_SUCCESS,
    GetExperimentRequest,
    ListSessionGroupsRequest,
)
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.hparams.get_experiment import Handler as GetExperiment
from tensorboard.plugins.hparams.list_session_groups import Handler as ListSessionGroups
from torch.utils.tensorboard import SummaryWriter

from lightning_lyap.tasks.hparams_table import write_hyperparameters


def hparams_table(folder: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns of the table for the runs below a folder, and its rows."""
    runs = EventMultiplexer().AddRunsFromDirectory(str(folder))
    runs.Reload()
    provider = MultiplexerDataProvider(runs, str(folder))
    asked = RequestContext(), Context(SimpleNamespace(data_provider=provider)), ""
    experiment = GetExperiment(*asked, GetExperimentRequest()).run()
    columns = [info.name for info in experiment.hparam_infos]
    columns += [info.name.tag for info in experiment.metric_infos]
    request = ListSessionGroupsRequest(allowed_statuses=[STATUS_SUCCESS], slice_size=100)
    rows = []
    for group in ListSessionGroups(*asked, request).run().session_groups:
        row: dict[str, Any] = {
            name: getattr(value, value.WhichOneof("kind")) for name, value in group.hparams.items()
        }
        rows.append(row | {value.name.tag: value.value for value in group.metric_values})
    return columns, rows


def test_rows_hold_hyperparameters_and_the_last_value_of_scalars(tmp_path: Path) -> None:
    for init_p in (0.1, 0.3):
        writer = SummaryWriter(tmp_path / str(init_p))
        for step in range(3):
            writer.add_scalar("lyapunov/max", -init_p * step, step)
        settings: dict[str, Any] = {"init_p": init_p, "cell": "gru", "bias": False, "text": None}
        write_hyperparameters(writer, settings, (), ["lyapunov/max"])
        writer.close()
    columns, rows = hparams_table(tmp_path)
    assert columns == ["bias", "cell", "init_p", "lyapunov/max"]
    rows.sort(key=lambda row: row["init_p"])
    for row, init_p in zip(rows, (0.1, 0.3), strict=True):
        last = row.pop("lyapunov/max")
        assert abs(last + 2 * init_p) < 1e-6
        assert row == {"bias": False, "cell": "gru", "init_p": init_p}


def test_what_is_named_comes_first_and_metrics_keep_their_order(tmp_path: Path) -> None:
    settings: dict[str, Any] = dict.fromkeys("abcdefg", 1) | {"init_p": 0.3, "z": "gru"}
    with SummaryWriter(tmp_path) as writer:
        write_hyperparameters(writer, settings, {"z", "init_p", "unknown"}, ["val", "max"])
    columns, _ = hparams_table(tmp_path)
    assert columns == ["init_p", "z", *"abcdefg", "val", "max"]
