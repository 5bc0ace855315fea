"""Words, word errors, and intervals of rates and error rates."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

_SMALL: Final = re.findall(
    r"\w+",
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen",
)
_TENS: Final = re.findall(r"\w+", "twenty thirty forty fifty sixty seventy eighty ninety")
_SIGNS: Final = {"+": " plus ", "=": " equals ", "%": " percent ", "&": " and ", "×": " times "}
_DRAWS: Final = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval and the number of items behind it."""

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.2f} to {self.high:.2f}; n = {self.count})"


def words(text: str) -> list[str]:
    """Normalise: lower case, no punctuation, numbers up to 100 and the usual signs as words."""
    text = text.lower().replace("'", "").replace("’", "")
    for sign, word in _SIGNS.items():
        text = text.replace(sign, word)
    return [part for word in re.findall(r"\d+|[^\W\d_]+", text) for part in _number_words(word)]


def edit_distance(found: Sequence[str], wanted: Sequence[str]) -> int:
    """Fewest items to put in, take out and exchange that turn one into the other."""
    row = list(range(len(wanted) + 1))
    for i, item in enumerate(found, 1):
        previous, row[0] = row[0], i
        for j, target in enumerate(wanted, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (item != target))
    return row[-1]


def word_errors(hypothesis: str, reference: str) -> tuple[int, int]:
    """Edit distance in words and the length of the reference, after normalisation."""
    found, wanted = words(hypothesis), words(reference)
    return edit_distance(found, wanted), len(wanted)


def nearest(hypothesis: str, references: Sequence[str]) -> tuple[int, int]:
    """`word_errors` against the reference that fits best."""
    return min((word_errors(hypothesis, one) for one in references), key=lambda pair: pair[0] / max(1, pair[1]))


def kept_words(hypothesis: str, reference: str, among: frozenset[str]) -> tuple[int, int]:
    """How many of the reference's words that lie in `among` an alignment finds again, and how many there are."""
    found, wanted = words(hypothesis), words(reference)
    best = np.zeros((len(found) + 1, len(wanted) + 1), int)
    for i, word in enumerate(found, 1):
        for j, target in enumerate(wanted, 1):
            match = best[i - 1, j - 1] + (word == target and target in among)
            best[i, j] = max(best[i - 1, j], best[i, j - 1], match)
    return int(best[-1, -1]), sum(word in among for word in wanted)


def rate(hits: Sequence[bool]) -> Interval:
    """A rate with Wilson's interval."""
    return Interval(sum(hits) / max(1, len(hits)), *wilson(sum(hits), len(hits)), len(hits))


def error_rate(pairs: Sequence[tuple[float, int]]) -> Interval:
    """All errors over all words of (errors, words) pairs, with a bootstrap interval over the items."""
    if not pairs:
        return Interval(math.nan, 0.0, math.inf, 0)
    table = np.array(pairs, float)
    draws = np.random.default_rng(0).integers(0, len(table), (_DRAWS, len(table)))
    sums = table[draws].sum(1)
    low, high = np.quantile(sums[:, 0] / np.maximum(sums[:, 1], 1), (0.025, 0.975))
    return Interval(float(table[:, 0].sum() / max(table[:, 1].sum(), 1)), float(low), float(high), len(table))


def mean(values: Sequence[float]) -> Interval:
    """A mean with a bootstrap interval."""
    return error_rate([(value, 1) for value in values])


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % confidence interval of a rate by Wilson's score."""
    if count == 0:
        return 0.0, 1.0
    z, share = 1.959964, hits / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def _number_words(word: str) -> list[str]:
    if not word.isdecimal() or len(word) > 3 or int(word) > 100:
        return [word]
    number = int(word)
    if number == 100:
        return ["one", "hundred"]
    if number < len(_SMALL):
        return [_SMALL[number]]
    return [_TENS[number // 10 - 2], *([_SMALL[number % 10]] if number % 10 else [])]
