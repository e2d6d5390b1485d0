"""The figures that share the networks of Fig. 4; each finds them trained after the first."""

import json
from pathlib import Path
from typing import Any

import pytest

from lightning_lyap.tables import read_table
from paper import fig4, fig7, hidden_full, readout
from paper.command import Figure
from tests.paper.conftest import Command

ITEMS: dict[str, tuple[Figure, list[str]]] = {
    "fig7": (fig7.FIGURE, ["Fig. 7"] * 2),
    "readout": (readout.FIGURE, ["Section 5.4", "Section 6", "Section 6"] * 2),
    "hidden_full": (hidden_full.FIGURE, ["Beyond"] * 4),
}


@pytest.mark.parametrize("name", ITEMS)
def test_the_command_runs_to_its_end(
    name: str, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    command(fig4.FIGURE)
    capsys.readouterr()
    figure, items = ITEMS[name]
    folder = command(figure)
    assert capsys.readouterr().out.count("was there, epoch 2 of 2") == 8
    assert (folder / f"{name}.png").stat().st_size < 100_000
    claims: list[dict[str, Any]] = json.loads((folder / "claims.json").read_text())
    assert [claim["item"] for claim in claims] == items
    assert {claim["scale"] for claim in claims} == {
        "tiny, own data, 2 epochs of charrnn",
        "tiny, synthetic data, 2 epochs of mocap",
    }


def test_the_readout_lists_every_epoch_with_the_loss_beside(command: Command) -> None:
    rows = read_table(command(readout.FIGURE) / "readout.csv")
    assert {row["epoch"] for row in rows} == {"1.0", "2.0"}
    losses = [row for row in rows if row["quantity"] == "validation loss"]
    assert [row["task"] for row in losses] == ["charrnn"] * 2 + ["mocap"] * 2
    assert all(row["given_loss"] == "" for row in losses)
    # Of two epochs the last loss is mostly the lowest one itself.
    assert float(losses[1]["spearman"]) > 0.5


def test_hidden_and_full_are_two_measurements_of_the_same_networks(command: Command) -> None:
    rows = read_table(command(hidden_full.FIGURE) / "hidden_full.csv")
    assert len(rows) == 8
    for row in rows:
        assert row["hidden_max"] != row["full_max"]
        assert 1 <= float(row["best_epoch"]) <= 2


def test_a_figure_can_be_drawn_from_collected_results_elsewhere(
    command: Command, tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paper import collect
    from paper.command import run

    here = command(fig4.FIGURE)
    monkeypatch.setattr("sys.argv", ["paper.collect", f"out={shared}"])
    run(collect.collect)
    file = shared / "results.npz"
    assert file.stat().st_size < 100_000
    there = command(fig4.FIGURE, f"results={file}", out=tmp_path)
    assert not (tmp_path / "networks").exists()
    first, second = (read_table(folder / "fig4.csv") for folder in (here, there))
    assert len(first) == len(second) == 8
    for a, b in zip(first, second, strict=True):
        assert (a["network"], a["loss"]) == (b["network"], b["loss"])
        assert float(a["max"]) == pytest.approx(float(b["max"]), abs=1e-5)
        assert float(a["std_over_sequences"]) == pytest.approx(
            float(b["std_over_sequences"]), abs=1e-4
        )


def test_results_of_another_scale_are_refused(
    command: Command, tmp_path: Path, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (shared / "results.npz").exists():
        test_a_figure_can_be_drawn_from_collected_results_elsewhere(
            command, tmp_path, shared, pytest.MonkeyPatch()
        )
    with pytest.raises(SystemExit):
        command(fig4.FIGURE, f"results={shared / 'results.npz'}", "scale=small", out=tmp_path)
    said = capsys.readouterr().err
    assert "at scale=small" in said
    assert "charrnn at scale=tiny" in said
