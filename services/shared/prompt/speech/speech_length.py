"""How long a text takes to speak, estimated from its characters: good to a factor of about two, and never zero.

Used to cap clauses (the released model loops from about 39 s of speech) and to stop a loop that happens all the same.
Figures: unhurried speech, Mandarin and Japanese 4 to 5 ideographs a second, Korean 5 syllables, English 15 letters; the
nano voice takes 0.33 s a word. A digit is read as a word of its own.
"""

import unicodedata
from collections.abc import Iterable
from typing import Final

from services.shared.prompt.speech.tags import is_music, leading_tags

IDEOGRAPH_S: Final = 0.23
KANA_S: Final = 0.14
HANGUL_S: Final = 0.20
LETTER_S: Final = 0.07
DIGIT_S: Final = 0.25
MARK_S: Final = 0.05
SPACE_S: Final = 0.01
"""A mark and a space: small, but not nothing, so that an endless run of them is bounded too."""
MAX_STRETCH: Final = 3.0
"""Speech longer than this multiple of the estimate, plus the allowance, is a loop: the estimate errs by two at most,
and the slowest style tag stretches by half."""
MAX_MUSIC_STRETCH: Final = 6.0
"""The same for rapped and hummed text, in which a syllable may be held."""
STRETCH_ALLOWANCE_S: Final = 3.0
"""Room for the pauses before, in and after a clause of one word."""


def max_speech_s(text: str) -> float:
    """Return the longest speech of a text that is not yet taken for a loop, in seconds."""
    stretch = MAX_MUSIC_STRETCH if is_music(text) else MAX_STRETCH
    return stretch * estimate_speech_s(text[len(leading_tags(text)) :]) + STRETCH_ALLOWANCE_S


def estimate_speech_s(text: Iterable[str]) -> float:
    """Estimate the seconds of speech in a text."""
    return sum(character_speech_s(character) for character in text)


def character_speech_s(character: str) -> float:
    """Estimate the seconds of speech of one character."""
    if character.isspace():
        return SPACE_S
    category = unicodedata.category(character)
    if category[0] == "N":
        return DIGIT_S
    if category[0] != "L":
        return MARK_S
    if is_hangul(character):
        return HANGUL_S
    if is_kana(character):
        return KANA_S
    if is_ideograph(character):
        return IDEOGRAPH_S
    return LETTER_S


def is_ideograph(character: str) -> bool:
    """Whether a character is a Han ideograph."""
    return any(first <= character <= last for first, last in _IDEOGRAPHS)


def is_kana(character: str) -> bool:
    """Whether a character is Japanese hiragana or katakana."""
    return "\u3041" <= character <= "\u30ff" or "\uff66" <= character <= "\uff9f"


def is_hangul(character: str) -> bool:
    """Whether a character is a Korean syllable or letter."""
    return "\uac00" <= character <= "\ud7a3" or "\u1100" <= character <= "\u11ff" or "\u3130" <= character <= "\u318f"


def is_east_asian(character: str) -> bool:
    """Whether a character belongs to a script that sets no space after a full stop."""
    return is_ideograph(character) or is_kana(character) or is_hangul(character)


_IDEOGRAPHS: Final = (("\u3400", "\u4dbf"), ("\u4e00", "\u9fff"), ("\uf900", "\ufaff"), ("\U00020000", "\U0003ffff"))
