"""Everyday sentences for the voice, drawn from the patterns and word lists of data/everyday.txt.

Decides: how many sentences, and that every pattern and every word of a list has its turn before one returns.
Refuses to know: the assistant's domain, voices, phones.

    @list: words, separated by commas          > pattern with {list}, {List} (capital), {list_2} (another draw)
"""

import random
import re
from importlib.resources import files
from typing import Final

from services.nano.grammar import capitalized, with_articles
from services.shared.errors import CorruptFileError

SENTENCES: Final = 3_000
_FILE: Final = "everyday.txt"
_SLOT: Final = re.compile(r"\{(\w+?)(_2)?\}")


class _Bag:
    """Words drawn in random order; none returns before all have had their turn."""

    def __init__(self, words: list[str], rng: random.Random) -> None:
        self._words, self._rng, self._left = words, rng, list[str]()

    def draw(self, other_than: str = "") -> str:
        if not self._left or self._left == [other_than]:
            self._left = self._rng.sample(self._words, len(self._words))
        word = self._left.pop()
        if word == other_than:
            word, self._left = self._left.pop(), [*self._left, word]
        return word


def everyday_sentences(seed: int) -> list[str]:
    """Distinct sentences, in the order drawn.

    Raises:
        CorruptFileError: a pattern names a list that does not exist.
    """
    rng = random.Random(f"everyday {seed}")
    bags, patterns = _read(rng)
    sentences: dict[str, None] = {}
    turn = _Bag(patterns, rng)
    while len(sentences) < SENTENCES:
        sentences[_fill(turn.draw(), bags)] = None
    return list(sentences)


def _read(rng: random.Random) -> tuple[dict[str, _Bag], list[str]]:
    bags: dict[str, _Bag] = {}
    patterns: list[str] = []
    for line in (files("services.nano") / "data" / _FILE).read_text(encoding="utf-8").splitlines():
        if line.startswith("@"):
            name, _, words = line[1:].partition(": ")
            bags[name] = _Bag(words.split(", "), rng)
        elif line.startswith("> "):
            patterns.append(line[2:])
        elif line and not line.startswith("#"):
            raise CorruptFileError(f"{_FILE}: {line!r} is neither a list nor a pattern")
    return bags, patterns


def _fill(pattern: str, bags: dict[str, _Bag]) -> str:
    drawn: dict[str, str] = {}

    def word(found: re.Match[str]) -> str:
        name = found[1].lower()
        if name not in bags:
            raise CorruptFileError(f"{_FILE}: no list {name} for {pattern!r}")
        drawn[name] = bags[name].draw(other_than=drawn.get(name, ""))
        return capitalized(drawn[name]) if found[1][0].isupper() else drawn[name]

    return with_articles(_SLOT.sub(word, pattern))
