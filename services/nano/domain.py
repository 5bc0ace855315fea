"""Stage `domain`: everything the nano checkpoint is to understand and to say, as text.

Decides: the items, which phrasings no training ever sees, the vocabulary, and what of a reply is spoken.
Refuses to know: audio, tokens, models. The split and all draws come from one seed.

A reply is written as the chat model writes it: `<|CALL_START|>name; key=value; …<|CALL_END|> words`, or a style tag of
the public voices, `(快速1)words` (fast), `(慢速1)` (slow), `(高兴1)` (happy).
"""

import json
import logging
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from services.nano.exercises import drills, repeats, substitutions, sums
from services.nano.grammar import CALL_END, CALL_START, FILLER, WORD, Item, read_items
from services.nano.rephrasing import ways_to_say
from services.nano.sentences import everyday_sentences

SEED: Final = 20_261
HELD_OUT_SHARE: Final = 0.1
HELD_OUT_SENTENCES: Final = 160
DRILLS: Final = 6_000
SUBSTITUTIONS: Final = 8_000
STYLE_TAGS: Final = {"快速1": "fast", "慢速1": "slow", "高兴1": "happy"}
FILE: Final = "domain.json"

_FILES: Final = ("dialogue.txt", "families.txt")
_CALL_TEXT: Final = re.compile(rf"{re.escape(CALL_START)}(.*?){re.escape(CALL_END)} ?")
_TAG: Final = re.compile(r"^\(([^)]*)\)")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call inside a reply."""

    name: str
    arguments: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        parts = [self.name, *(f"{key}={value}" for key, value in self.arguments)]
        return f"{CALL_START}{'; '.join(parts)}{CALL_END}"


@dataclass(frozen=True, slots=True)
class Domain:
    """All texts of the recipe.

    Attributes:
        items: everything to learn, held-out phrasings included.
        held_out: question texts that no training may hold, as speech or as text.
        ways: other ways to say each question that training may see, for training alone; they need no new words.
        drills: repetitions for training alone; none of their questions is an item's.
        substitutions: questions with wrong words, which nobody answers.
        sentences: everyday sentences for the voice.
        held_out_sentences: everyday sentences kept for evaluation.
        words: the vocabulary, lower case, sorted.
        inside: the same words as they stand inside a sentence.
        begins: words with their capital that begin a repetition.
    """

    items: tuple[Item, ...]
    held_out: frozenset[str]
    ways: Mapping[str, tuple[str, ...]]
    drills: tuple[Item, ...]
    substitutions: tuple[str, ...]
    sentences: tuple[str, ...]
    held_out_sentences: tuple[str, ...]
    words: tuple[str, ...]
    inside: tuple[str, ...]
    begins: tuple[str, ...]

    @property
    def training(self) -> list[Item]:
        """Items that training may see."""
        return [item for item in self.items if item.question not in self.held_out]

    @property
    def rephrased(self) -> list[Item]:
        """Items that training may see, in each of their other ways."""
        return [replace(item, question=way) for item in self.training for way in self.ways.get(item.question, ())]

    @property
    def spoken_questions(self) -> list[str]:
        """Distinct questions that people say, in order."""
        return list(dict.fromkeys(item.question for item in self.items if item.role == "user"))

    @property
    def texts_to_hear(self) -> list[str]:
        """What recordings for training say beside the replies: whatever is asked, what drills ask for, sentences."""
        items = (*self.training, *self.rephrased, *self.drills)
        questions = [item.question for item in items if item.role == "user"]
        replies = [spoken_text(drill.reply) for drill in self.drills]
        return list(dict.fromkeys([*questions, *self.substitutions, *replies, *self.sentences]))


def words_of(text: str) -> list[str]:
    """Lower-case words of a text, calls and tags included as far as they are words."""
    return [word.lower() for word in WORD.findall(text.replace(CALL_START, " ").replace(CALL_END, " "))]


def calls_of(reply: str) -> list[Call]:
    """The tool calls of a reply."""
    calls = []
    for text in _CALL_TEXT.findall(reply):
        name, *pairs = text.split("; ")
        arguments = (pair.partition("=")[::2] for pair in pairs)
        calls.append(Call(name, tuple((key, value) for key, value in arguments)))
    return calls


def without_calls(reply: str) -> str:
    """A reply as the speech model takes it, its tag in front."""
    return _CALL_TEXT.sub("", reply).strip()


def spoken_text(reply: str) -> str:
    """What of a reply is heard: no calls, no tag."""
    return _TAG.sub("", without_calls(reply)).strip()


def style_of(reply: str) -> str:
    """The style a reply asks for: fast, slow, happy, or "" for the voice's own."""
    found = _TAG.match(without_calls(reply))
    return STYLE_TAGS.get(found[1], "") if found else ""


def is_right(reply: str, item: Item) -> bool:
    """Whether a reply is one of the item's, calls included; case and punctuation of the words do not count."""
    wanted = {(tuple(calls_of(answer)), *words_of(spoken_text(answer))) for answer in item.answers}
    return (tuple(calls_of(reply)), *words_of(spoken_text(reply))) in wanted


