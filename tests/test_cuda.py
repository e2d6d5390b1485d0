"""On a CUDA device: the same numbers as on the CPU, nothing waits, and training is left alone."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

# Read when cuBLAS starts: without it torch refuses products where algorithms must be deterministic.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

from gpu_accuracy import CASES, Case, compare
from lightning_lyap import (
    LyapunovSpectrumCallback,
    SpectrumEstimate,
    lyapunov_spectrum,
)
from lightning_lyap._device import upload
from lightning_lyap.estimator.trajectories import Trajectories
from lightning_lyap.qr.orthonormalize import PASSES, Cascade
from lightning_lyap.tasks import CharRNN
from tests.cells import INPUT_SIZE, KINDS, build
from tests.compare import assert_near
from tests.networks import Predictor, fit, trainer, val_loader

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took"),
]

F32, F64 = torch.float32, torch.float64
CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Give back the memory of the test before, and take back what a Trainer has switched on."""
    gc.collect()
    torch.cuda.empty_cache()
    yield
    torch.use_deterministic_algorithms(False)
    torch.cuda.set_sync_debug_mode("default")


def in_basis_order(estimate: SpectrumEstimate, values: Tensor) -> Tensor:
    """Undo the sorting of exponents, or of what belongs to them, ``[..., K]``."""
    values = values.cpu()
    return torch.zeros_like(values).index_copy(-1, estimate.order.cpu(), values)


def assert_same_spectrum(got: SpectrumEstimate, exact: SpectrumEstimate, tolerance: float) -> None:
    """Compare what is resolved, exponent by exponent, and demand that most of it is."""
    known = in_basis_order(got, got.resolved) & in_basis_order(exact, exact.resolved)
    assert float(known.double().mean()) > 0.9
    one, other = (in_basis_order(e, e.exponents)[known] for e in (got, exact))
    assert_near(one, other, tolerance)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_hard_cases_are_orthonormal_and_right(case: Case) -> None:
    """As tests/qr/test_cholesky.py has it on the CPU."""
    found = compare(case, 100, CUDA)
    assert found["orthogonality"] < (1e-5 if case.dtype == F32 else 1e-13)
    assert found["in_bounds"] < (10 if case.kind != "rows" else 100)
    assert found["resolved"] == f"{found['resolved_by_reflections']}/400"
    assert found["zeros"] == found["zeros_by_reflections"]


@pytest.mark.parametrize(("kind", "state"), KINDS)
@pytest.mark.parametrize(
    "settings",
    [{}, {"lengths": [24, 7, 15], "warmup_steps": 3}, {"num_exponents": 3}, {"layers": "union"}],
    ids=["plain", "ragged", "partial", "union"],
)
def test_float64_is_that_of_the_cpu(kind: str, state: Any, settings: dict[str, Any]) -> None:
    module, x = build(kind, num_layers=2), torch.randn(3, 24, INPUT_SIZE, dtype=F64)
    settings = settings | {"state": state, "orthonormalize_every": 2}
    exact = lyapunov_spectrum(module, x, **settings)
    got = lyapunov_spectrum(module.to(CUDA), x.to(CUDA), **settings)
    assert got.exponents.device.type == "cuda"
    assert got.certificate.passed
    assert got.block_ends.tolist() == exact.block_ends.tolist()
    known = exact.resolved
    assert_near(
        got.exponents.cpu()[known], exact.exponents[known], 0.05 if kind == "relu" else 1e-7
    )


@pytest.mark.parametrize("every", [1, "auto"])
def test_an_lstm_of_512_units_is_that_of_the_cpu_in_float64(every: Any) -> None:
    """The CharRNN's own, as it starts; with an automatic interval within its tolerance."""
    lstm = CharRNN(82).rnn
    tokens = torch.randint(82, (3, 20))
    inputs = nn.functional.one_hot(tokens, 82).float()
    exact = lyapunov_spectrum(lstm, inputs, state="hidden", dtype=F64)
    got = lyapunov_spectrum(
        lstm.to(CUDA), inputs.to(CUDA), state="hidden", orthonormalize_every=every
    )
    assert got.certificate.passed
    assert_same_spectrum(got, exact, 1e-4 if every == 1 else 1e-3)


def test_a_full_lstm_is_that_of_the_cpu_in_float64() -> None:
    lstm, inputs = nn.LSTM(8, 100, batch_first=True), torch.randn(3, 40, 8)
    exact = lyapunov_spectrum(lstm, inputs, dtype=F64)
    got = lyapunov_spectrum(lstm.to(CUDA), inputs.to(CUDA))
    assert_same_spectrum(got, exact, 1e-4)


def test_runs_where_cuda_is_the_default_device() -> None:
    with torch.device("cuda"):
        lstm, inputs = nn.LSTM(3, 9, batch_first=True), torch.randn(3, 12, 3)
        estimate = lyapunov_spectrum(lstm, inputs, lengths=[12, 5, 9], target_stderr=1e-9)
    assert bool(estimate.valid.all())


