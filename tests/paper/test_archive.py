import math
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_lyap import SpectrumHistory
from paper.archive import load_records, save_records
from paper.records import Record
from tests.sweep_runs import spectrum

ABOUT: dict[str, Any] = {
    "name": "one",
    "task": "charrnn",
    "scale": "tiny",
    "epochs": 2,
    "facts": {"init_p": 0.1},
    "settings": {"datamodule": {"source": "real"}},
}


def record(*rows: list[float], losses: dict[float, float] | None = None) -> Record:
    history = SpectrumHistory({"state": "hidden", "module": "rnn"})
    for epoch, row in enumerate(rows):
        history.append(float(epoch), 10 * epoch, spectrum(row), 0.5)
    return Record("one", ABOUT, history, losses or {1.0: 2.0, 2.0: 1.0})


def test_what_comes_back_is_what_went_in(tmp_path: Path) -> None:
    before = record([0.123456, -1.0, -math.inf], [0.2, -7.654321, -8.0])
    before.history.record_failure(1.0, 10, "odd")
    before.best["full"] = record([0.5, 0.25, -1.0]).history
    save_records([before], tmp_path / "r.npz")
    (after,) = load_records([tmp_path / "r.npz"])
    assert (after.name, after.about, after.losses) == ("one", ABOUT, before.losses)
    assert after.history.epochs == [0.0, 1.0]
    assert after.history.steps == [0, 10]
    assert after.history.failures == before.history.failures
    assert after.history.settings == before.history.settings
    for a, b in zip(after.history.spectra, before.history.spectra, strict=True):
        torch.testing.assert_close(a.exponents, b.exponents, atol=0.5e-5, rtol=0)
        torch.testing.assert_close(a.std, b.std, atol=0.5e-4, rtol=0)
        assert torch.equal(a.resolved, b.resolved)
        assert (a.num_sequences, a.tangent_size) == (b.num_sequences, b.tangent_size)
        assert bool(a.margins.isnan().all())
    assert after.history.spectra[0].exponents[2].item() == -math.inf
    assert after.best["full"].spectra[0].exponents.tolist() == pytest.approx([0.5, 0.25, -1.0])


def test_the_spectra_of_all_networks_of_the_paper_are_small(tmp_path: Path) -> None:
    # 60 runs of 41 spectra of 512 exponents must stay below 5 MB: 2 kB each.
    values = torch.linspace(-0.3, -6, 512) + 0.003 * torch.randn(512)
    rows = [values.sort(descending=True).values.tolist() for _ in range(41)]
    many = record(*rows)
    for each in many.history.spectra:
        each.std.copy_(0.05 + 0.02 * torch.rand(512))
    save_records([many], tmp_path / "r.npz")
    assert (tmp_path / "r.npz").stat().st_size < 41 * 2000


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        load_records([tmp_path / "none.npz"])


def test_the_best_epoch_is_that_of_the_lowest_loss_that_is_a_number() -> None:
    losses = {1.0: math.nan, 2.0: 0.5, 3.0: 0.7, 4.0: 0.5}
    assert record([0.0], losses=losses).best_epoch == 2.0


def test_a_record_cut_short_knows_nothing_of_later_epochs() -> None:
    whole = record([0.1], [0.2], [0.3], losses={1.0: 2.0, 2.0: 1.0})
    short = whole.cut(1)
    assert short.is_complete
    assert (short.history.epochs, short.losses) == ([0.0, 1.0], {1.0: 2.0})
    best = short.best_spectrum()
    assert best is not None
    assert best.exponents.item() == 0.2
    assert not whole.cut(3).is_complete


def test_the_best_spectrum_is_that_of_the_best_epoch_or_none() -> None:
    one = record([0.1], [0.2], losses={1.0: 2.0, 2.0: 1.0})
    assert one.best_spectrum() is None
    assert len(one.run_at_best().history) == 0
    late = SpectrumHistory({"state": "hidden"})
    late.append(2.0, 2, spectrum([0.7]), 0.0)
    one.best["hidden"] = late
    best = one.best_spectrum()
    assert best is not None
    assert best.exponents.item() == 0.7
    assert one.run_at_best().history.epochs == [2.0]
    assert one.best_spectrum("full") is None