@cache
def build_domain(seed: int = SEED) -> Domain:
    """Build the whole domain; equal seeds give equal domains."""
    items = [item for name in _FILES for item in read_items(_data(name), name=name)]
    items += sums(seed)
    sentences = everyday_sentences(seed)
    random.Random(f"sentences {seed}").shuffle(sentences)
    texts = [*_texts(items), *sentences]
    words = sorted({word for text in texts for word in words_of(text)})
    written = _written_forms(texts)
    items += repeats(written, seed)
    asked = {item.question for item in items}
    begins = {item.reply.split(",")[0] for item in items if item.intent == "repeat"}
    drilled = drills(written, begins, DRILLS, seed)
    held_out = _held_out(items, seed)
    questions = sorted({item.question for item in items if item.role == "user"} - held_out)
    ways = _ways(questions, held_out)
    taken = asked.union(*ways.values())
    return Domain(
        items=tuple(dict.fromkeys(items)),
        held_out=held_out,
        ways=ways,
        drills=tuple(drill for drill in dict.fromkeys(drilled) if drill.question not in asked),
        substitutions=tuple(
            text for text in dict.fromkeys(substitutions(questions, written, SUBSTITUTIONS, seed)) if text not in taken
        ),
        sentences=tuple(sentences[HELD_OUT_SENTENCES:]),
        held_out_sentences=tuple(sentences[:HELD_OUT_SENTENCES]),
        words=tuple(words),
        inside=tuple(written),
        begins=tuple(sorted(begins)),
    )


def run(work: Path) -> None:
    """Write <work>/domain.json for people to read; later stages build the domain themselves."""
    domain = build_domain()
    work.mkdir(parents=True, exist_ok=True)
    data = {"seed": SEED, **asdict(domain), "held_out": sorted(domain.held_out)}
    (work / FILE).write_text(json.dumps(data, ensure_ascii=False, indent=1), encoding="utf-8")
    counts = {
        "items": len(domain.items),
        "spoken questions": len(domain.spoken_questions),
        "held out": len(domain.held_out),
        "replies": len({item.reply for item in domain.items}),
        "rephrased": len(set[str]().union(*domain.ways.values())),
        "drills": len(domain.drills),
        "substitutions": len(domain.substitutions),
        "sentences": len(domain.sentences),
        "words": len(domain.words),
    }
    _log.info("domain: %s", ", ".join(f"{count} {what}" for what, count in counts.items()))


def _data(name: str) -> str:
    return (files("services.nano") / "data" / name).read_text(encoding="utf-8")


def _texts(items: Iterable[Item]) -> Iterable[str]:
    for item in items:
        yield from (item.question, item.facts, *item.answers)
        yield from (turn.text for turn in item.history if turn.text != FILLER)


def _written_forms(texts: Iterable[str]) -> list[str]:
    """Every word as it stands inside a sentence: names with their capital, other words without."""
    words: set[str] = set()
    inside: set[str] = set()
    for text in texts:
        for sentence in re.split(r"[.?!:>]", text.replace(CALL_START, ".").replace(CALL_END, ".")):
            written = WORD.findall(sentence)
            words.update(word.lower() for word in written)
            inside.update(written[1:])
    names = {word for word in inside if word[0].isupper() and (word == "I" or word.lower() not in inside)}
    return sorted(names | (words - {name.lower() for name in names}))


def _ways(questions: Sequence[str], held_out: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """Without what is held out, and what holds a word as no question does."""
    known = set[tuple[bool, str]]().union(*map(_placed_words, questions))
    found = {
        question: tuple(way for way in ways_to_say(question) if way not in held_out and _placed_words(way) <= known)
        for question in questions
    }
    return {question: ways for question, ways in found.items() if ways}


def _placed_words(text: str) -> set[tuple[bool, str]]:
    """Each word as it is written, and whether a space stands before it: what makes it a piece of its own."""
    return {(text[: match.start()].endswith(" "), match[0]) for match in WORD.finditer(text)}


def _held_out(items: Sequence[Item], seed: int) -> frozenset[str]:
    """Draw phrasings to hold out, so that training still asks for every reply in every context.

    No word is lost by that: the repetitions hold each word, and keep one of their two phrasings. What stands in the
    history of an item stays, for there training would read it.
    """
    by_question: dict[str, list[Item]] = {}
    for item in items:
        if item.role == "user":
            by_question.setdefault(item.question, []).append(item)
    ways = Counter(_need(item) for item in items)
    questions = sorted(by_question.keys() - {turn.text for item in items for turn in item.history})
    random.Random(f"held out {seed}").shuffle(questions)
    wanted = round(len(by_question) * HELD_OUT_SHARE)
    held: set[str] = set()
    for question in questions:
        needs = [_need(item) for item in by_question[question]]
        if len(held) == wanted:
            break
        if all(ways[need] > 1 for need in needs):
            held.add(question)
            ways.subtract(needs)
    return frozenset(held)


def _need(item: Item) -> tuple[str, str]:
    """What must stay reachable: this reply, to what the system prompt says."""
    return item.reply, item.facts