class TestNothingWaits:
    """Torch raises at whatever waits for the device; reading a cascade's flag alone is let pass."""

    @pytest.fixture(autouse=True)
    def questions(self, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
        go, holds, asked = Trajectories.go, Cascade.holds, list[bool]()

        def watched(*arguments: Any) -> None:
            torch.cuda.set_sync_debug_mode("error")
            try:
                go(*arguments)
            finally:
                torch.cuda.set_sync_debug_mode("default")

        def allowed(cascade: Cascade) -> bool:
            torch.cuda.set_sync_debug_mode("default")
            asked.append(holds(cascade))
            torch.cuda.set_sync_debug_mode("error")
            return asked[-1]

        monkeypatch.setattr(Trajectories, "go", watched)
        monkeypatch.setattr(Cascade, "holds", allowed)
        return asked

    @pytest.mark.parametrize("dtype", [F32, F64])
    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"orthonormalize_every": 3, "warmup_steps": 4},
            {"lengths": [20, 5, 12]},
            {"num_exponents": 5, "keep_log_stretches": True},
            {"layers": "union"},
            {"target_stderr": 1e-9},
        ],
        ids=["plain", "interval", "ragged", "partial", "union", "target"],
    )
    def test_inside_the_loop(
        self, settings: dict[str, Any], dtype: torch.dtype, questions: list[bool]
    ) -> None:
        for cell in (nn.LSTM, nn.GRU, nn.RNN):
            questions.clear()
            module = cell(3, 40, 2, batch_first=True, device=CUDA, dtype=dtype)
            x = torch.randn(3, 20, 3, device=CUDA, dtype=dtype)
            assert lyapunov_spectrum(module, x, **settings).certificate.passed
            assert questions[-1]
            assert len(questions) <= len(PASSES) + 1

    def test_would_be_seen(self) -> None:
        """The check itself: a progress bar that reads a number from the device is refused."""
        flag = torch.ones(1, device=CUDA)
        module = nn.GRU(3, 4, batch_first=True, device=CUDA)
        with pytest.raises(RuntimeError, match="synchroniz"):
            lyapunov_spectrum(
                module, torch.randn(2, 5, 3, device=CUDA), progress=lambda *done: print(float(flag))
            )

    def test_a_copy_to_the_device_does_not_wait(self) -> None:
        torch.cuda.set_sync_debug_mode("error")
        copy = upload(torch.arange(5), CUDA)
        torch.cuda.set_sync_debug_mode("default")
        assert copy.device.type == "cuda"
        assert copy.tolist() == [0, 1, 2, 3, 4]


def test_memory_is_returned_after_each_measurement() -> None:
    lstm = nn.LSTM(3, 64, batch_first=True, device=CUDA)
    used = []
    for _ in range(4):
        for every in (1, "auto"):
            lyapunov_spectrum(
                lstm,
                torch.randn(4, 30, 3, device=CUDA),
                lengths=[30, 9, 30, 21],
                orthonormalize_every=every,
            )
        gc.collect()
        torch.cuda.synchronize()
        used.append(torch.cuda.memory_allocated())
    assert used[1:] == [used[1]] * 3


class Wide(Predictor):
    """A network whose spectrum takes much more memory than its training."""

    def __init__(self) -> None:
        super().__init__("lstm", 512)


def test_training_goes_on_when_the_memory_is_too_small(tmp_path: Path) -> None:
    fit(tmp_path, network=Wide, accelerator="gpu")
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    _, expected = fit(tmp_path, network=Wide, accelerator="gpu")
    enough = torch.cuda.max_memory_reserved() + 2**25
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(CUDA).total_memory
    callback = LyapunovSpectrumCallback(figures=False, save=False)
    try:
        torch.cuda.set_per_process_memory_fraction(enough / total)
        with pytest.warns(UserWarning, match="No complete Lyapunov spectrum.*OutOfMemory"):
            runner, model = fit(tmp_path, callback, network=Wide, accelerator="gpu")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert runner.state.finished
    assert len(callback.histories["rnn"]) == 0
    assert len(callback.histories["rnn"].failures) >= 2
    pairs = zip(model.parameters(), expected.parameters(), strict=True)
    assert all(one.shape == other.shape and one.isfinite().all() for one, other in pairs)


class Draws(pl.Callback):
    """Keeps the losses of training and what the device's generator would draw next."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_train_batch_end(self, *args: Any) -> None:
        self.seen.append((args[2]["loss"].item(), torch.cuda.get_rng_state().tolist()))


class LSTMPredictor(Predictor):
    """The same with an LSTM."""

    def __init__(self) -> None:
        super().__init__("lstm", 20)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("network", [Predictor, LSTMPredictor])
def test_training_is_bitwise_the_same(
    tmp_path: Path, precision: Any, network: type[pl.LightningModule]
) -> None:
    """And all of the measurement runs where algorithms must be deterministic."""
    settings: dict[str, Any] = {
        "network": network,
        "accelerator": "gpu",
        "deterministic": True,
        "precision": precision,
    }
    without, with_it = Draws(), Draws()
    _, expected = fit(tmp_path, without, **settings)
    callback = LyapunovSpectrumCallback(on_error="raise", save=False)
    _, model = fit(tmp_path, callback, with_it, **settings)
    history = callback.histories["rnn"]
    assert len(history) >= 2
    assert all(bool(spectrum.exponents.isfinite().all()) for spectrum in history.spectra)
    assert without.seen == with_it.seen
    for one, other in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_validate_and_test_log_spectra(tmp_path: Path, stage: str) -> None:
    callback, model = LyapunovSpectrumCallback(on_error="raise", figures=False), Predictor()
    runner = trainer(tmp_path, callback, accelerator="gpu")
    getattr(runner, stage)(model, val_loader(), verbose=False)
    first: Any = next(iter(val_loader()))[0]
    rest: Any = list(val_loader())[1][0][:2]
    expected = lyapunov_spectrum(model.rnn.cpu(), torch.cat([first, rest]), dtype=F64)
    logged = runner.callback_metrics["lyapunov/max"].item()
    assert logged == pytest.approx(expected.exponents[0].item(), abs=1e-4)
    assert runner.callback_metrics["lyapunov/certified"].item() == 1
