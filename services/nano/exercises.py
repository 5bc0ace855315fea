"""Texts made by rule: sums, repeat-after-me over every word of the vocabulary, drills, questions with wrong words.

Decides: which numbers and which words are put together. Refuses to know: the rest of the domain, speech, training.
"""

import random
from collections.abc import Container, Iterator, Sequence
from typing import Final

from services.nano.grammar import WORD, Item, capitalized

_SMALL: Final = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS: Final = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SUM_QUESTIONS: Final = ("What is {}?", "How much is {}?", "Tell me what {} is.", "Can you tell me what {} is?")
_REPEAT_QUESTIONS: Final = ("Say: {}.", "Repeat after me: {}.", "Please say: {}.", "Please repeat: {}.")
_WORDS_A_PHRASE: Final = 3
WORDS_A_DRILL: Final = (1, 2, 3, 3, 3, 4)
_WRONG_WORDS: Final = (1, 1, 2)


def number_words(number: int) -> str:
    """A number from 0 to 100 in words, without hyphens."""
    if number < len(_SMALL):
        return _SMALL[number]
    if number == 100:
        return "one hundred"
    tens = _TENS[number // 10 - 2]
    return f"{tens} {_SMALL[number % 10]}" if number % 10 else tens


def sums(seed: int) -> Iterator[Item]:
    """Additions to 10 + 10, subtractions from 12, the tables of 2 to 5 and of 10, and tens; two ways of asking each."""
    rng = random.Random(f"sums {seed}")
    cases = [(a, "plus", b, a + b) for a in range(1, 11) for b in range(1, 11)]
    cases += [(a, "minus", b, a - b) for a in range(2, 13) for b in range(1, min(a, 10) + 1)]
    cases += [(a, "times", b, a * b) for a in (2, 3, 4, 5, 10) for b in range(2, 11)]
    cases += [(a, "plus", b, a + b) for a in range(20, 60, 10) for b in range(10, 50, 10)]
    for a, sign, b, result in cases:
        task = f"{number_words(a)} {sign} {number_words(b)}"
        answer = number_words(result)
        answers = (f"{capitalized(task)} is {answer}.", f"It is {answer}.", f"{capitalized(answer)}.")
        for question in rng.sample(_SUM_QUESTIONS, 2):
            yield Item("sum", question.format(task), answers)


def repeats(words: Sequence[str], seed: int) -> Iterator[Item]:
    """Repeat-after-me tasks that together hold every word of `words`, two ways of asking each."""
    rng = random.Random(f"repeats {seed}")
    order = sorted(words)
    rng.shuffle(order)
    for start in range(0, len(order), _WORDS_A_PHRASE):
        chosen = order[start : start + _WORDS_A_PHRASE]
        phrase = ", ".join(chosen)
        for question in rng.sample(_REPEAT_QUESTIONS, 2):
            yield Item("repeat", question.format(phrase), (f"{capitalized(phrase)}.",))


def drills(
    words: Sequence[str], begins: Container[str], count: int, seed: int, lengths: Sequence[int] = WORDS_A_DRILL
) -> Iterator[Item]:
    """Repeat-after-me tasks of words drawn anew each: there is nothing to remember, only to repeat.

    Args:
        words: to draw from.
        begins: words as they may begin a reply, with their capital.
        count: of tasks.
        seed: of the draws.
        lengths: of tasks, in words, to draw from.
    """
    rng = random.Random(f"drills {seed}")
    order = sorted(words)
    while count:
        chosen = rng.sample(order, rng.choice(lengths))
        question = rng.choice(_REPEAT_QUESTIONS)
        if capitalized(chosen[0]) in begins:
            phrase = ", ".join(chosen)
            yield Item("drill", question.format(phrase), (f"{capitalized(phrase)}.",))
            count -= 1


def substitutions(questions: Sequence[str], words: Sequence[str], count: int, seed: int) -> Iterator[str]:
    """Questions in which one or two words are others: what is heard, not what is expected, must be written down.

    Args:
        questions: to draw from; the first word of each stays, and so its capital.
        words: as they stand inside a sentence.
        count: of texts.
        seed: of the draws.
    """
    rng = random.Random(f"substitutions {seed}")
    spans = {text: [match.span() for match in WORD.finditer(text)][1:] for text in sorted(questions)}
    longer = [text for text, places in spans.items() if places]
    order = sorted(words)
    for text in rng.choices(longer, k=count):
        wrong = rng.sample(spans[text], min(rng.choice(_WRONG_WORDS), len(spans[text])))
        for start, end in sorted(wrong, reverse=True):
            text = text[:start] + rng.choice(order) + text[end:]
        yield text
