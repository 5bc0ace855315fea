"""Cutting text into clauses that the speech model speaks well, as the text arrives.

The released model loops from about 39 s of speech, and a caller who waits for the last word of a reply waits too long:
so text is cut at the ends of sentences and phrases, and at a word when nothing else is in reach. The splitter eats one
character after another, hence any chunking of a text gives the same clauses, each as soon as the first character after
it is known. What a clause sounds like is not known here; lengths are estimates.

    text        (高兴1)你好。 今天 3.5 度， …        mark       。 is a run: marks, closing brackets and spaces
    clauses     (高兴1)你好。 | (高兴1)今天 3.5 度，  settled by the first character after the run
"""

import re
import unicodedata
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from services.shared.errors import InvalidOptionError, NothingToSpeakError
from services.shared.prompt.speech.speech_length import character_speech_s, is_east_asian
from services.shared.prompt.speech.tags import LONGEST_CARRIED_TAG, leading_tags, speakable

_SENTENCE_MARKS: Final = frozenset("。！？｡!?‽\n")
_FULL_STOPS: Final = frozenset(".．")
_PHRASE_MARKS: Final = frozenset("，、；：,;:…—⋯")
_MARKS: Final = _SENTENCE_MARKS | _FULL_STOPS | _PHRASE_MARKS
_OPENERS: Final = frozenset("([{（【《〈「『“‘")
_CLOSERS: Final = frozenset(")]}）】》〉」』”’\"'")
_ABBREVIATIONS: Final = frozenset(
    re.findall(
        r"\w+", "mr mrs ms dr prof st vs fig approx jr sr inc ltd co corp dept gen col sgt capt rev hon mt etc cf"
    )
)
_ACRONYM = re.compile(r"(?:\w\.)+\w")
_URL = re.compile(r"://|^www\.|\w\.\w+/")
_SHORTEST_BREAK = 0.25
"""A forced break goes back to a mark only if at least this part of the longest clause stands before it."""
_OVERRUN = 1.2
"""A forced break waits for a whole written character up to this multiple of the longest clause."""


@dataclass(frozen=True, slots=True)
class ClauseLimits:
    """From which estimated length on a mark closes a clause, in seconds of speech.

    Attributes:
        sentence_s: the end of a sentence; shorter sentences join the next one.
        phrase_s: a comma, colon, dash or ellipsis.
        longest_s: no clause is estimated longer; well below the 39 s at which the released model starts to loop,
            because the estimate can be wrong by a factor of two.
        first_sentence_s, first_phrase_s: the same for the text's first clause, where they are less: nothing is heard
            before it is whole.
    """

    sentence_s: float = 2.0
    phrase_s: float = 8.0
    longest_s: float = 15.0
    first_sentence_s: float = 1.0
    first_phrase_s: float = 3.0

    def __post_init__(self) -> None:
        if not 0 <= self.sentence_s <= self.phrase_s <= self.longest_s or self.longest_s < 1:
            raise InvalidOptionError("clause limits are 0 <= sentence_s <= phrase_s <= longest_s, longest_s >= 1 s")
        if not 0 <= self.first_sentence_s <= self.first_phrase_s:
            raise InvalidOptionError("clause limits are 0 <= first_sentence_s <= first_phrase_s")

    def due_s(self, *, ends_sentence: bool, is_first: bool) -> float:
        """From which length on a mark closes the clause."""
        due_s, first_s = (
            (self.sentence_s, self.first_sentence_s) if ends_sentence else (self.phrase_s, self.first_phrase_s)
        )
        return min(due_s, first_s) if is_first else due_s


class _Rank(IntEnum):
    NONE = 0
    PHRASE = 1
    SENTENCE = 2


@dataclass(frozen=True, slots=True)
class _Cut:
    position: int
    length_s: float


def split_clauses(text: str, limits: ClauseLimits | None = None) -> list[str]:
    """Cut a whole text into clauses, each with the text's leading style tags in front, or its own where it has some.

    Raises:
        NothingToSpeakError: the text has no speakable character.
    """
    splitter = ClauseSplitter(limits)
    return [*splitter.push(text), *splitter.finish()]


