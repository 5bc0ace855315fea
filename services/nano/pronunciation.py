"""How the words of the vocabulary sound, and which word of a text is said at each sound of its recording.

    <work>/speech/pronunciations.json    word -> its phone classes, one character each

Decides: how a text's words are laid along the phones that were recorded. Words in a sentence sound other than alone and
accents differ, so both are laid side by side where they agree, and what lies between is shared out in proportion.
Refuses to know: audio, tokens, networks but for the size of their rows.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.nano.grammar import WORD
from services.nano.phones import LABELS, SILENCE, labels_of, symbols_of
from services.shared.errors import MissingFileError

FILE: Final = "speech/pronunciations.json"
NO_WORD: Final = -1
_FROM_START, _FROM_END = 8, 4
"""Places at which a sound counts for a word's vector, from either side."""
_OWN_SHARE: Final = 0.3
_SEED: Final = 20_261

Pronunciations = Mapping[str, str]
"""Lower-case word -> phone classes."""


def write_pronunciations(words: Iterable[str], work: Path, ipa: Callable[[str], str]) -> None:
    """Write how each word sounds alone; `ipa` gives tied IPA of a word."""
    sounds = {word: "".join(label for symbol in symbols_of(ipa(word)) for label in labels_of(symbol)) for word in words}
    path = work / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(sounds, ensure_ascii=False, indent=0, sort_keys=True), encoding="utf-8")


def read_pronunciations(work: Path) -> Pronunciations:
    """What `write_pronunciations` wrote.

    Raises:
        MissingFileError: the stage `speech` has not run.
    """
    path = work / FILE
    if not path.exists():
        raise MissingFileError(f"{path} does not exist; run the stage `speech` first")
    sounds: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return sounds


def words_in(text: str) -> list[str]:
    """The words of a text as they are written, in order; `words_said` counts them."""
    return WORD.findall(text)


def words_said(text: str, labels: Sequence[str], sounds: Pronunciations) -> NDArray[np.int64]:
    """Which word of a text is said at each phone of its recording.

    Args:
        text: what was said.
        labels: [P] classes of the phones.
        sounds: of the words; a word without an entry is said nowhere.

    Returns:
        [P] places in `words_in(text)`; `NO_WORD` for silence.
    """
    expected, owners = "", list[int]()
    for place, word in enumerate(words_in(text)):
        expected += sounds.get(word.lower(), "")
        owners += [place] * (len(expected) - len(owners))
    out = np.full(len(labels), NO_WORD, np.int64)
    sounding = [place for place, label in enumerate(labels) if label != SILENCE]
    if not owners:
        return out
    heard = "".join(labels[place] for place in sounding)
    for _, low, high, start, stop in SequenceMatcher(None, expected, heard, autojunk=False).get_opcodes():
        for number in range(start, stop):
            at = low + (number - start) * (high - low) // (stop - start) if high > low else max(low - 1, 0)
            out[sounding[number]] = owners[at]
    return out


def sound_vectors(sounds: Sequence[str], size: int) -> Tensor:
    """Vectors of unit variance that begin alike for words that sound alike.

    Args:
        sounds: phone classes of each of W words.
        size: D.

    Returns:
        [W, D].
    """
    generator = torch.Generator().manual_seed(_SEED)
    parts = torch.randn(len(LABELS), _FROM_START + _FROM_END, size, generator=generator)
    out = _OWN_SHARE * torch.randn(len(sounds), size, generator=generator)
    for row, word in zip(out, sounds, strict=True):
        places = [(label, place) for place, label in enumerate(word[:_FROM_START])]
        places += [(label, -1 - place) for place, label in enumerate(word[::-1][:_FROM_END])]
        for label, place in places:
            row += parts[LABELS.index(label), place] / len(places) ** 0.5
    return out
