"""The site of the documentation: whole, without warnings, and without the network."""

import re
import warnings
from collections import Counter
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

import lightning_lyap
from tests.documents import DOCS, PROMISES, ROOT

REFERENCE = {path: path.read_text() for path in (DOCS / "api").glob("*.md")}


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


def test_the_site_is_built_without_warnings_and_links_to_the_lines_of_tests(site: Path) -> None:
    matrix = (site / "modes.html").read_text()
    links = re.findall(r'href="(tests/[^"#]+)#(__codelineno-0-\d+)"', matrix)
    assert len(links) == len(PROMISES)
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
    assert not [path for path in built if path.endswith(".py")]


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
    assert len(re.findall(r"<td><code>lyapunov/\w+</code></td>", html)) == 19
    assert "====" not in html
