"""The spectra of a run survive checkpoints, files and interruptions bit by bit."""

import io
import json
import math
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_lyap import SpectrumHistory, __version__, lyapunov_spectrum
from lightning_lyap.estimate import LayeredSpectrum, MeanSpectrum
from lightning_lyap.history import ROWS
from tests.cells import INPUT_SIZE, build

F64 = torch.float64
SETTINGS = {"state": "hidden", "num_sequences": 10, "dtype": None, "module": "rnn — λ"}


def spectrum(
    size: int = 4, seed: int = 0, tangent_size: int = 6, num_sequences: int = 3
) -> MeanSpectrum:
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(3, size, generator=generator, dtype=F64)
    exponents = draw[0].sort(descending=True).values
    exponents[-1] = -math.inf
    return MeanSpectrum(
        exponents=exponents,
        std=draw[1].abs(),
        standard_errors=torch.where(exponents.isfinite(), draw[2].abs(), math.nan),
        margins=torch.where(exponents.isfinite(), 2.5 * draw[2].abs(), math.nan),
        resolved=exponents.isfinite(),
        rounding_errors=draw[2].abs() / 100,
        num_sequences=num_sequences,
        tangent_size=tangent_size,
    )


def filled(length: int = 3, size: int = 4) -> SpectrumHistory:
    history = SpectrumHistory(SETTINGS)
    for i in range(length):
        history.append(i / 3, 10 * i, spectrum(size, i, num_sequences=3 + i), 0.1 + i)
    history.record_failure(1 / 3, 7, "ValueError: NaN, \"quoted\" and 'so' → on")
    return history


def through_state_dict(history: SpectrumHistory, folder: Path) -> SpectrumHistory:
    restored = SpectrumHistory()
    restored.load_state_dict(history.state_dict())
    return restored


def through_checkpoint(history: SpectrumHistory, folder: Path) -> SpectrumHistory:
    file = io.BytesIO()
    torch.save({"callbacks": {"lyapunov": history.state_dict()}}, file)
    file.seek(0)
    restored = SpectrumHistory({"of": "another run"})
    restored.load_state_dict(torch.load(file, weights_only=True)["callbacks"]["lyapunov"])
    return restored


def through_file(history: SpectrumHistory, folder: Path) -> SpectrumHistory:
    return SpectrumHistory.load(history.save(folder / "spectra.npz"))


ROUNDS = [through_state_dict, through_checkpoint, through_file]
Round = Callable[[SpectrumHistory, Path], SpectrumHistory]


def assert_bitwise(got: Tensor, expected: Tensor) -> None:
    assert got.dtype == expected.dtype
    assert got.numpy().tobytes() == expected.numpy().tobytes()


def assert_same(got: SpectrumHistory, expected: SpectrumHistory) -> None:
    assert len(got) == len(expected)
    for one, other in zip(got.spectra, expected.spectra, strict=True):
        for name in ROWS:
            assert_bitwise(getattr(one, name), getattr(other, name))
        assert (one.num_sequences, one.tangent_size) == (other.num_sequences, other.tangent_size)
        assert isinstance(one.num_sequences, int)
        assert isinstance(one.tangent_size, int)
    for name in ("epochs", "steps", "seconds", "failures", "settings"):
        assert getattr(got, name) == getattr(expected, name)
        assert type(getattr(got, name)) is type(getattr(expected, name))


@pytest.mark.parametrize("go", ROUNDS)
@pytest.mark.parametrize("size", [1, 4])
def test_round_trip_is_exact(go: Round, size: int, tmp_path: Path) -> None:
    history = filled(size=size)
    assert bool(history.exponents().isinf().any())
    assert bool(history.spectra[0].standard_errors.isnan().any())
    restored = go(history, tmp_path)
    assert_same(restored, history)
    assert isinstance(restored.steps[0], int)
    assert isinstance(restored.epochs[0], float)


@pytest.mark.parametrize("go", ROUNDS)
def test_an_empty_history_goes_round_too(go: Round, tmp_path: Path) -> None:
    history = SpectrumHistory(SETTINGS)
    history.record_failure(0, 0, "at once")
    assert_same(go(history, tmp_path), history)


@pytest.mark.parametrize("go", ROUNDS)
def test_a_restored_history_goes_on(go: Round, tmp_path: Path) -> None:
    history = filled()
    restored = go(history, tmp_path)
    for each in (history, restored):
        each.append(4, 99, spectrum(seed=9), 1.5)
    assert_same(restored, history)
    assert len(restored) == 4