class ClauseSplitter:
    """Cuts one text into clauses while it arrives; use a new one for each text."""

    def __init__(self, limits: ClauseLimits | None = None) -> None:
        self._limits = limits or ClauseLimits()
        self._head: str | None = ""  # what may still turn out to be tags; None once the text has begun
        self._tags = ""
        self._done: list[str] = []
        self._spoke = False
        self._restart()

    def push(self, text: str) -> list[str]:
        """Take the next piece of text.

        Returns:
            The clauses that became final, in order.
        """
        for character in text:
            if self._head is None:
                self._feed(character)
            else:
                self._feed_head(character)
        return self._take()

    def finish(self) -> list[str]:
        """End the text.

        Returns:
            The clauses that were still open.

        Raises:
            NothingToSpeakError: the text had no speakable character.
        """
        if self._head is not None:
            self._begin_text()
        if self._run_start is not None:
            self._settle(None)
        self._emit(len(self._text))
        if not self._spoke:
            raise NothingToSpeakError("the text has no speakable character; give at least one letter or number")
        return self._take()

    def _take(self) -> list[str]:
        done, self._done = self._done, []
        return done

    def _restart(self) -> None:
        self._text = ""
        self._length_s = 0.0
        self._run_start: int | None = None
        self._mark_cut: _Cut | None = None
        self._word_cut: _Cut | None = None

    # The head of the text: leading style tags.

    def _feed_head(self, character: str) -> None:
        assert self._head is not None
        if not self._head and character.isspace():
            return
        self._head += character
        rest = self._head[len(leading_tags(self._head)) :]
        if rest and (rest[0] not in "（(" or len(rest) > LONGEST_CARRIED_TAG + 1 or any(c in "（(" for c in rest[1:])):
            self._begin_text()

    def _begin_text(self) -> None:
        head, self._head = self._head or "", None
        self._tags = leading_tags(head)
        for character in head[len(self._tags) :]:
            self._feed(character)

    # The text: one character at a time.

    def _feed(self, character: str) -> None:
        if self._run_start is not None:
            if self._continues_run(character):
                self._append(character)
                if self._length_s > self._limits.longest_s:
                    self._settle(None)
                    self._emit(len(self._text))
                return
            self._settle(character)
        if self._length_s + character_speech_s(character) > self._limits.longest_s and self._break_before(character):
            return
        if self._text and _may_break(self._text[-1], character):
            self._word_cut = _Cut(len(self._text), self._length_s)
        if character in _MARKS:
            self._run_start = len(self._text)
        self._append(character)

    def _append(self, character: str) -> None:
        self._text += character
        self._length_s += character_speech_s(character)

    def _continues_run(self, character: str) -> bool:
        """Whether a character belongs to the marks before it: after a space, a quote opens and a mark is new."""
        if character.isspace():
            return True
        return not self._text[-1].isspace() and (character in _MARKS or character in _CLOSERS)

    def _settle(self, following: str | None) -> None:
        """Decide what the run of marks at the end of the buffer is, now that the character after it is known."""
        assert self._run_start is not None
        rank = _rank(self._text[: self._run_start], self._text[self._run_start :], following)
        self._run_start = None
        if rank is _Rank.NONE:
            return
        if self._length_s >= self._limits.due_s(ends_sentence=rank is _Rank.SENTENCE, is_first=not self._spoke):
            self._emit(len(self._text))
        else:
            self._mark_cut = _Cut(len(self._text), self._length_s)

    def _break_before(self, character: str) -> bool:
        """Make room for a character that would make the clause too long; feed it behind the break.

        Returns:
            Whether the character was fed; a part of a written character waits for the next one.
        """
        cut = self._mark_cut
        if cut is None or cut.length_s < _SHORTEST_BREAK * self._limits.longest_s:
            cut = self._word_cut
        if cut is None:
            if unicodedata.category(character)[0] == "M" and self._length_s < _OVERRUN * self._limits.longest_s:
                return False
            cut = _Cut(len(self._text), self._length_s)
        rest = self._text[cut.position :]
        self._emit(cut.position)
        for again in rest + character:
            self._feed(again)
        return True

    def _emit(self, position: int) -> None:
        clause = self._text[:position].strip()
        self._restart()
        if not speakable(clause):
            return
        has_own_tags = self._spoke and leading_tags(clause)
        self._done.append(clause if has_own_tags else self._tags + clause)
        self._spoke = True


def _may_break(before: str, after: str) -> bool:
    """Whether a forced break may stand between two characters: at spaces, and around ideographs."""
    if after in _MARKS or after in _CLOSERS or after.isspace() or before in _OPENERS:
        return False
    return before.isspace() or is_east_asian(before) or is_east_asian(after)


def _rank(before: str, run: str, following: str | None) -> _Rank:
    """Rank a run of marks, closing brackets and spaces.

    Args:
        before: the clause up to the run.
        run: the run itself.
        following: the first character behind it; None at the end of the text.
    """
    marks = run.rstrip("".join(_CLOSERS) + " \t\r\n\u3000") or run[:1]
    spaced = run[-1].isspace() or following is None
    word = re.split(r"[\s（(「『“‘\"']", before)[-1]
    if any(mark in "。！？｡‽" for mark in marks) or "\n" in run:
        return _Rank.SENTENCE
    if any(mark in "!?" for mark in marks):
        return _Rank.NONE if not spaced and _URL.search(word) else _demoted(spaced, following)
    if marks in _FULL_STOPS:
        return _rank_full_stop(before, word, spaced=spaced, following=following)
    if any(mark in "，、；：…—⋯" for mark in marks):
        between_digits = before[-1:].isdigit() and following is not None and following.isdigit()
        return _Rank.NONE if between_digits else _Rank.PHRASE
    return _Rank.PHRASE if spaced or _opens_new_script(following) else _Rank.NONE


def _rank_full_stop(before: str, word: str, *, spaced: bool, following: str | None) -> _Rank:
    if not spaced and not _opens_new_script(following):
        return _Rank.NONE  # a decimal, a file, a host name
    if word.lower() in _ABBREVIATIONS or _ACRONYM.fullmatch(word):
        return _Rank.NONE
    if len(word) == 1 and word.isupper() and word != "I":
        return _Rank.NONE  # an initial
    if word.lower() == "no" and following is not None and following.isdigit():
        return _Rank.NONE
    if word.isdigit() and len(word) <= 2 and before[: -len(word)].strip()[-1:] in ("", *_SENTENCE_MARKS, *_FULL_STOPS):
        return _Rank.NONE  # the number of a list entry
    return _demoted(spaced, following)


def _demoted(spaced: bool, following: str | None) -> _Rank:
    """A sentence that goes on in lower case is a phrase: «"Stop!" he said»."""
    return _Rank.PHRASE if spaced and following is not None and following.islower() else _Rank.SENTENCE


def _opens_new_script(following: str | None) -> bool:
    return following is not None and (is_east_asian(following) or following in _OPENERS)
