"""The documentation is true: its code runs, its commands exist, its matrix names real tests."""

import ast
import doctest
import re
import struct
import sys
import warnings
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from mkdocs.commands.build import build
from mkdocs.config import load_config
from omegaconf import OmegaConf

import lightning_lyap
from tests.documents import ROOT, blocks, check_command, commands, run_python
from tests.networks import Predictor, Windows

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
EVERY_PAGE = [*PAGES, *sorted(DOCS.glob("*/*.md")), ROOT / "README.md"]
REFERENCE = {path: path.read_text() for path in (DOCS / "api").glob("*.md")}
modes: Any = import_module("docs.generate_modes")
hooks: Any = import_module("docs.hooks")
docstrings: Any = import_module("docs.docstrings")
regimes: Any = import_module("docs.regimes")
ROWS = [(group["group"], row) for group in modes.read_groups() for row in group["rows"]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site; warnings are errors."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        patch.chdir(ROOT)
        warnings.simplefilter("ignore")  # of mkdocs' own dependencies
        build(load_config(str(ROOT / ".mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


@pytest.mark.parametrize(
    "path",
    [path for path in PAGES if blocks(path.read_text(), "python") and path.stem != "quickstart"],
    ids=lambda path: path.name,
)
def test_the_python_code_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, Any] = {"model": Predictor(), "datamodule": Windows(), "__name__": path.stem}
    assert run_python(path.read_text(), path.name, names) > 0


@pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
def test_the_quickstart_runs_and_leaves_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"model": Predictor(), "datamodule": Windows()}
    assert run_python((DOCS / "quickstart.md").read_text(), "quickstart.md", names) == 5
    assert names["history"].exponents().shape == (3, 6)
    assert names["estimate"].exponents.shape == (128,)
    assert {"lyapunov/max", "lyapunov/max_margin"} <= set(names["trainer"].callback_metrics)


COMMANDS = [(path.name, command) for path in EVERY_PAGE for command in commands(path.read_text())]


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=lambda value: str(value)[:60])
def test_every_command_exists(page: str, command: str) -> None:
    check_command(command)


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("python train.py task=mocaap", "mocaap"),
        ("python train.py task.learning_rate=1", "learning_rate"),
        ("python train.py init_p=0.1,0.2", "a sweep without -m"),
        ("python -m lightning_lyap spectre x.ckpt", "spectre"),
        ("python -m lightning_lyap spectrum x.ckpt --steps 3", "--steps"),
    ],
)
def test_a_command_that_does_not_exist_would_be_seen(command: str, error: str) -> None:
    with pytest.raises(Exception, match=error):
        check_command(command)


def test_commands_are_found_behind_others_and_without_their_comments() -> None:
    text = "```bash\npip install x && python train.py -m a=1,2 # sweep\nls\n```\n"
    assert commands(text) == ["python train.py -m a=1,2"]
    assert len(COMMANDS) > 15


@pytest.mark.parametrize(("group", "row"), ROWS, ids=lambda value: str(value)[:40])
def test_every_mode_names_a_test_that_exists(group: str, row: dict[str, str]) -> None:
    file, _, name = row["test"].partition("::")
    assert (ROOT / file).is_file(), file
    assert name.split("[")[0].split("::")[-1].startswith("test_"), name
    assert hooks.line_of(name, (ROOT / file).read_text()) is not None, row["test"]


def test_modes_are_told_once() -> None:
    seen = Counter((group, row["mode"]) for group, row in ROWS)
    assert [mode for mode, count in seen.items() if count > 1] == []
    assert len(ROWS) > 40


def test_the_matrix_is_made_of_its_data() -> None:
    assert modes.PAGE.read_text() == modes.page(modes.read_groups()), (
        "run `python docs/generate_modes.py`"
    )


