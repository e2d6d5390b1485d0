"""CITATION.cff: in its format, and of one mind with the project and its page."""

from typing import Any

from omegaconf import OmegaConf

from tests.documents import DOCS, ROOT


class TestCitation:
    FIELDS: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "CITATION.cff"))

    def test_has_what_the_format_requires(self) -> None:
        assert {"cff-version", "message", "title", "authors"} <= set(self.FIELDS)
        assert self.FIELDS["cff-version"] == "1.2.0"
        assert self.FIELDS["authors"] == [{"name": "The lightning_lyap authors"}]
        allowed = {"abstract", "keywords", "license", "references", "type"}
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

    def test_agrees_with_its_page(self) -> None:
        page = (DOCS / "cite.md").read_text().replace("\\_", "_")
        assert self.FIELDS["title"] in page
        for author in self.FIELDS["references"][0]["authors"]:
            assert author["family-names"] in page
