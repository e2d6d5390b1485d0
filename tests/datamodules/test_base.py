"""What both DataModules share: loaders, state, and life under a Trainer."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from datamodules import CharTextDataModule, MocapDataModule
from datamodules.base import TensorDataModule

MODULES = [CharTextDataModule, MocapDataModule]


@pytest.fixture(scope="module")
def standins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("standins")


def _ready(module: Any, standins: Path, **arguments: Any) -> TensorDataModule:
    data: TensorDataModule = module(source="synthetic", cache_dir=standins, **arguments)
    data.prepare_data()
    data.setup("fit")
    return data


def _order(data: TensorDataModule, seed: int) -> list[float]:
    torch.manual_seed(seed)
    return [float(x.flatten()[0]) for x, _ in data.train_dataloader()]


@pytest.mark.parametrize("module", MODULES)
def test_resolved_source_is_told(module: Any, standins: Path) -> None:
    data = module(source="synthetic", cache_dir=standins)
    assert data.resolved_source == "unresolved"
    data.prepare_data()
    assert data.resolved_source == "synthetic"
    other = module(source="synthetic", cache_dir=standins)
    other.setup("fit")
    assert other.resolved_source == "synthetic"


@pytest.mark.parametrize("module", MODULES)
def test_setup_before_prepare_says_so(module: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"Call prepare_data\(\) before setup\(\)"):
        module(source="synthetic").setup("fit")


@pytest.mark.parametrize("module", MODULES)
def test_use_before_setup_says_so(module: Any) -> None:
    data = module(source="synthetic")
    for use in (data.train_dataloader, data.val_dataloader, data.test_dataloader):
        with pytest.raises(RuntimeError, match=r"Expected setup\(\) before"):
            use()
    with pytest.raises(RuntimeError, match=r"Expected setup\(\) before"):
        data.lyapunov_sequences(1, 10)


@pytest.mark.parametrize("module", MODULES)
def test_setup_again_changes_nothing(module: Any, standins: Path) -> None:
    data = _ready(module, standins)
    before = data.split("train")
    data.prepare_data()
    data.setup("test")
    assert data.split("train") is before


@pytest.mark.parametrize("module", MODULES)
def test_seed_makes_the_training_order_reproducible(module: Any, standins: Path) -> None:
    data = _ready(module, standins)
    assert _order(data, 1) == _order(data, 1)
    assert _order(data, 1) != _order(data, 2)
    first = [x for x, _ in data.val_dataloader()]
    assert torch.equal(torch.cat(first), data.split("val").tensors[0])


@pytest.mark.parametrize("module", MODULES)
def test_loaders_keep_every_window(module: Any, standins: Path) -> None:
    data = _ready(module, standins, batch_size=77)
    for name in ("train", "val", "test"):
        loader = getattr(data, f"{name}_dataloader")()
        assert sum(len(x) for x, _ in loader) == len(data.split(name))


def test_workers_stay_alive_between_epochs(standins: Path) -> None:
    assert not _ready(CharTextDataModule, standins).val_dataloader().persistent_workers
    loader = _ready(CharTextDataModule, standins, num_workers=2).val_dataloader()
    assert (loader.num_workers, loader.persistent_workers) == (2, False)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(
    "arguments", [{"batch_size": 0}, {"num_workers": -1}, {"batch_size": 2.5}, {"source": "web"}]
)
def test_bad_arguments_are_named(module: Any, arguments: dict[str, Any]) -> None:
    (name,) = arguments
    with pytest.raises(ValueError, match=f"Expected {name} to be .*but got"):
        module(**arguments)


@pytest.mark.parametrize("module", MODULES)
def test_hyperparameters_are_plain(module: Any, tmp_path: Path) -> None:
    data = module(data_dir=tmp_path / "data", cache_dir=tmp_path)
    assert data.hparams["data_dir"] == str(tmp_path / "data")
    torch.save(dict(data.hparams), tmp_path / "hparams.pt")
    loaded = torch.load(tmp_path / "hparams.pt", weights_only=True)
    assert dict(module(**loaded).hparams) == loaded


class _Mean(pl.LightningModule):
    """Learns one number."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        return (batch[1].float() - self.mean).square().mean()

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self.log("loss", self.training_step(batch, index))

    def test_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self.validation_step(batch, index)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_runs_under_a_trainer_and_resumes(module: Any, standins: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "default_root_dir": tmp_path,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "limit_train_batches": 2,
        "limit_val_batches": 2,
        "limit_test_batches": 2,
    }
    data = module(source="synthetic", cache_dir=standins)
    trainer = pl.Trainer(**options, max_epochs=1)
    trainer.fit(_Mean(), datamodule=data)
    trainer.test(datamodule=data, ckpt_path=None, model=_Mean(), verbose=False)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = module(source="synthetic", cache_dir=standins)
    pl.Trainer(**options, max_epochs=2).fit(
        _Mean(), datamodule=again, ckpt_path=tmp_path / "last.ckpt", weights_only=True
    )
    loaded = module.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    assert loaded.hparams == data.hparams