def test_a_failed_spectrum_of_nan_is_kept(tmp_path: Path) -> None:
    history = SpectrumHistory()
    nan = torch.full((2,), math.nan, dtype=F64)
    history.append(
        1,
        1,
        MeanSpectrum(
            exponents=nan,
            std=nan,
            standard_errors=nan,
            margins=nan,
            resolved=torch.zeros(2, dtype=torch.bool),
            rounding_errors=nan,
            num_sequences=0,
            tangent_size=2,
        ),
        0.0,
    )
    assert_same(through_file(history, tmp_path), history)


def test_only_the_mean_part_of_an_estimate_is_kept() -> None:
    x = torch.randn(2, 5, INPUT_SIZE, dtype=F64)
    estimate = lyapunov_spectrum(build("gru"), x, keep_log_stretches=True)
    history = SpectrumHistory()
    history.append(0, 0, estimate, 0.0)
    assert type(history.spectra[0]) is LayeredSpectrum
    assert_bitwise(history.exponents()[0], estimate.exponents)


@pytest.mark.parametrize("go", ROUNDS)
@pytest.mark.parametrize("first", ["joint", "union"])
def test_layers_are_kept_and_those_unknown_stay_so(go: Round, first: Any, tmp_path: Path) -> None:
    """A run may go on with another choice of layers."""
    module, x = build("gru", num_layers=2), torch.randn(2, 5, INPUT_SIZE, dtype=F64)
    history = SpectrumHistory()
    for layers in (first, "union", "joint"):
        history.append(0, 0, lyapunov_spectrum(module, x, layers=layers), 0.0)
    restored = go(history, tmp_path)
    union = lyapunov_spectrum(module, x, layers="union").layer
    assert union is not None
    kept = [spectrum.layer for spectrum in restored.spectra]
    assert kept[2] is None
    assert (kept[0] is None) == (first == "joint")
    assert kept[1] is not None
    assert_bitwise(kept[1], union)
    _, ax = restored.plot_spectrum(1)
    assert "layer 1" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_a_spectrum_is_drawn_with_the_interval_of_its_mean() -> None:
    _, ax = filled().plot_spectrum()
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "95 % interval of the mean" in names


def test_what_was_appended_is_a_copy() -> None:
    one = spectrum()
    history = SpectrumHistory()
    history.append(0, 0, one, 0.0)
    before = history.exponents().clone()
    one.exponents.zero_()
    assert_bitwise(history.exponents(), before)


def test_spectra_made_in_inference_mode_can_be_used_outside() -> None:
    history = SpectrumHistory()
    with torch.inference_mode():
        history.append(0, 0, spectrum(), 0.0)
        assert not history.spectra[0].exponents.is_inference()
    rows = history.exponents()
    assert not rows.is_inference()
    rows.requires_grad_().sum().backward()
    through_checkpoint(history, Path())


@pytest.mark.parametrize("other", [spectrum(size=3), spectrum(tangent_size=7)], ids=["K", "N"])
def test_another_network_needs_a_history_of_its_own(other: MeanSpectrum) -> None:
    history = filled()
    message = (
        f"Expected a spectrum of 4 exponents, N = 6, as before, "
        f"but got {other.num_exponents}, N = {other.tangent_size}. Start a new history"
    )
    with pytest.raises(ValueError, match=message):
        history.append(9, 9, other, 0.0)
    assert len(history) == len(history.epochs) == len(history.steps) == len(history.seconds) == 3


def test_settings_are_those_of_the_run_that_was_saved(tmp_path: Path) -> None:
    settings = dict(SETTINGS)
    history = SpectrumHistory(settings)
    settings["state"] = "changed later"
    assert through_file(history, tmp_path).settings == SETTINGS


def test_the_file_holds_numbers_and_text_alone(tmp_path: Path) -> None:
    path = filled().save(tmp_path / "spectra.npz")
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    assert set(arrays) == {
        *ROWS,
        *("epochs", "steps", "seconds", "num_sequences", "tangent_size"),
        *("failures", "settings", "version"),
    }
    assert arrays["exponents"].shape == (3, 4)
    assert all(array.dtype.kind in "fibU" for array in arrays.values())
    assert str(arrays["version"]) == __version__
    assert json.loads(str(arrays["settings"])) == SETTINGS


@pytest.mark.parametrize(
    ("given", "written"), [("a.npz", "a.npz"), ("a", "a.npz"), ("run.v2", "run.v2.npz")]
)
def test_the_path_written_is_returned(given: str, written: str, tmp_path: Path) -> None:
    """Folders are made, and the suffix is added to names that lack it, dots in them or not."""
    path = filled().save(str(tmp_path / "new" / "folder" / given))
    assert path == tmp_path / "new" / "folder" / written
    assert [file.name for file in path.parent.iterdir()] == [written]


