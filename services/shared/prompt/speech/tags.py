"""Style tags at the head of a text, such as （RAP）, (高兴1) or (粤语), and where a text is routed by its first one.

A tag stays in the text: the speech model reads it. Only the first one routes, and only RAP and 哼唱 (humming) do: they
take the speaker's recording of that kind and the music vocoder.

Difference from the released code: its pattern `[（\\(][^\\(\\)()]*[）\\)]` excludes the ASCII brackets twice and the
full-width ones never, so that a second full-width pair anywhere in the text is swallowed into the tag:
"（RAP）我（好）啊" gave "RAP）我（好" and was not rapped. Here no bracket of either width stands inside a tag.
"""

import re
import unicodedata
from typing import Final

RAP_TAG: Final = "RAP"
HUMMING_TAG: Final = "哼唱"
MUSIC_TAGS: Final = (RAP_TAG, HUMMING_TAG)

_TAG = re.compile(r"[（(]([^（）()]*)[）)]")
LONGEST_CARRIED_TAG: Final = 20
"""Characters in a tag without its brackets; what is longer, or holds a full stop or comma, is a remark to be spoken."""
MOST_CARRIED_TAGS: Final = 4
"""Emotion, language, speed and one more."""
_TAGS = re.compile(rf"(?:[（(][^（）()，。！？；,.!?;\n]{{0,{LONGEST_CARRIED_TAG}}}[）)]){{0,{MOST_CARRIED_TAGS}}}")


def leading_tag(text: str) -> str:
    """Return what stands in the first bracket pair if the text begins with one, else the empty string."""
    match = _TAG.match(text)
    return match[1] if match else ""


def leading_tags(text: str) -> str:
    """Return the run of bracketed tags a text begins with, brackets included; "" if there is none."""
    match = _TAGS.match(text)
    return match[0] if match else ""


def is_music(text: str) -> bool:
    """Whether the text is to be rapped or hummed, hence spoken through the music vocoder."""
    return leading_tag(text) in MUSIC_TAGS


def voice_entry(speaker: str, text: str) -> str:
    """Name of the registry entry that speaks `text`: `speaker`, or `speaker` + tag for music."""
    return speaker + leading_tag(text) if is_music(text) else speaker


def speakable(text: str) -> bool:
    """Whether anything besides the leading tags can be spoken: one letter, ideograph or digit is enough."""
    return any(is_speakable_character(character) for character in text[len(leading_tags(text)) :])


def is_speakable_character(character: str) -> bool:
    """Whether one character has a sound of its own: letters, numbers and the signs that are read out."""
    return unicodedata.category(character)[0] in "LN" or character in _READ_OUT


_READ_OUT: Final = frozenset("%&+=@$€£¥￥°×÷℃℉")
