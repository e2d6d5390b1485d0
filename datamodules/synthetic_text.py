"""A text for the character task when War and Peace is out of reach.

It rewards memory: quotation marks and brackets close tens of characters after they open, verbs
agree with a subject across a relative clause, pronouns and a paragraph's last sentence take up the
person whom its first sentence introduced, chapters are numbered and end in the year they began.
"""

import random
import textwrap
from pathlib import Path

VERSION = "text_v1"
LINE_WIDTH = 72
CHAPTERS_PER_BOOK = 39

PEOPLE = (
    "Prince Adrian Velskoy", "Countess Irina Malova", "General Osip Tarenin",
    "Princess Lydia Dolina", "Captain Hugo Brandt", "Madame Clara Dupre", "Count Fedor Zubrin",
    "Baroness Emma Kessel", "Colonel Yakov Quist", "Nurse Agafya Petrova", "Major Victor Xander",
    "Abbess Julia Wolny",
)  # fmt: skip
WOMEN = ("Countess", "Princess", "Madame", "Baroness", "Nurse", "Abbess")
ADJECTIVES = (
    "old", "young", "wounded", "silent", "weary", "proud", "gray-haired", "quick", "joyful", "lazy",
)  # fmt: skip
NOUNS = (
    ("soldier", "soldiers"), ("officer", "officers"), ("servant", "servants"), ("guest", "guests"),
    ("child", "children"), ("horse", "horses"), ("lady", "ladies"), ("messenger", "messengers"),
    ("peasant", "peasants"), ("man", "men"), ("doctor", "doctors"), ("wolf", "wolves"),
)  # fmt: skip
PLACES = (
    "beside the frozen river", "in the great hall", "behind the burning bridge", "near the church",
    "at the edge of the forest", "before the gates of Moscow", "under the dark windows",
)  # fmt: skip
SAW = ("had seen", "had followed", "remembered", "did not know", "had questioned", "avoided")
STATES = ("tired", "silent", "ready to march", "full of joy", "afraid of the dark", "quite calm")
ACTS = (
    ("waits", "wait"), ("has spoken", "have spoken"), ("was seen", "were seen"), ("is", "are"),
    ("does not sleep", "do not sleep"), ("gathers", "gather"), ("was lost", "were lost"),
)  # fmt: skip
LINKS = ("and", "but", "for", "while", "because", "although", "so that")
SAID = ("said", "replied", "cried", "whispered", "asked", "answered", "exclaimed")
MONTHS = ("January", "March", "April", "June", "July", "August", "October", "December")
ROMAN = ((50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))


def write_text(folder: Path, seed: int = 0) -> None:
    """Write the stand-in in the layout of the data folder.

    Args:
        folder: Data folder to create; the text is ``warpeace/input.txt`` below it.
        seed: Seed of the text.
    """
    path = folder / "warpeace" / "input.txt"
    path.parent.mkdir(parents=True)
    path.write_text(generate_text(seed=seed), encoding="ascii", newline="\n")


def generate_text(num_characters: int = 1_200_000, seed: int = 0) -> str:
    """Generate a text; the same arguments give the same text.

    Args:
        num_characters: Least length in characters; the last chapter is finished.
        seed: Seed of a generator of its own.

    Returns:
        ASCII text in lines of at most 72 characters.
    """
    writer = _Writer(random.Random(seed))
    chapters: list[str] = []
    length = 0
    while length < num_characters:
        chapters.append(writer.chapter(len(chapters) + 1))
        length += len(chapters[-1])
    return "".join(chapters)


def _roman(number: int) -> str:
    """Return a number from 1 to 89 in Roman numerals."""
    digits = []
    for value, digit in ROMAN:
        count, number = divmod(number, value)
        digits.append(digit * count)
    return "".join(digits)


