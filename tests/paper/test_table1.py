import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lightning_lyap import SpectrumHistory
from lightning_lyap.sweeps.csv_tables import read_table
from paper.archive import save_records
from paper.costs import PAPERS_KIND, Row, with_needed
from paper.records import Record
from paper.table1 import FIGURE, KINDS, findings, judge, table
from paper.timing import Kind, Timing
from tests.paper.conftest import Commands


def timing(task: str = "charrnn", times: float = 1.0) -> Timing:
    """Steps of 2, 4 and 1 seconds; the paper's spectra are worth 10, 14 and 11 of them."""
    paper = [times * seconds for seconds in (20.0, 56.0, 11.0)]
    spectra = {kind: paper if kind == PAPERS_KIND else [2.0, 4.0, 1.0] for kind in KINDS}
    exponents = dict.fromkeys(KINDS, 8)
    return Timing(task, "real", "a device", "a size", 5, [2.0, 4.0, 1.0], spectra, exponents)


def record(
    best: int, task: str = "charrnn", data: str = "real", epochs: int = 40, index: int = 0
) -> Record:
    """A network of 40 epochs, trained for some, with its lowest loss at one of them."""
    losses = {float(epoch): abs(epoch - best) + 1.0 for epoch in range(1, epochs + 1)}
    about = {"name": f"{task}-draw{index:02}", "task": task, "scale": "tiny", "epochs": 40}
    about |= {"facts": {}, "settings": {"datamodule": {"source": data, "text": None}}}
    return Record(str(about["name"]), about, SpectrumHistory({}), losses)


def said(row: Row) -> list[tuple[str, str]]:
    return [(finding.result, finding.agree) for finding in findings(row, "tiny")]


def test_charrnn_counts_epochs_and_mocap_iterations() -> None:
    costs = {task: Row(timing(task), []).cost(PAPERS_KIND) for task in ("charrnn", "mocap")}
    assert (costs["mocap"].low, costs["mocap"].median, costs["mocap"].high) == (10, 11, 14)
    # Five steps in an epoch.
    assert (costs["charrnn"].low, costs["charrnn"].median) == pytest.approx((2.0, 2.2))
    assert costs["charrnn"].high == pytest.approx(2.8)
    assert Row(timing(), []).cost(Kind("auto")).median == pytest.approx(0.2)


def test_needed_units_are_those_at_the_lowest_loss_of_finished_networks() -> None:
    records = [record(20), record(40), record(10, epochs=30), record(12, task="mocap")]
    row = with_needed(timing(), records)
    assert row.needed == [20, 40]
    assert row.at_end == 1
    assert with_needed(timing("mocap"), records).needed == [60]  # 12 epochs of 5 iterations


def test_needed_iterations_are_written_without_powers_of_ten() -> None:
    slow = [record(best, task="mocap") for best in (10, 40)]
    text = said(with_needed(replace(timing("mocap"), steps_per_epoch=100), slow))[1][0]
    assert "lowest loss after 2500 ± 2121 iterations (n = 2; at the last epoch in 1" in text


def test_the_fraction_is_cost_over_needed_units_of_each_network() -> None:
    first = table(with_needed(timing(), [record(20), record(40)]))[0]
    assert first["cost"] == pytest.approx(2.2)
    assert (first["needed"], first["networks"]) == (30, 2)
    assert first["needed_std"] == pytest.approx(math.sqrt(200))
    assert first["fraction"] == pytest.approx((0.11 + 0.055) / 2)
    assert first["fraction_std"] == pytest.approx(0.055 / math.sqrt(2))
    assert (first["steps_per_spectrum"], first["seconds_per_step"]) == (11, 2)
    assert (first["paper_cost"], first["paper_needed"], first["paper_fraction"]) == (1.04, 26, 0.04)


def test_the_papers_numbers_stand_beside_its_own_kind_alone() -> None:
    lines = table(with_needed(timing("mocap"), []))
    assert [(line["interval"], line["paper_cost"]) for line in lines] == [
        (1, 104),
        ("auto", ""),
        (1, ""),
        ("auto", ""),
    ]
    assert [line["needed"] for line in lines] == [""] * 4


@pytest.mark.parametrize(
    ("times", "words", "verdict"),
    [
        (0.4, "0.88 epochs [0.8, 1.12]", "yes"),
        (0.05, "0.11 epochs [0.1, 0.14] (median, lowest and highest of 3 rounds), 9.5 times", "no"),
        (5.0, "11 epochs [10, 14] (median, lowest and highest of 3 rounds), 11 times more", "no"),
        (0.95, "2.09 epochs [1.9, 2.66]", "undecided"),
    ],
)
def test_a_cost_agrees_within_a_factor_of_two(times: float, words: str, verdict: str) -> None:
    result, agree = said(Row(timing(times=times), []))[0]
    assert words in result
    assert agree == verdict


