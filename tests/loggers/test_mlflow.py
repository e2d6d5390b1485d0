"""MLflow's logger with a local store: read back through a client of its own."""

from pathlib import Path

import pytest
from matplotlib.image import imread
from pytorch_lightning.loggers import MLFlowLogger

from tests.loggers.runs import FIGURES, run

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")


def test_scalars_and_images_stand_at_the_steps_of_the_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # MLflow 3 wants a database unless it is told otherwise.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    store = tmp_path / "store"
    logger = MLFlowLogger("spectra", save_dir=str(store))
    history = run(tmp_path, logger, monkeypatch)

    client = mlflow.MlflowClient(store.as_uri())
    experiments = client.search_experiments()
    assert {experiment.name for experiment in experiments} == {"Default", "spectra"}
    found = client.get_metric_history(logger.run_id, "lyapunov/max")
    assert [metric.step for metric in found] == history.steps
    assert [metric.value for metric in found] == pytest.approx(
        history.exponents()[:, 0].tolist(), rel=1e-6
    )
    losses = client.get_metric_history(logger.run_id, "val/loss")
    assert [metric.step for metric in losses] == history.steps[1:]

    paths = [Path(entry.path) for entry in client.list_artifacts(logger.run_id, "images")]
    for figure in FIGURES:
        own = [p for p in paths if f"lyapunov~{figure}+" in p.name and p.suffix == ".png"]
        assert sorted(int(path.name.split("+")[2]) for path in own) == history.steps
        local = client.download_artifacts(logger.run_id, str(own[0]), str(tmp_path))
        assert imread(local).shape == (4, 6, 4)
    folder = store / str(logger.experiment_id) / str(logger.run_id) / "lyapunov"
    assert (folder / "spectra.npz").exists()