def test_a_row_without_its_test_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "modes.yaml"
    data.write_text("- group: g\n  rows:\n    - {mode: m, promise: p}\n")
    monkeypatch.setattr(modes, "DATA", data)
    with pytest.raises(ValueError, match="Expected `mode`, `promise` and `test`"):
        modes.read_groups()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("test_a", 1),
        ("test_a[case-1]", 1),
        ("TestB::test_c", 4),
        ("test_c", None),
        ("TestB::test_a", None),
        ("test_d", 6),
    ],
)
def test_tests_are_found_in_their_files(name: str, line: int | None) -> None:
    source = (
        "def test_a(): ...\n\nclass TestB:\n    def test_c(self): ...\n\nasync def test_d(): ...\n"
    )
    assert hooks.line_of(name, source) == line


def test_the_site_is_built_without_warnings_and_links_to_the_lines_of_tests(site: Path) -> None:
    matrix = (site / "modes.html").read_text()
    links = re.findall(r'href="(tests/[^"#]+)#(__codelineno-0-\d+)"', matrix)
    assert len(links) == len(ROWS)
    for file, anchor in links:
        assert f'id="{anchor}"' in (site / file).read_text()


def test_the_site_needs_no_network(site: Path) -> None:
    for page in site.rglob("*.html"):
        html = page.read_text()
        loaded = re.findall(
            r"<(?:script|link|img|iframe)[^>]*?(?:src|href)=\"?(https?:[^\" >]+)", html
        )
        assert loaded == [], page
        assert not re.search(r"fonts\.g(oogle|static)", html)


def test_every_page_is_in_the_site_and_nothing_else_of_the_folder(site: Path) -> None:
    built = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    pages = {str(path.relative_to(DOCS).with_suffix(".html")) for path in DOCS.rglob("*.md")}
    assert pages <= built
    assert not [path for path in built if path.endswith((".py", ".yaml"))]


def test_every_public_name_is_in_the_reference_once(site: Path) -> None:
    shown = Counter(re.findall(r"^::: (\S+)$", "\n".join(REFERENCE.values()), flags=re.M))
    public = {f"lightning_lyap.{name}" for name in lightning_lyap.__all__}
    assert public <= set(shown)
    assert set(shown.values()) == {1}
    html = "".join((site / "api" / f"{path.stem}.html").read_text() for path in REFERENCE)
    for name in shown:
        assert f'id="{name}"' in html


@pytest.mark.parametrize(
    ("page", "link"),
    [
        ("estimation", 'href="dynamics.html#lightning_lyap.register_recurrence"'),
        ("estimation", 'href="#lightning_lyap.SpectrumEstimate"'),
        ("training", 'href="estimation.html#lightning_lyap.lyapunov_spectrum"'),
        ("training", 'href="#lightning_lyap.SpectrumHistory.load"'),
    ],
)
def test_names_in_docstrings_lead_to_their_entries(site: Path, page: str, link: str) -> None:
    html = (site / "api" / f"{page}.html").read_text()
    assert link in html
    assert "<autoref" not in html


def test_the_table_of_logged_keys_is_a_table(site: Path) -> None:
    html = (site / "api" / "training.html").read_text()
    assert len(re.findall(r"<td><code>lyapunov/\w+</code></td>", html)) == 17
    assert "====" not in html