@pytest.mark.parametrize("moment", ["writing", "replacing"])
def test_a_crash_while_saving_leaves_the_old_file(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "spectra.npz"
    old = filled(1)
    old.save(path)

    def crash(file: Any, *args: Any, **arrays: Any) -> None:
        if moment == "writing":
            file.write(b"half of it")
        raise OSError("No space left on device")

    if moment == "writing":
        monkeypatch.setattr(np, "savez", crash)
    else:
        monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(OSError, match="No space left"):
        filled(3).save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["spectra.npz"]
    assert_same(SpectrumHistory.load(path), old)


def text(path: Path) -> None:
    path.write_text("epoch,max\n1,0.5\n")


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"exponents": [1.0]}))


def array(path: Path) -> None:
    np.save(path.open("wb"), np.zeros(3))


def archive_of_others(path: Path) -> None:
    np.savez(path, weights=np.zeros(3))


def archive_of_objects(path: Path) -> None:
    filled().save(path)
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **arrays | {"settings": np.array({"state": "full"}, dtype=object)})


def archive_of_text(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("settings", "{}")


def truncated(path: Path) -> None:
    filled().save(path)
    path.write_bytes(path.read_bytes()[:-40])


def altered(path: Path) -> None:
    filled().save(path)
    content = bytearray(path.read_bytes())
    content[200] ^= 0xFF
    path.write_bytes(content)


def without_rows(path: Path) -> None:
    filled().save(path)
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files if name != "std"}
    np.savez(path, **arrays)


def with_a_row_missing(path: Path) -> None:
    filled().save(path)
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **arrays | {"resolved": arrays["resolved"][:-1]})


def empty(path: Path) -> None:
    path.touch()


BROKEN = [
    *(text, pickled, array, archive_of_others, archive_of_objects, archive_of_text),
    *(truncated, altered, without_rows, with_a_row_missing, empty, Path.mkdir),
]


@pytest.mark.parametrize("make", BROKEN, ids=lambda make: make.__name__)
def test_what_is_no_such_file_is_refused_by_its_path(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "foreign.npz"
    make(path)
    with pytest.raises(ValueError, match=r"Expected '.*foreign\.npz' to be a file of spectra"):
        SpectrumHistory.load(path)


class Trap:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_nothing_in_a_file_is_ever_run(tmp_path: Path) -> None:
    path, mark = filled().save(tmp_path / "spectra.npz"), tmp_path / "mark"
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **arrays | {"settings": np.array(Trap(mark), dtype=object)})
    with pytest.raises(ValueError, match="to be a file of spectra"):
        SpectrumHistory.load(path)
    assert not mark.exists()


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        SpectrumHistory.load(tmp_path / "nowhere.npz")


def test_loaded_and_plotted_with_two_lines(tmp_path: Path) -> None:
    path = filled().save(tmp_path / "spectra.npz")

    history = SpectrumHistory.load(path)
    figure, ax = history.plot()

    values = ax.collections[0].get_array()
    shown = np.ma.getdata(values)[~np.ma.getmaskarray(values)]
    expected = history.exponents().numpy()
    np.testing.assert_array_equal(np.sort(shown), np.sort(expected[np.isfinite(expected)]))
    assert ax.figure is figure


def test_one_spectrum_is_plotted_by_its_place() -> None:
    history = filled()
    for index, epochs in ((-1, 2 / 3), (0, 0)):
        _, ax = history.plot_spectrum(index)
        assert ax.get_title() == f"epoch {epochs:g}"
        drawn = ax.get_lines()[1].get_ydata()
        known = history.spectra[index].exponents[:-1]
        np.testing.assert_array_equal(drawn[:-1], known.numpy())
    figure, ax = history.plot_spectrum()
    assert history.plot(ax=ax) == (figure, ax)


@pytest.mark.parametrize("draw", [SpectrumHistory.plot, SpectrumHistory.plot_spectrum])
def test_an_empty_history_can_not_be_drawn(draw: Callable[[SpectrumHistory], Any]) -> None:
    with pytest.raises(ValueError, match=r"at least one spectrum to draw, but .* is empty"):
        draw(SpectrumHistory())


def test_the_heat_map_leaves_out_what_is_unresolved() -> None:
    history = filled()
    history.spectra[1].resolved[:] = False
    history.spectra[1].resolved[0] = True
    _, ax = history.plot()
    shown = np.ma.getmaskarray(ax.collections[0].get_array()).reshape(4, 3)
    assert shown[:, 1].tolist() == [False, True, True, True]
    assert ax.get_title() == "gray: unresolved"
