"""Two processes with a share of the sequences each know together what one would."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes

from lightning_lyap import LyapunovSpectrum, lyapunov_spectrum
from lightning_lyap.dynamics import LayerChoice
from tests.cells import build, sequences
from tests.compare import assert_near
from tests.metrics import VECTORS

SHARES = {"both": [(0, 4), (4, 6)], "one idle": [(0, 6), (6, 6)]}
COUNTS: dict[LayerChoice, tuple[int | None, ...]] = {"joint": (7, 1, 3), "union": (None, 1, 17)}
PLANS = [
    (layers, count, name)
    for layers, counts in COUNTS.items()
    for count in counts
    for name in SHARES
]


def networks_and_inputs() -> tuple[dict[LayerChoice, nn.RNNBase], Tensor]:
    """Draw the same in every process."""
    torch.manual_seed(0)
    return {"joint": build("gru"), "union": build("lstm", num_layers=2)}, sequences(6)


def synchronized(rank: int, folder: str) -> None:
    """One process of two: measure a share of the sequences, save what both know together."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    networks, x = networks_and_inputs()
    results = []
    for layers, count, name in PLANS:
        metric = LyapunovSpectrum(count, layers=layers)
        if layers == "union":
            metric.expect(networks[layers])
        part = x[slice(*SHARES[name][rank])]
        if len(part):
            metric.update(networks[layers], part)
        results.append(metric.compute())
    torch.save(results, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="needs torch.distributed with gloo",
)
def test_two_processes_equal_one(tmp_path: Path) -> None:
    """Also where one of them has no sequence."""
    start_processes(synchronized, (str(tmp_path),), nprocs=2, start_method="fork")
    networks, x = networks_and_inputs()
    for rank in range(2):
        results = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for (layers, count, _), values in zip(PLANS, results, strict=True):
            expected = lyapunov_spectrum(networks[layers], x, num_exponents=count, layers=layers)
            for name in VECTORS:
                assert_near(values[name].reshape(-1), getattr(expected, name), 1e-12)
            assert values["num_sequences"] == 6
            assert (
                values["tangent_size"] == expected.tangent_size == {"joint": 7, "union": 28}[layers]
            )
            if layers == "union":
                assert expected.layer is not None
                assert values["layer"].reshape(-1).tolist() == expected.layer.tolist()