@pytest.mark.parametrize("module", [docstrings, hooks], ids=lambda module: module.__name__)
def test_examples_of_the_generators_hold(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_figures_are_there_and_small() -> None:
    for path in EVERY_PAGE:
        for name in re.findall(r"!\[.+?\]\((.*?)\)", path.read_text()):
            figure = path.parent / name
            assert figure.stat().st_size < 100_000, name
            width, height = struct.unpack(">II", figure.read_bytes()[16:24])
            assert width > 800, name
            assert height > 300, name


def test_the_edge_is_found_where_the_exponent_vanishes() -> None:
    drive = regimes.noise(size=16, steps=30)
    edge = regimes.find_edge(drive)
    low, high = regimes.leading(edge.gain, drive).intervals[0].tolist()
    assert low < 0 < high
    assert 1 < edge.gain < 2.5
    with pytest.raises(ValueError, match="Expected an edge between the gains"):
        regimes.find_edge(drive, low=0.1, high=0.2)


def test_the_edge_told_is_that_of_mean_field_theory() -> None:
    (told,) = re.findall(r"mean-field theory \| ([\d.]+) \|", regimes.PAGE.read_text())
    below, above = (
        regimes.mean_field_exponent(float(told) + side, regimes.DRIVE_VARIANCE)
        for side in (-0.001, 0.001)
    )
    assert below < 0 < above


def test_pairs_meet_or_part_at_the_rate_of_the_exponent() -> None:
    """Slopes from step 20 to 40, where neither rounding nor the size of the attractor matters.

    Ten pairs over twenty steps: the spread of finite-time exponents, about 0.05, over sqrt(10).
    """
    drive = regimes.noise()
    for gain in (regimes.STABLE, regimes.CHAOTIC):
        apart = regimes.distances(regimes.network(gain), drive).log()
        slope = float((apart[:, 40] - apart[:, 20]).mean()) / 20
        assert slope == pytest.approx(float(regimes.leading(gain, drive).exponents), abs=0.05)


def test_costs_are_ratios_of_times() -> None:
    cost: Any = import_module("cost")

    def work(size: int) -> Any:
        return lambda: sum(range(size))

    ratios = cost.interleaved([work(20_000), work(80_000)], rounds=3)
    assert ratios[1][0] == pytest.approx(4, rel=0.5)
    assert ratios[0][0] == 1


def test_the_page_of_costs_has_every_row() -> None:
    cost: Any = import_module("cost")
    text = cost.PAGE.read_text()
    assert cost.HEADER in text
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    labels = [f"{name} | {case.label}" for name, *_, cases in cost.NETWORKS for case in cases]
    cells = [line.strip("| ").split(" | ") for line in lines[2:]]
    assert [f"{row[0]} | {row[3]}" for row in cells] == labels
    assert all(float(number) > 0 for row in cells for number in row[4:])


def test_costs_of_a_page_want_the_whole_table(monkeypatch: pytest.MonkeyPatch) -> None:
    cost: Any = import_module("cost")
    monkeypatch.setattr(sys, "argv", ["cost.py", "--quick", "--write"])
    with pytest.raises(SystemExit):
        cost.main()


class TestCitation:
    FIELDS = OmegaConf.to_container(OmegaConf.load(ROOT / "CITATION.cff"))

    def test_has_what_the_format_requires(self) -> None:
        fields: Any = self.FIELDS
        assert {"cff-version", "message", "title", "authors"} <= set(fields)
        assert fields["cff-version"] == "1.2.0"
        assert fields["authors"] == [{"name": "The lightning_lyap authors"}]
        allowed = {"abstract", "keywords", "license", "references", "type"}
        assert set(fields) - {"cff-version", "message", "title", "authors"} <= allowed

    def test_refers_to_the_paper(self) -> None:
        fields: Any = self.FIELDS
        (paper,) = fields["references"]
        assert {"type", "title", "authors"} <= set(paper)
        assert paper["title"].startswith("On Lyapunov Exponents for RNNs")
        names = [author["family-names"] for author in paper["authors"]]
        assert names == ["Vogt", "Puelma Touzel", "Shlizerman", "Lajoie"]
        assert "2006.14123" in paper["url"]

    def test_agrees_with_the_project(self) -> None:
        fields: Any = self.FIELDS
        project = (ROOT / "pyproject.toml").read_text()
        assert f'license = "{fields["license"]}"' in project
        assert fields["authors"][0]["name"] in project

    def test_agrees_with_its_page(self) -> None:
        fields: Any = self.FIELDS
        page = (DOCS / "cite.md").read_text().replace("\\_", "_")
        assert fields["title"] in page
        for author in fields["references"][0]["authors"]:
            assert author["family-names"] in page


def test_continuous_integration_builds_the_site_with_warnings_as_errors() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    steps = [line for line in script.splitlines() if line and not line.startswith("#")]
    assert steps.index("mypy") < next(
        i for i, s in enumerate(steps) if "mkdocs build --strict" in s
    )
    assert "site/" in (ROOT / ".gitignore").read_text().split()


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.py")), ids=lambda path: path.name)
def test_scripts_say_how_they_are_run(path: Path) -> None:
    said = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert f"python docs/{path.name}" in said or "mkdocs" in said
