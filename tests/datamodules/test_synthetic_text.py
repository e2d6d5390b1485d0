"""The stand-in text: always the same, and full of things worth remembering."""

import re
from hashlib import sha256
from pathlib import Path

import pytest

from datamodules.synthetic_text import LINE_WIDTH, PEOPLE, SAW, VERSION, generate_text, write_text


@pytest.fixture(scope="module")
def text() -> str:
    return generate_text()


def _paragraphs(text: str) -> list[str]:
    return [" ".join(block.split("\n")) for block in text.split("\n\n")]


def test_two_generations_are_equal_and_seeds_differ() -> None:
    assert generate_text(20_000, seed=3) == generate_text(20_000, seed=3)
    assert generate_text(20_000, seed=3) != generate_text(20_000, seed=4)


def test_a_change_of_the_generator_needs_a_new_version(text: str) -> None:
    digest = sha256(text.encode()).hexdigest()
    assert (VERSION, digest[:16]) == ("text_v1", "27d7d642a8a8235b")


def test_looks_like_the_real_text(text: str) -> None:
    assert len(text) > 1_000_000
    assert text.isascii()
    assert text.startswith("CHAPTER I\n\n")
    assert 70 < len(set(text)) < 90
    assert max(map(len, text.split("\n"))) <= LINE_WIDTH


def test_brackets_and_quotation_marks_close_later(text: str) -> None:
    for paragraph in _paragraphs(text):
        assert paragraph.count("(") == paragraph.count(")")
        assert paragraph.count("[") == paragraph.count("]")
        assert paragraph.count('"') % 2 == 0
    nested = re.findall(r"\([^()]*\[[^\]]*\][^()]*\)", text)
    assert len(nested) > 500
    assert min(map(len, nested)) > 40


def test_last_sentence_takes_up_the_name(text: str) -> None:
    stories = [story for story in _paragraphs(text) if "And so" in story]
    assert len(stories) > 1000
    for story in stories:
        (title, _, family) = next(name for name in PEOPLE if name in story).split()
        assert f"And so {title} {family} remained" in story


def test_verbs_agree_across_a_relative_clause(text: str) -> None:
    flat = " ".join(text.split())
    relative = rf"who (?:{'|'.join(SAW)}) \w+ \S+ \w+"
    clauses = re.findall(rf"(\w+) {relative} (is|are|was|were) ", flat)
    assert len(clauses) > 2000
    singular = {noun for noun, verb in clauses if verb in ("is", "was")}
    plural = {noun for noun, verb in clauses if verb in ("are", "were")}
    assert len(singular) == len(plural) == 12
    assert not singular & plural


def test_writes_the_layout_of_the_data_folder(tmp_path: Path) -> None:
    write_text(tmp_path / "new")
    content = (tmp_path / "new" / "warpeace" / "input.txt").read_bytes()
    assert content.decode("ascii") == generate_text()