def test_a_cheaper_spectrum_is_called_so() -> None:
    assert "9.5 times cheaper than the paper's" in said(Row(timing(times=0.05), []))[0][0]
    assert "equal within a factor of two to the paper's" in said(Row(timing(times=0.4), []))[0][0]


def test_missing_units_are_said_and_the_papers_taken_for_comparison() -> None:
    result, verdict = said(with_needed(timing(), [record(10, epochs=30)]))[1]
    assert "no network of charrnn was found trained to its end" in result
    assert "of the 26 of the paper it would be 8.46%" in result  # 2.2 of 26
    assert verdict == "undecided"


def test_a_fraction_is_judged_by_the_interval_of_its_mean() -> None:
    alike = [record(best) for best in (29, 30, 31)]
    result, verdict = said(with_needed(timing(times=0.5), alike))[1]
    # A cost of 1.1 [1.0, 1.4]; 0.036694 ± 4.3027 * 0.0012238 / sqrt(3), times 1.0 / 1.1, 1.4 / 1.1.
    assert result.startswith("3.67% [3.06%, 5.06%], equal within a factor of two to the paper's")
    assert "30 ± 1 epochs (n = 3; at the last epoch in 0; the paper's: 26 ± 10)" in result
    assert verdict == "yes"
    assert said(with_needed(timing(times=0.1), alike))[1][1] == "no"
    one = said(with_needed(timing(times=0.5), [record(30)]))[1]
    assert "[-inf%, inf%]" in one[0]
    assert "lowest loss after 30 epochs (n = 1;" in one[0]
    assert one[1] == "undecided"


def test_the_ends_of_agreement_are_within() -> None:
    assert judge(0.5, 2.0, 1.0) == "yes"
    assert judge(0.49, 0.5, 1.0) == "undecided"
    assert judge(2.01, 3.0, 1.0) == "no"


def test_networks_of_other_data_are_refused() -> None:
    with pytest.raises(ValueError, match=r"of charrnn trained on real data.*'synthetic'"):
        with_needed(timing(), [record(20), record(20, data="synthetic")])


def claims_of(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "claims.json").read_text())


@pytest.mark.slow
def test_the_command_times_both_tasks_and_trains_nothing_to_its_end(
    commands: Commands, tmp_path: Path
) -> None:
    done = commands.run(FIGURE, out=tmp_path)
    assert not (tmp_path / "networks").exists()
    assert (done.folder / "table1.png").stat().st_size < 100_000
    rows = read_table(done.folder / "table1.csv")
    assert [(row["task"], row["unit"]) for row in rows] == [("charrnn", "epochs")] * 4 + [
        ("mocap", "iterations")
    ] * 4
    for row in rows:
        assert 0 < float(row["cost_low"]) <= float(row["cost"]) <= float(row["cost_high"])
        assert (row["exponents"], row["steps_per_epoch"], row["rounds"]) == ("8", "3", "3")
    claims = claims_of(done.folder)
    assert [claim["item"] for claim in claims] == ["Table 1"] * 4
    assert all("was found trained to its end" in claim["result"] for claim in claims[1::2])
    assert claims[0]["scale"].startswith("tiny, own data; LSTM with 8 units, batches of 10; ")
    assert [claim["scale"] for claim in claims[1::2]] == [claim["scale"] for claim in claims[::2]]
    assert claims[2]["scale"].startswith("tiny, synthetic data; LSTM with 8 units, batches of 20")


def test_needed_units_come_from_files_of_results(commands: Commands, tmp_path: Path) -> None:
    records = [record(best, "mocap", "synthetic", 2, index) for index, best in enumerate((1, 2))]
    for network in records:
        network.about["epochs"] = 2
    save_records(records, tmp_path / "some.npz")
    words = (f"results={tmp_path / 'some.npz'}", "tasks=[mocap]")
    rows = read_table(commands.run(FIGURE, *words, out=tmp_path).folder / "table1.csv")
    assert (rows[0]["needed"], rows[0]["networks"]) == ("4.5", "2")  # 3 and 6 iterations


def test_rounds_that_are_too_few_are_refused(
    commands: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["scale.table1.rounds=2"], ["+train.trainer.max_steps=3"]):
        with pytest.raises(SystemExit):
            commands.run(FIGURE, "tasks=[mocap]", *words, out=tmp_path)
    said = capsys.readouterr().err
    assert "but got 2 of 2" in said
    assert "but it ended after 0" in said
