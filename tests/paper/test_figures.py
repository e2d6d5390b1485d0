"""The figures that share the networks of Fig. 4; each finds them trained."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lightning_lyap.sweeps.csv_tables import read_table
from paper import collect, compute, fig3, fig4, fig7, hidden_full, readout, report, table1
from paper.claims import Claim, save_claims
from paper.command import SETTINGS_FILE, Figure
from tests.paper.conftest import Commands

ITEMS: dict[str, tuple[Figure, list[str]]] = {
    "fig7": (fig7.FIGURE, ["Fig. 7"] * 2),
    "readout": (readout.FIGURE, ["Section 5.4", "Section 6", "Section 6"] * 2),
    "hidden_full": (hidden_full.FIGURE, ["Beyond"] * 4),
}


@pytest.mark.grid(every=3)
@pytest.mark.parametrize("name", ITEMS)
def test_the_command_runs_to_its_end(name: str, commands: Commands) -> None:
    commands.once(fig4.FIGURE)
    figure, items = ITEMS[name]
    done = commands.once(figure)
    assert done.said.count("was there, epoch 2 of 2") == 8
    assert (done.folder / f"{name}.png").stat().st_size < 100_000
    claims: list[dict[str, Any]] = json.loads((done.folder / "claims.json").read_text())
    assert [claim["item"] for claim in claims] == items
    assert {claim["scale"] for claim in claims} == {
        "tiny, own data, 2 epochs of charrnn",
        "tiny, synthetic data, 2 epochs of mocap",
    }


def test_fig7_lists_the_correlations_of_every_statistic(commands: Commands) -> None:
    rows = read_table(commands.once(fig7.FIGURE).folder / "fig7.csv")
    for task in ("charrnn", "mocap"):
        names = [row["statistic"] for row in rows if row["task"] == task]
        assert {"max", "mean", "variance", "min", "kaplan_yorke_dimension"} <= set(names)
    assert all(abs(float(row["spearman"])) <= 1 for row in rows if row["spearman"])


@pytest.mark.slow
def test_the_readout_lists_every_epoch_with_the_loss_beside(commands: Commands) -> None:
    rows = read_table(commands.once(readout.FIGURE).folder / "readout.csv")
    assert {row["epoch"] for row in rows} == {"1.0", "2.0"}
    losses = [row for row in rows if row["quantity"] == "validation loss"]
    assert [row["task"] for row in losses] == ["charrnn"] * 2 + ["mocap"] * 2
    assert all(row["given_loss"] == "" for row in losses)


def test_table1_counts_the_networks_that_are_there(commands: Commands) -> None:
    commands.once(fig4.FIGURE)
    done = commands.once(table1.FIGURE)
    assert "was there" not in done.said
    rows = read_table(done.folder / "table1.csv")
    assert [row["networks"] for row in rows] == ["4"] * 8
    best = [row["best_epoch"] for row in read_table(commands.out / "fig4" / "fig4.csv")]
    means = [sum(map(float, best[i : i + 4])) / 4 for i in (0, 4)]
    assert [float(rows[i]["needed"]) for i in (0, 4)] == [means[0], 3 * means[1]]


def test_hidden_and_full_are_two_measurements_of_the_same_networks(commands: Commands) -> None:
    rows = read_table(commands.once(hidden_full.FIGURE).folder / "hidden_full.csv")
    best = {
        row["network"]: row for row in read_table(commands.once(fig4.FIGURE).folder / "fig4.csv")
    }
    assert len(rows) == 8
    for row in rows:
        assert row["hidden_max"] == best[row["network"]]["max"]
        assert row["best_epoch"] == best[row["network"]]["best_epoch"]
        assert row["full_max"] != row["hidden_max"]


def test_a_figure_can_be_drawn_from_collected_results_elsewhere(
    commands: Commands, tmp_path: Path
) -> None:
    here = commands.once(fig4.FIGURE).folder
    said = commands.call("collect", collect.collect).said
    assert "mocap-draw03: epoch 2 of 2" in said
    file = commands.out / "results.npz"
    assert file.stat().st_size < 100_000
    there = commands.run(fig4.FIGURE, f"results={file}", out=tmp_path).folder
    assert not (tmp_path / "networks").exists()
    first, second = (read_table(folder / "fig4.csv") for folder in (here, there))
    assert len(first) == len(second) == 8
    for a, b in zip(first, second, strict=True):
        assert (a["network"], a["loss"], a["best_epoch"]) == (
            b["network"],
            b["loss"],
            b["best_epoch"],
        )
        assert float(a["max"]) == pytest.approx(float(b["max"]), abs=1e-5)
        spread = (float(row["std_over_sequences"]) for row in (a, b))
        assert next(spread) == pytest.approx(next(spread), abs=1e-4)


def test_results_of_another_scale_are_refused(
    commands: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.once(fig3.FIGURE)
    commands.call("collect", collect.collect)
    with pytest.raises(SystemExit):
        commands.run(
            fig3.FIGURE, f"results={commands.out / 'results.npz'}", "scale=small", out=tmp_path
        )
    said = capsys.readouterr().err
    assert "scale=small" in said
    assert "charrnn at scale=tiny" in said


def test_one_queue_trains_for_several_figures(commands: Commands) -> None:
    commands.once(fig3.FIGURE)
    commands.once(fig4.FIGURE)
    said = commands.call("compute", compute.train_networks, "figures=[fig3,fig4,fig7]").said
    names = [line.split(":")[0] for line in said.splitlines()]
    assert names[:2] == ["charrnn-p0.04", "charrnn-p0.5"]
    assert names[2:] == [f"{task}-draw0{i}" for task in ("charrnn", "mocap") for i in range(4)]
    assert said.count("was there") == 10


@pytest.mark.slow
def test_the_queue_trains_nothing_for_a_table_that_does_with_what_is_there(
    commands: Commands, tmp_path: Path
) -> None:
    queue = "figures=[table1,fig3]"
    said = commands.call("compute", compute.train_networks, queue, out=tmp_path).said
    assert [line.split(":")[0] for line in said.splitlines()] == ["charrnn-p0.04", "charrnn-p0.5"]
    assert len(list((tmp_path / "networks").iterdir())) == 2


def test_an_unknown_figure_is_refused(
    commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        commands.call("compute", compute.train_networks, "figures=[fig99]")
    assert "but got 'fig99'" in capsys.readouterr().err


def test_the_page_holds_what_commands_have_written_and_nothing_else(
    commands: Commands, tmp_path: Path
) -> None:
    # In a folder of their own: other tests draw other figures beside them.
    drawn = tmp_path / "drawn"
    for figure in (fig3.FIGURE, fig4.FIGURE, hidden_full.FIGURE):
        shutil.copytree(commands.once(figure).folder, drawn / figure.name)
    claims = sum(len(json.loads(file.read_text())) for file in drawn.glob("*/claims.json"))
    page = tmp_path / "docs" / "PAGE.md"
    commands.call("report", report.report, f"reports=[{drawn}]", f"document={page}")
    lines = [line for line in page.read_text().splitlines() if line.startswith("| ")]
    assert len(lines) == claims + 2
    items = [line.split(" | ")[0] for line in lines[2:]]
    assert items[0] == "| Fig. 3"
    assert items[-1] == "| Beyond"
    assert all("`python -m paper." in line for line in lines[2:])
    assert (page.parent / "figures" / "paper" / "fig3.png").is_file()
    assert "![fig3](figures/paper/fig3.png)" in page.read_text()


def _leave_figure(folder: Path, scale: str) -> None:
    folder.mkdir(parents=True)
    (folder / "fig9.png").write_text(scale)
    (folder / SETTINGS_FILE).write_text(f"scale: {{name: {scale}}}")
    save_claims([Claim("Fig. 9", "words", "numbers", "yes", scale, "python -m paper.x")], folder)


def test_a_figure_drawn_at_two_scales_is_shown_twice(commands: Commands, tmp_path: Path) -> None:
    for number, scale in enumerate(("small", "paper")):
        _leave_figure(tmp_path / str(number) / "fig9", scale)
    page = tmp_path / "PAGE.md"
    folders = f"[{tmp_path}/0,{tmp_path}/1]"
    commands.call("report", report.report, f"reports={folders}", f"document={page}")
    shown = [line for line in page.read_text().splitlines() if line.startswith("!")]
    assert shown == [f"![fig9-{s}](figures/paper/fig9-{s}.png)" for s in ("paper", "small")]
    for scale in ("small", "paper"):
        assert (tmp_path / "figures" / "paper" / f"fig9-{scale}.png").read_text() == scale


def test_a_figure_drawn_twice_at_a_scale_is_refused(
    commands: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        _leave_figure(tmp_path / str(number) / "fig9", "small")
    folders = f"reports=[{tmp_path}/0,{tmp_path}/1]"
    with pytest.raises(SystemExit):
        commands.call("report", report.report, folders, f"document={tmp_path}/PAGE.md")
    assert "'fig9-small'" in capsys.readouterr().err
    assert not (tmp_path / "PAGE.md").exists()


def test_a_page_of_nothing_is_refused(
    commands: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        commands.call("report", report.report, f"reports=[{tmp_path}]", "document=x.md")
    assert "found none" in capsys.readouterr().err
