"""The phone alphabet of the nano recipe, and how espeak-ng's IPA falls onto it.

Decides: which sounds are one class for the tokenizers' training. A diphthong or an affricate is one class, written as
one character: A (day), I (my), O (go), W (now), Y (boy), ʤ (jam), ʧ (chin). Accents share their classes: the vowels of
British "hot" and American "hot" are both ɑ.
Refuses to know: audio, voices, and where the times of the phones come from.
Source: espeak-ng's IPA output, with and without the tie character.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

SILENCE: Final = "_"
VOWELS: Final = "iɪɛæɑɔʊuʌəɜAIOWY"
CONSONANTS: Final = "pbtdkɡfvθðszʃʒhmnŋlɹwjʧʤɾ"
LABELS: Final = SILENCE + VOWELS + CONSONANTS

TIE: Final = "^"
PUNCTUATION: Final = ",.?!;:"
STRESS: Final = "ˈˌ"
LENGTH: Final = "ː"

# Inside one symbol; the order matters: pairs come before their parts, and length marks have gone.
_CLASSES: Final = {
    **{"aɪ": "I", "aʊ": "W", "æʊ": "W", "ʌʊ": "W", "ʌʉ": "W", "eɪ": "A", "ei": "A", "oʊ": "O", "əʊ": "O", "əu": "O"},
    **{"ɔɪ": "Y", "oɪ": "Y", "dʒ": "ʤ", "tʃ": "ʧ", "eə": "ɛə", "oə": "ɔə", "ɚ": "əɹ", "ɐ": "ə", "ᵻ": "ɪ", "ʉ": "u"},
    **{"a": "æ", "ɒ": "ɑ", "e": "A", "o": "ɔ", "r": "ɹ", "x": "k", "ç": "k", "ʔ": "t", "ɬ": "l", "ɫ": "l", "ʍ": "w"},
}


@dataclass(frozen=True, slots=True)
class Phone:
    """One phone of an utterance: its class, and where it lies, in samples of the utterance."""

    label: str
    start_samples: int
    end_samples: int


def symbols_of(ipa: str) -> list[str]:
    """Cut tied IPA into symbols: what a tie joins is one symbol, a stress or length mark and a space are their own.

    Args:
        ipa: e.g. "nˈa^ɪs tə mˈiːt juː".

    Returns:
        e.g. ["n", "ˈ", "aɪ", "s", " ", "t", "ə", …]; the ties themselves are gone.
    """
    return [symbol.replace(TIE, "") for symbol in re.findall(rf".(?:\{TIE}.)*", ipa)]


def labels_of(symbol: str) -> tuple[str, ...]:
    """Classes of one symbol: none for stress, length and space, silence for punctuation and pauses."""
    if symbol[:1] in PUNCTUATION + SILENCE:
        return (SILENCE,) if symbol else ()
    for old, new in ((LENGTH, ""), *_CLASSES.items()):
        symbol = symbol.replace(old, new)
    return tuple(label for label in symbol if label in LABELS)


def phones_of(symbols: Sequence[str], ends_samples: Sequence[int]) -> list[Phone]:
    """Turn timed symbols into phones without gaps: marks give their time to a neighbour, equal silences join.

    A stress mark belongs to the phone after it, a length mark or a word gap to the phone before it; a symbol of several
    classes (espeak-ng's ɚ) is split into equal parts.

    Args:
        symbols: as recorded with the utterance.
        ends_samples: the sample at which each ends; the first starts at 0.

    Returns:
        phones that cover 0 .. ends_samples[-1].
    """
    phones: list[Phone] = []
    start = 0
    for symbol, end in zip(symbols, ends_samples, strict=True):
        labels = labels_of(symbol)
        if not labels and symbol not in STRESS and phones:
            last = phones.pop()
            phones.append(Phone(last.label, last.start_samples, end))
            start = end
        elif labels and end > start:
            edges = [start + (end - start) * part // len(labels) for part in range(len(labels) + 1)]
            phones.extend(Phone(*span) for span in zip(labels, edges[:-1], edges[1:], strict=True))
            start = end
    if phones and ends_samples and phones[-1].end_samples < ends_samples[-1]:
        last = phones.pop()
        phones.append(Phone(last.label, last.start_samples, ends_samples[-1]))
    return list(_joined_silences(phones))


def _joined_silences(phones: Iterable[Phone]) -> Iterable[Phone]:
    held: Phone | None = None
    for phone in phones:
        if held and held.label == phone.label == SILENCE:
            held = Phone(SILENCE, held.start_samples, phone.end_samples)
            continue
        if held:
            yield held
        held = phone
    if held:
        yield held


def split_clauses(text: str) -> list[tuple[str, str]]:
    """Cut a text at its punctuation: pairs of (words, the mark behind them, or "")."""
    parts = re.split(rf"([{PUNCTUATION}]+)", text)
    pairs = zip(parts[0::2], [*parts[1::2], ""], strict=True)
    return [(words.strip(), mark[:1]) for words, mark in pairs if words.strip() or mark]
