"""Hooks of mkdocs: the site shows the source of the tests that docs/modes.md links to.

The links lead out of the folder of the documentation, which is right in a checkout. In the site
each such file becomes a page, and a link leads to the line of its test.
"""

import ast
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\[`[\w/]+\.py::([^`]+)`\]\(\.\./(tests/[\w/]+)\.py\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for every test file that docs/modes.md links to.

    Args:
        files: Of the documentation.
        config: Of mkdocs.

    Returns:
        The files, with those of the tests.
    """
    matrix = Path(config.docs_dir) / "modes.md"
    for stem in sorted({match[2] for match in LINK.finditer(matrix.read_text(encoding="utf-8"))}):
        source = (ROOT / f"{stem}.py").read_text(encoding="utf-8")
        content = (
            "---\nsearch:\n  exclude: true\nhide: [navigation, toc]\n---\n"
            f'# {stem}.py\n\n~~~~ {{ .python linenums="1" }}\n{source}~~~~\n'
        )
        files.append(File.generated(config, f"{stem}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the links of docs/modes.md to the lines of their tests.

    Args:
        markdown: Of a page.
        page: The page.
        config: Of mkdocs.
        files: Of the documentation.

    Returns:
        Markdown.
    """
    return LINK.sub(_to_line, markdown) if page.file.src_uri == "modes.md" else markdown


def line_of(test: str, source: str) -> int | None:
    r"""Find a test in its file.

    Args:
        test: Its name: ``name``, ``Class::name``, either with the id of a case, ``name[id]``.
        source: Of the file.

    Returns:
        Its line, from 1; None if there is no such test.

    Example:
        >>> line_of("TestIt::test_that[1-x]", "class TestIt:\n    def test_that(self): ...")
        2
    """
    nodes: list[ast.stmt] = ast.parse(source).body
    line = None
    for name in test.split("[")[0].split("::"):
        kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        found = [node for node in nodes if isinstance(node, kinds) and node.name == name]
        if not found:
            return None
        line, nodes = found[0].lineno, found[0].body
    return line


def _to_line(match: re.Match[str]) -> str:
    """Return a link of docs/modes.md, a match of `LINK`, as HTML with the line of the test."""
    name, stem = match[1], match[2]
    line = line_of(name, (ROOT / f"{stem}.py").read_text(encoding="utf-8"))
    if line is None:
        raise ValueError(
            f"Expected {stem}.py to have a test {name!r}, but it has none. Correct the row in "
            "docs/modes.md."
        )
    shown = f"{stem}.py::{name}".replace("_", "_<wbr>").replace("::", "::<wbr>")
    return f'<a href="{stem}.html#__codelineno-0-{line}"><code>{shown}</code></a>'