class _Writer:
    """Writes chapters from the top down: chapter, paragraph, sentence, clause, noun phrase."""

    def __init__(self, rng: random.Random) -> None:
        """Take a source of choices.

        Args:
            rng: Generator that nothing else draws from.
        """
        self._rng = rng

    def chapter(self, number: int) -> str:
        """Write a chapter that ends in the year in which it begins.

        Args:
            number: Its number, from 1; headings begin again with every book of 39 chapters.

        Returns:
            Heading and wrapped paragraphs, with an empty line after each.
        """
        rng = self._rng
        year = rng.randrange(1805, 1821)
        opening = f"It was in {rng.choice(MONTHS)}, {year}. "
        ending = f" Thus ended, for all of them, the year {year}."
        paragraphs = [self._paragraph() for _ in range(rng.randrange(12, 30))]
        paragraphs[0] = opening + paragraphs[0]
        paragraphs[-1] += ending
        blocks = [
            f"CHAPTER {_roman((number - 1) % CHAPTERS_PER_BOOK + 1)}",
            *map(self._wrap, paragraphs),
        ]
        return "\n\n".join(blocks) + "\n\n"

    @staticmethod
    def _wrap(paragraph: str) -> str:
        """Break a paragraph into lines of at most 72 characters."""
        return textwrap.fill(paragraph, LINE_WIDTH, break_long_words=False, break_on_hyphens=False)

    def _paragraph(self) -> str:
        """Write a paragraph about one person, whom its last sentence names again."""
        rng = self._rng
        title, given, family = rng.choice(PEOPLE).split()
        pronoun = "she" if title in WOMEN else "he"
        state, place = rng.choice(STATES), rng.choice(PLACES)
        sentences = [f"{title} {given} {family} stood {place}, {state}."]
        for _ in range(rng.randrange(2, 6)):
            if rng.random() < 0.4:
                sentences.append(self._speech(pronoun))
            else:
                sentences.append(self._statement(pronoun))
        sentences.append(f"And so {title} {family} remained {place}, {state} as before.")
        return " ".join(sentences)

    def _speech(self, pronoun: str) -> str:
        """Write direct speech, some with a quotation inside; its quotation marks are balanced."""
        rng = self._rng
        first, rest = _capitalized(self._clause()), self._clause()
        mark = rng.choice((",", "!", "?", "..."))
        if rng.random() < 0.3:
            rest, mark = f"they always say: '{_capitalized(rest)}!'", ""
        said = f"{pronoun} {rng.choice(SAID)}"
        if rng.random() < 0.5:
            return f'"{first}," {said}, "{rng.choice(LINKS)} {rest}{mark.replace(",", ".")}"'
        return f'"{first}; {rng.choice(LINKS)} {rest}{mark}" {said}.'

    def _statement(self, pronoun: str) -> str:
        """Write a sentence of two or three clauses about the person of the paragraph."""
        rng = self._rng
        opening = f"{_capitalized(pronoun)} {rng.choice(SAW)} {self._noun_phrase()[0]}"
        parts = [opening if rng.random() < 0.5 else _capitalized(self._clause())]
        parts += [f"{rng.choice(LINKS)} {self._clause()}" for _ in range(rng.randrange(1, 3))]
        return ", ".join(parts) + "."

    def _clause(self) -> str:
        """Write a clause whose verb agrees with its subject over what stands between."""
        rng = self._rng
        subject, plural = self._noun_phrase()
        between = ""
        if rng.random() < 0.6:
            between = f" who {rng.choice(SAW)} {self._noun_phrase()[0]}"
        elif rng.random() < 0.5:
            between = self._brackets()
        return f"{subject}{between} {rng.choice(ACTS)[plural]} {rng.choice(PLACES)}"

    def _brackets(self) -> str:
        """Write a remark in brackets after a space, at times with another one inside."""
        rng = self._rng
        inner = ""
        if rng.random() < 0.4:
            inner = f" [so {self._noun_phrase()[0]} {rng.choice(SAID)}]"
        return f" (whom {self._noun_phrase()[0]} {rng.choice(SAW)}{inner} {rng.choice(PLACES)})"

    def _noun_phrase(self) -> tuple[str, bool]:
        """Write a noun phrase, and return whether it is plural."""
        rng = self._rng
        plural = rng.random() < 0.5
        article = rng.choice(("the", "those", "some")) if plural else rng.choice(("the", "that"))
        return f"{article} {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)[plural]}", plural


def _capitalized(clause: str) -> str:
    """Return a clause with its first letter in upper case."""
    return clause[0].upper() + clause[1:]
