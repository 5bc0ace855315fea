"""New lists of words out of recorded ones: "Say: sea, cat." and "Repeat: dog, hat." give "Repeat: sea, hat." and more.

The words of a list stand apart, so its recording falls into parts, which are put together anew, as codes. What is heard
then cannot be known by heart, however few recordings there are. Decides: what a list is, where it is cut.
Refuses to know: prompts, what is learned.
"""

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

import numpy as np

from services.nano.lm.said import Line
from services.nano.pronunciation import NO_WORD, words_in
from services.nano.training.draws import one_of
from services.shared.codec.codebooks import GROUP_TOKENS

_BETWEEN: Final = re.compile(r"(?<=[:,]) ")


class WordLists:
    """Draws new lists; what stood first, second, inside or last stands there again.

    Args:
        lines: recorded; those that are no lists, or not to be cut between groups of codes, are left out.
    """

    def __init__(self, lines: Iterable[Line]) -> None:
        cut = [parts for line in lines if (parts := parts_of(line))]
        longer = [parts for parts in cut if len(parts) > 2]
        self._first = [parts[0] for parts in cut]
        self._only = [parts[1] for parts in cut if len(parts) == 2]
        self._second = [parts[1] for parts in longer]
        self._inner = [part for parts in longer for part in parts[2:-1]] or self._second
        self._last = [parts[-1] for parts in longer]

    def __bool__(self) -> bool:
        return bool(self._second)

    def draw(self, others: int, rng: np.random.Generator) -> Line:
        """A first part and so many words behind it; a single one only if there ever was one."""
        if others == 1 and self._only:
            return Line.joined([one_of(self._first, rng), one_of(self._only, rng)])
        inner = [one_of(self._inner, rng) for _ in range(others - 2)]
        return Line.joined([one_of(self._first, rng), one_of(self._second, rng), *inner, one_of(self._last, rng)])


def parts_of(line: Line) -> list[Line]:
    """What a list consists of: anything with a colon, or a word, and then single words, each with the sign behind it.

    Returns:
        nothing for what is no list, or where two of them are said within one group, or one not at all.
    """
    texts = _BETWEEN.split(line.text)
    counts = [len(words_in(text)) for text in texts]
    is_list = (
        len(texts) > 1
        and line.text.endswith(".")
        and (texts[0].endswith(":") or counts[0] == 1)
        and set(counts[1:]) == {1}
    )
    if not is_list or sum(counts) != len(line.pieces):
        return []
    groups = line.words.reshape(-1, GROUP_TOKENS)
    said = [np.flatnonzero((groups == word).any(1)) for word in range(len(line.pieces))]
    if not all(len(own) for own in said):
        return []
    words = [0, *np.cumsum(counts).tolist()]
    between = [(int(said[word - 1][-1]), int(said[word][0])) for word in words[1:-1]]
    if any(before >= after for before, after in between):
        return []
    ends = [*((before + after + 2) // 2 for before, after in between), len(groups)]
    return [
        _part(line, text, slice(*own), slice(*span))
        for text, own, span in zip(texts, pairwise(words), pairwise([0, *ends]), strict=True)
    ]


def _part(line: Line, text: str, words: slice, groups: slice) -> Line:
    codes = slice(groups.start * GROUP_TOKENS, groups.stop * GROUP_TOKENS)
    own = line.words[codes]
    return Line(text, line.values[codes], np.where(own == NO_WORD, NO_WORD, own - words.start), line.pieces[words])
