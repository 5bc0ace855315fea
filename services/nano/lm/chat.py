"""What the chat model learns: to write down what is said, and to answer it, in the room's own prompts.

    25 %  a written question -> reply        35 %  speech -> its words        40 %  speech -> reply

Four in ten replies are drills, which cannot be remembered; half of those heard are recorded words in new lists.
Half of what it writes down is nobody's question: drills, such lists, questions with wrong words, everyday sentences, so
that it hears words rather than known phrases. Decides: the mix, the system prompts, the turns before, what disturbs the
speech, how often a written question is asked in other words. Facts about now stand behind the chat's system prompt on a
line of their own; a tool's result is a system turn. Refuses to know: networks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.nano.domain import Domain
from services.nano.exercises import drills
from services.nano.grammar import CALL_END, CALL_START, FILLER, Item, capitalized
from services.nano.lm.codes import shaken
from services.nano.lm.lists import WordLists
from services.nano.lm.said import Line, SaidPieces, Spoken
from services.nano.lm.task import NO_HINT, Example
from services.nano.pronunciation import Pronunciations
from services.nano.tokens.store import Rendition
from services.nano.training.draws import one_of
from services.nano.training.recorded import Clip
from services.shared.codec.codebooks import GROUP_TOKENS
from services.shared.prompt.chat import Message, SpeechContent, build_asr_prompt, build_chat_prompt
from services.shared.prompt.chat.system_prompts import CHAT_SYSTEM_PROMPT
from services.shared.text import TextTokenizer

_TEXT_SHARE, _HEARD_SHARE = 0.25, 0.35
_SMALL_TALK_SHARE: Final = 0.3
_STRANGE_FACTS_SHARE: Final = 0.2
_NO_SYSTEM_SHARE: Final = 0.2
_OTHERWISE_SHARE: Final = 0.6
_DRILL_SHARE: Final = 0.4
_ANY_WORDS_SHARE: Final = 0.5
_ANEW_SHARE: Final = 0.5
"""Of the drills that are heard, and of any words that are written down: lists put together anew."""
_NATURAL_LISTS_SHARE: Final = 0.6
_REPEATING: Final = ("drill", "repeat")
_MOST_LISTED: Final = 4
_WRITTEN_LENGTHS: Final = (1, 2, 3, 4, 6, 8)
"""Of written drills, in words: the longer, the more there is to repeat in one sequence."""
_MOST_TRIES: Final = 100
"""To draw what is not held out, which the first nearly always is."""
_NATURAL_FAVOUR: Final = 8
"""A text that not only espeak-ng says is drawn so many times as often as another; not more, or it is remembered."""
_MOST_SHAKEN, _MOST_MASKED = 0.25, 0.12
_JUDGED: Final = 96
_JUDGED_TEXTS: Final = 32
_JUDGED_DRILLS: Final = 1_500
"""So many of the drills are looked through; one recording in a hundred is held out."""


@dataclass(frozen=True, slots=True, eq=False)
class _Speech:
    """Codec values [5 * groups], and the piece of the word known by the end of each group, where that is told."""

    values: NDArray[np.int64]
    known: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass(frozen=True, slots=True)
class _Aloud:
    """Items that are heard: those that not only espeak-ng says, and the others."""

    natural: list[Item]
    others: list[Item]

    def __bool__(self) -> bool:
        return bool(self.natural or self.others)

    def one(self, rng: np.random.Generator) -> Item:
        """One of them."""
        favoured = _NATURAL_FAVOUR * len(self.natural)
        is_natural = rng.random() * (favoured + len(self.others)) < favoured
        return one_of(self.natural if is_natural else self.others, rng)


class ChatExamples:
    """See `services.nano.lm.task.Examples`.

    Args:
        domain: items; held-out phrasings are never drawn.
        tokenizer: of the checkpoint.
        speech: recordings of each spoken text that training may hear, and those that are judged.
        near: [5120, 6] near codec values.
        sounds: how the words of the texts sound.
    """

    def __init__(
        self,
        domain: Domain,
        tokenizer: TextTokenizer,
        speech: tuple[Mapping[str, Sequence[Spoken]], Mapping[str, Sequence[Spoken]]],
        near: NDArray[np.int64],
        sounds: Pronunciations,
    ) -> None:
        self._tokenizer = tokenizer
        self._heard, self._judged_speech = speech
        self._near, self._pieces = near, SaidPieces(tokenizer, sounds)
        self._items = domain.training
        self._all = domain.items
        self._ways = domain.ways
        self._held_out = domain.held_out
        self._drills = domain.drills
        self._inside, self._begins = domain.inside, domain.begins
        self._spoken = self._aloud([item for item in (*self._items, *domain.rephrased) if item.role == "user"])
        self._spoken_drills = self._aloud(domain.drills)
        self._lists = self._word_lists(domain)
        asked = {item.question for item in (*self._items, *domain.rephrased)}
        self._spoken_words = self._aloud([Item("", text, ()) for text in self._heard if text not in asked])
        self._plain = [item for item in self._items if not item.history and not item.facts and item.role == "user"]
        self._facts = sorted({item.facts for item in domain.items if item.facts})
        self.words = sorted({token for text in domain.texts_to_hear for token in tokenizer.encode_text(text)})
        self._word_place = {token: place for place, token in enumerate(self.words, start=1)}

    def targets(self) -> NDArray[np.int64]:
        """Every id that can be a target, ascending."""
        ids = {self._tokenizer.eot_id, *self.words}
        for item in self._all:
            ids.update(self._tokenizer.encode_text(item.question))
            ids.update(reply_ids(self._tokenizer, item.reply))
        return np.array(sorted(ids), np.int64)

    def draw(self, rng: np.random.Generator) -> Example:
        """One sequence to train on."""
        kind = rng.random()
        if kind < _TEXT_SHARE or not self._spoken:
            if self._drills and rng.random() < _DRILL_SHARE:
                return self._answer(self._new_drill(rng), None, rng)
            return self._answer(self._otherwise(one_of(self._items, rng), rng), None, rng)
        if kind < _TEXT_SHARE + _HEARD_SHARE:
            anything = self._spoken_words and rng.random() < _ANY_WORDS_SHARE
            item, speech = self._heard_words(self._spoken_words if anything else self._spoken, rng, anew=bool(anything))
            return self._written_down(item, speech, rng)
        drilled = self._spoken_drills and rng.random() < _DRILL_SHARE
        item, speech = self._heard_words(self._spoken_drills if drilled else self._spoken, rng, anew=bool(drilled))
        return self._answer(item, speech, rng)

    def _heard_words(self, aloud: _Aloud, rng: np.random.Generator, *, anew: bool) -> tuple[Item, _Speech]:
        """One of the items with a recording of it, or a new list to repeat, where that may be."""
        if anew and self._lists and rng.random() < _ANEW_SHARE:
            lists = self._lists[0 if rng.random() < _NATURAL_LISTS_SHARE else -1]
            drawn = (lists.draw(int(rng.integers(1, _MOST_LISTED + 1)), rng) for _ in range(_MOST_TRIES))
            line = next(line for line in drawn if line.text not in self._held_out)
            item = Item("drill", line.text, (capitalized(line.text.partition(": ")[2]),))
        else:
            item = aloud.one(rng)
            line = self._pieces.line(*one_of(self._heard[item.question], rng))
        values = shaken(line.values, self._near, float(rng.uniform(0, _MOST_SHAKEN)), rng)
        return item, _Speech(values, line.once_heard())

    def _new_drill(self, rng: np.random.Generator) -> Item:
        """Words to repeat that hardly ever stood together before."""
        new = drills(self._inside, self._begins, _MOST_TRIES, int(rng.integers(2**32)), _WRITTEN_LENGTHS)
        return next(drill for drill in new if drill.question not in self._held_out)

    def _word_lists(self, domain: Domain) -> list[WordLists]:
        """Of whatever is to be repeated: as others than espeak-ng say it, and as it does, where either does."""
        repeated = {item.question for item in (*domain.drills, *domain.training) if item.intent in _REPEATING}
        spoken = [one for text, own in self._heard.items() if text in repeated for one in own]
        natural, others = list[Line](), list[Line]()
        for clip, rendition in spoken:
            line = self._pieces.line(clip, rendition)
            (others if clip.recording.kind == "espeak" else natural).append(line)
        return [lists for lists in (WordLists(natural), WordLists(others)) if lists]

    def _aloud(self, items: Sequence[Item]) -> _Aloud:
        kinds = {text: {clip.recording.kind for clip, _ in spoken} for text, spoken in self._heard.items()}
        heard = [item for item in items if item.question in kinds]
        natural = [item for item in heard if kinds[item.question] != {"espeak"}]
        return _Aloud(natural, [item for item in heard if kinds[item.question] == {"espeak"}])

    def _otherwise(self, item: Item, rng: np.random.Generator) -> Item:
        """A written item, often in other words."""
        ways = self._ways.get(item.question, ())
        return replace(item, question=one_of(ways, rng)) if ways and rng.random() < _OTHERWISE_SHARE else item

    def judged(self) -> list[Example]:
        """What is held out: phrasings as text with their replies, speech with its words and the replies to it."""
        rng = np.random.default_rng(0)
        found = []
        for item in [item for item in self._all if item.question in self._held_out][:_JUDGED_TEXTS]:
            prompt = build_chat_prompt(self._tokenizer, self._messages(item, None, rng, plain=True))
            found.append(self._example(prompt, reply_ids(self._tokenizer, item.reply), item, None))
        for item in (*self._drills[:_JUDGED_DRILLS], *self._all):
            for _, rendition in self._judged_speech.get(item.question, ())[:1] if item.role == "user" else ():
                speech = _Speech(rendition.values)
                found.append(self._written_down(item, speech))
                prompt = build_chat_prompt(self._tokenizer, self._messages(item, speech, rng, plain=True))
                found.append(self._example(prompt, reply_ids(self._tokenizer, item.reply), item, speech))
        return found[:_JUDGED]

    def _written_down(self, item: Item, speech: _Speech, rng: np.random.Generator | None = None) -> Example:
        prompt = build_asr_prompt(self._tokenizer, SpeechContent(speech.values))
        return self._example(prompt, self._tokenizer.encode_text(item.question), item, speech, rng)

    def _answer(self, item: Item, speech: _Speech | None, rng: np.random.Generator) -> Example:
        prompt = build_chat_prompt(self._tokenizer, self._messages(item, speech, rng))
        return self._example(prompt, reply_ids(self._tokenizer, item.reply), item, speech, rng)

    def _messages(
        self, item: Item, speech: _Speech | None, rng: np.random.Generator, *, plain: bool = False
    ) -> list[Message]:
        facts = item.facts
        if not facts and not plain and rng.random() < _STRANGE_FACTS_SHARE and self._facts:
            facts = one_of(self._facts, rng)
        messages = []
        if facts or plain or rng.random() >= _NO_SYSTEM_SHARE:
            messages.append(Message("system", f"{CHAT_SYSTEM_PROMPT}\n{facts}" if facts else CHAT_SYSTEM_PROMPT))
        if not plain and not item.history and rng.random() < _SMALL_TALK_SHARE:
            messages += self._small_talk(rng)
        for turn in item.history:
            messages += self._small_talk(rng) if turn.text == FILLER else [Message(_role(turn.role), turn.text)]
        content = item.question if speech is None else SpeechContent(speech.values)
        return [*messages, Message(_role(item.role), content)]

    def _small_talk(self, rng: np.random.Generator) -> list[Message]:
        item = one_of(self._plain, rng)
        return [Message("user", item.question), Message("assistant", item.reply)]

    def _example(
        self,
        prompt: list[int],
        reply: list[int],
        item: Item,
        speech: _Speech | None,
        rng: np.random.Generator | None = None,
    ) -> Example:
        ids = np.array([*prompt, *reply, self._tokenizer.eot_id], np.int64)
        span: tuple[int, int] = (0, 0)
        words: tuple[int, ...] = ()
        hints = np.full(len(ids), NO_HINT, np.int64)
        heard = ids >= self._tokenizer.audio_offset
        if speech is not None:
            places = np.flatnonzero(heard)
            span = int(places[0]), int(places[-1]) + 1
            hints[span[0] + GROUP_TOKENS - 1 : span[1] : GROUP_TOKENS][: len(speech.known)] = speech.known
            spoken = self._tokenizer.encode_text(item.question)
            words = tuple(self._word_place[token] for token in spoken if token in self._word_place)
        read = ids.copy()
        if rng is not None:
            read[heard & (rng.random(len(ids)) < rng.uniform(0, _MOST_MASKED))] = 0
        return Example(read, ids, len(prompt), span, words, hints)


def reply_ids(tokenizer: TextTokenizer, reply: str) -> list[int]:
    """Ids of a reply as the model writes it: a call's marks are single tokens, everything else is plain text."""
    ids: list[int] = []
    for place, part in enumerate(reply.replace(CALL_END, CALL_START).split(CALL_START)):
        if place:
            ids.append(tokenizer.id_of(CALL_START if place % 2 else CALL_END))
        ids += tokenizer.encode_text(part)
    return ids


def spoken_texts(
    clips: Sequence[Clip], renditions: Mapping[str, Sequence[Rendition]]
) -> tuple[dict[str, list[Spoken]], dict[str, list[Spoken]]]:
    """Recordings of all but replies, by text: those to train on, and the undisturbed ones that are held out."""
    heard: dict[str, list[Spoken]] = {}
    judged: dict[str, list[Spoken]] = {}
    for clip in clips:
        if clip.recording.kind != "assistant":
            for rendition in renditions.get(clip.recording.identity, ()):
                (judged if clip.is_judged else heard).setdefault(clip.recording.text, []).append((clip, rendition))
    return heard, judged


def _role(role: str) -> str:
    return "system" if role == "tool" else role
