"""Docstrings as the API pages show them: an extension of griffe, named in .mkdocs.yml.

The docstrings write names in single and literals in double backticks. Here the names become links,
where there is such a page, tables of reStructuredText become those of Markdown, and ``Example``
gets the plural that griffe knows.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import griffe

NAME = re.compile(r"(?<![`\w])`([A-Za-z_][\w.]*)`(?!`)")
RULE = re.compile(r"^=+(?: +=+)+$")


class HouseDocstrings(griffe.Extension):
    """Rewrites every docstring of a package once all of it is loaded."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Rewrite the docstrings.

        Args:
            pkg: The package.
            kwargs: Other things griffe tells.
        """
        for thing in list(objects(pkg)):
            if thing.docstring is not None:
                text = linked(thing.docstring.value, partial(find, at=thing, package=pkg))
                thing.docstring.value = with_plural_example(with_tables(text))


def objects(thing: griffe.Object) -> Iterator[griffe.Object]:
    """Yield an object and all that is defined in it.

    Args:
        thing: A module, class, function or attribute.

    Yields:
        Objects; what was imported belongs to its own module.
    """
    yield thing
    for member in thing.members.values():
        if isinstance(member, griffe.Object):
            yield from objects(member)


def find(name: str, at: griffe.Object, package: griffe.Module) -> str | None:
    """Find the page entry that a name in a docstring stands for.

    Args:
        name: As written, ``lyapunov_spectrum`` or ``SpectrumEstimate.resolved``.
        at: The object whose docstring it is.
        package: The package; its public names are known everywhere.

    Returns:
        The full name of the entry; None for names of other packages. An attribute is described in
        the entry of its class.
    """
    first, *rest = name.split(".")
    try:
        path = at.resolve(first)
    except griffe.NameResolutionError:
        path = f"{package.path}.{first}"
    try:
        found: Any = package.modules_collection[".".join([path, *rest])]
        found = found.final_target if found.is_alias else found
    except (KeyError, griffe.AliasResolutionError, griffe.CyclicAliasError):
        return None
    if found.package is not package:
        return None
    in_class = found.is_attribute and "property" not in found.labels and found.parent.is_class
    return str(found.parent.path if in_class else found.path)


def linked(text: str, find: Callable[[str], str | None]) -> str:
    """Turn names in single backticks into links.

    Args:
        text: Of a docstring.
        find: Takes a name and returns the full name of an entry, or None.

    Returns:
        The text. A link to what no page shows is plain code.

    Example:
        >>> linked("see `f` and ``f``", lambda name: f"package.{name}")
        'see <autoref identifier="package.f" optional><code>f</code></autoref> and ``f``'
    """

    def link(match: re.Match[str]) -> str:
        entry = find(match[1])
        if entry is None:
            return match[0]
        return f'<autoref identifier="{entry}" optional><code>{match[1]}</code></autoref>'

    return NAME.sub(link, text)


def with_plural_example(text: str) -> str:
    """Turn the section ``Example`` into ``Examples``.

    Args:
        text: Of a docstring.

    Returns:
        The text.
    """
    return re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)


def with_tables(text: str) -> str:
    r"""Turn simple tables of two columns, ruled with ``=``, into Markdown.

    A line that begins with blanks goes on with the row before.

    Args:
        text: Of a docstring.

    Returns:
        The text.

    Example:
        >>> print(with_tables("== ===\na  one\n   more\n== ==="))
        | | |
        | --- | --- |
        | a | one more |
    """
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        if RULE.match(line):
            lines += [] if inside else ["| | |", "| --- | --- |"]
            inside = not inside
        elif inside and line.startswith(" "):
            lines[-1] = f"{lines[-1].removesuffix(' |')} {line.strip()} |"
        elif inside:
            key, meaning = re.split(r"  +", line, maxsplit=1)
            lines.append(f"| {key} | {meaning} |")
        else:
            lines.append(line)
    return "\n".join(lines)
