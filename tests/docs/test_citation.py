"""CITATION.cff: in its format, and of one mind with the project and its page."""

import re
from typing import Any

from omegaconf import OmegaConf

import lightning_lyap
from tests.documents import DOCS, ROOT


class TestCitation:
    FIELDS: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "CITATION.cff"))

    def test_has_what_the_format_requires(self) -> None:
        assert {"cff-version", "message", "title", "authors"} <= set(self.FIELDS)
        assert self.FIELDS["cff-version"] == "1.2.0"
        assert self.FIELDS["authors"] == [{"name": "The lightning_lyap authors"}]
        allowed = {"abstract", "date-released", "keywords", "license", "references"}
        allowed |= {"repository-code", "type", "version"}
        assert set(self.FIELDS) - {"cff-version", "message", "title", "authors"} <= allowed

    def test_refers_to_the_paper(self) -> None:
        (paper,) = self.FIELDS["references"]
        assert {"type", "title", "authors"} <= set(paper)
        assert paper["title"].startswith("On Lyapunov Exponents for RNNs")
        names = [author["family-names"] for author in paper["authors"]]
        assert names == ["Vogt", "Puelma Touzel", "Shlizerman", "Lajoie"]
        assert "2006.14123" in paper["url"]

    def test_agrees_with_the_project(self) -> None:
        project = (ROOT / "pyproject.toml").read_text()
        assert f'license = "{self.FIELDS["license"]}"' in project
        assert self.FIELDS["authors"][0]["name"] in project

    def test_tells_the_version_and_date_of_the_last_release(self) -> None:
        changes = (ROOT / "CHANGELOG.md").read_text()
        releases = re.findall(r"^## \[(\d\S*)\] - (\d{4}-\d\d-\d\d)$", changes, flags=re.MULTILINE)
        assert releases[0] == (self.FIELDS["version"], str(self.FIELDS["date-released"]))
        assert self.FIELDS["version"] == lightning_lyap.__version__
        page = (DOCS / "cite.md").read_text()
        assert re.findall(r"(?:version|date) = \{(.+)\}", page) == list(releases[0])

    def test_the_changelog_says_what_is_new_and_links_every_release(self) -> None:
        changes = (ROOT / "CHANGELOG.md").read_text()
        names = re.findall(r"^## \[(.+?)\]", changes, flags=re.MULTILINE)
        assert names[0] == "Unreleased"
        assert re.findall(r"^\[(.+?)\]: https:", changes, flags=re.MULTILINE) == names

    def test_one_address_everywhere(self) -> None:
        address = self.FIELDS["repository-code"]
        assert f'Source = "{address}"' in (ROOT / "pyproject.toml").read_text()
        for path in ("pyproject.toml", "CHANGELOG.md", "CONTRIBUTING.md", "docs/cite.md"):
            found = re.findall(r"https://github\.com/[\w-]+/[\w-]+", (ROOT / path).read_text())
            assert set(found) == {address}, path

    def test_agrees_with_its_page(self) -> None:
        page = (DOCS / "cite.md").read_text().replace("\\_", "_")
        assert self.FIELDS["title"] in page
        for author in self.FIELDS["references"][0]["authors"]:
            assert author["family-names"] in page
