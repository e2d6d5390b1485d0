"""The callback refuses wrong settings at once, when it is made, and names them."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_lyap import LyapunovSpectrumCallback, SpectrumHistory
from tests.bad_input.strategies import (
    assert_refused,
    bad_counts,
    bad_flags,
    bad_words,
    not_an_int,
    profile,
)
from tests.networks import fit

ARGUMENTS: dict[str, st.SearchStrategy[Any]] = {
    "num_sequences": bad_counts(1),
    "num_steps": bad_counts(1),
    "warmup_steps": bad_counts(0),
    "orthonormalize_every": st.one_of(bad_counts(1), st.none()),
    "num_exponents": bad_counts(1),
    "state": bad_words("full", "hidden"),
    "layers": bad_words("joint", "union"),
    "dtype": bad_words("float32", "float64").filter(lambda value: value is not None),
    "every_n_validations": bad_counts(1),
    "before_training": bad_flags(),
    "modules": st.one_of(
        not_an_int().filter(lambda value: isinstance(value, bool | float | complex)),
        st.sampled_from([3, [3], [None], [["rnn"]], b"rnn", [torch.nn.RNN(1, 1)]]),
    ),
    "figures": bad_flags(),
    "save": bad_flags(),
    "on_error": bad_words("warn", "raise"),
    "name": st.sampled_from(["", " ", ".", "..", "/abs", "a//b", "a/../b", "a/", None, 3, b"x"]),
}


@profile(200)
@given(st.sampled_from(sorted(ARGUMENTS)), st.data())
def test_arguments(name: str, data: st.DataObject) -> None:
    setting: dict[str, Any] = {name: data.draw(ARGUMENTS[name])}
    assert_refused(lambda: LyapunovSpectrumCallback(**setting), f"`{name}`")


@pytest.mark.parametrize("name", ["lyapunov", "spectra of the rnn", "a/b", "..a"])
def test_names_of_folders_inside_the_log_folder_are_taken(name: str) -> None:
    assert LyapunovSpectrumCallback(name=name).name == name


def test_integers_of_numpy_go_through_files(tmp_path: Path) -> None:
    two: Any = np.int64(2)
    callback = LyapunovSpectrumCallback(
        num_sequences=two,
        num_steps=two,
        warmup_steps=two,
        num_exponents=two,
        orthonormalize_every=two,
        every_n_validations=two,
        on_error="raise",
        figures=False,
    )
    trainer, _ = fit(tmp_path, callback, max_epochs=1, logger=True)
    assert trainer.log_dir is not None
    history = SpectrumHistory.load(Path(trainer.log_dir) / "lyapunov" / "spectra.npz")
    assert history.settings["num_steps"] == 2
    assert history.exponents().shape[1] == 2
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    torch.load(tmp_path / "one.ckpt", weights_only=True)


def test_a_saved_history_that_is_damaged_changes_nothing() -> None:
    callback = LyapunovSpectrumCallback()
    state = callback.state_dict() | {"histories": {"rnn": {"epochs": torch.zeros(2)}}}
    assert_refused(lambda: callback.load_state_dict(state), "`seconds`")
    assert callback.histories == {}


def test_a_state_of_something_else_changes_nothing() -> None:
    callback = LyapunovSpectrumCallback()
    for name in ("validations", "histories", "last"):
        state = {key: value for key, value in callback.state_dict().items() if key != name}
        assert_refused(partial(callback.load_state_dict, state), name)
    assert callback.state_dict() == LyapunovSpectrumCallback().state_dict()
