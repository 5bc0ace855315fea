"""Words that decide about turns, as data: listeners' sounds, answers of one word, spelled letters and digits.

A transcript is compared without capitals and punctuation. Scripts without spaces are read sound by sound, so that
"嗯嗯" is two listeners' sounds. The tables are for the checkpoint's own languages; what is not in them is other words.
"""

import re
from typing import Final

_BACK_CHANNELS: Final = (
    "mm mmm mhm hm hmm mm-hm mm-hmm mhmm uh-huh uh uhuh huh ah aha oh ooh yeah yep yes yup ok okay right sure really "
    "wow 嗯 恩 呃 哦 噢 喔 啊 唉 诶 欸 对 对的 是 是的 好 好的 行 没错 这样 原来如此 明白 知道了 "
    "うん はい ええ へえ そう そうですね なるほど 응 네 예 그래"
)
_PHRASES: Final = ("i see", "got it", "go on")
_ANSWERS: Final = (
    "yes no yeah yep yup nope ok okay sure right correct exactly stop please thanks hello hi bye goodbye maybe never "
    "是 不是 是的 不 不要 不行 对 对的 不对 好 好的 行 可以 停 谢谢 你好 再见 はい いいえ 네 아니요"
)
_SPELLED: Final = (
    "zero oh one two three four five six seven eight nine double triple dash dot hyphen underscore at slash "
    "零 〇 一 二 三 四 五 六 七 八 九 幺 点 横"
)
_EAST_ASIAN: Final = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff"
_NO_WORD: Final = re.compile(r"[^\w'’-]+|(?<!\w)[-'’]+|[-'’]+(?!\w)|_+")
_MIN_SPELLED: Final = 2
"""One letter alone is as often a word ("a", "I") as the beginning of a spelling."""


def has_words(text: str) -> bool:
    """Whether anything in a transcript can be spoken."""
    return bool(_words(text))


def is_back_channel(text: str) -> bool:
    """Whether a transcript is a listener's sounds and nothing else, such as "mm-hm"; no words at all are none."""
    words = _words(_without_phrases(" ".join(_words(text))))
    return has_words(text) and all(_LISTENING.fullmatch(word) for word in words)


def is_one_answer(text: str) -> bool:
    """Whether a transcript is one known word that is a whole turn as a rule, such as "yes"."""
    words = _words(text)
    return len(words) == 1 and words[0] in _ANSWER_SET


def is_spelling(text: str) -> bool:
    """Whether a transcript ends amid letters or digits, said one by one."""
    count = 0
    for word in reversed(_words(text)):
        if not _SPELLING.fullmatch(word):
            break
        count += len(word) if _LETTERS.fullmatch(word) else 1
    return count >= _MIN_SPELLED


def _words(text: str) -> list[str]:
    return _NO_WORD.sub(" ", text.lower()).split()


def _without_phrases(text: str) -> str:
    for phrase in _PHRASES:
        text = re.sub(rf"\b{phrase}\b", "", text)
    return text


def _any_of(table: str) -> str:
    """A pattern of the table's words: one with spaces around it, or several of a script without spaces in a row."""
    words = sorted(set(table.split()), key=len, reverse=True)
    joined = [word for word in words if re.match(f"[{_EAST_ASIAN}]", word)]
    alone = [word for word in words if word not in joined]
    return f"{'|'.join(map(re.escape, alone))}|(?:{'|'.join(joined)})+"


_LISTENING: Final = re.compile(_any_of(_BACK_CHANNELS))
_ANSWER_SET: Final = frozenset(_ANSWERS.split())
_SPELLING: Final = re.compile(rf"\d+|[a-z]|[a-z]'s|{_any_of(_SPELLED)}")
_LETTERS: Final = re.compile(rf"\d+|[{_EAST_ASIAN}]+")
