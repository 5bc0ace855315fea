"""Which piece of its text each code of a recording says, by the recording's exact phone times.

Decides: which moment a code stands for, when a word can be known to a listener, and how lines are put one behind the
other. Refuses to know: prompts, training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from services.nano.lm.task import NO_HINT
from services.nano.phones import LABELS
from services.nano.pronunciation import NO_WORD, Pronunciations, words_in, words_said
from services.nano.tokens.store import Rendition
from services.nano.training.recorded import Clip
from services.shared.codec.codebooks import GROUP_LINGUISTIC, GROUP_MS, GROUP_SEMANTIC, GROUP_TOKENS
from services.shared.text import TextTokenizer

_GROUP_S: Final = GROUP_MS / 1000
_MOMENTS_S: Final = np.array(
    [(place + 0.5) * _GROUP_S / count for count in (GROUP_LINGUISTIC, GROUP_SEMANTIC) for place in range(count)]
)
"""Middle of what each code of a group stands for."""

Spoken = tuple[Clip, Rendition]


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A text and how it was said.

    Attributes:
        text: what was said.
        values: [5 * groups] codec values.
        words: [5 * groups] place in `words_in(text)` of the word that each code says, or `NO_WORD`.
        pieces: [W] id of the piece of each word; `NO_HINT` for a word of several pieces.
    """

    text: str
    values: NDArray[np.int64]
    words: NDArray[np.int64]
    pieces: NDArray[np.int64]

    @classmethod
    def joined(cls, lines: Sequence[Self]) -> Self:
        """Lines, at least one, as one."""
        firsts = np.cumsum([0, *(len(line.pieces) for line in lines)])
        return cls(
            " ".join(line.text for line in lines),
            np.concatenate([line.values for line in lines]),
            np.concatenate(
                [
                    np.where(line.words == NO_WORD, NO_WORD, line.words + first)
                    for line, first in zip(lines, firsts, strict=False)
                ]
            ),
            np.concatenate([line.pieces for line in lines]),
        )

    def said(self) -> NDArray[np.int64]:
        """[5 * groups] piece that each code says, or `NO_HINT`."""
        return np.append(self.pieces, NO_HINT)[self.words]

    def once_heard(self) -> NDArray[np.int64]:
        """[groups] piece of the word that is known by the end of each group, or `NO_HINT`.

        A word is known one group after its last sound, or one group after the word before it, whichever is later; what
        ends too late for that is left out.
        """
        out = np.full(len(self.words) // GROUP_TOKENS, NO_HINT, np.int64)
        place = -1
        for word in dict.fromkeys(self.words[self.words != NO_WORD].tolist()):
            last = int(np.flatnonzero(self.words == word)[-1]) // GROUP_TOKENS
            place = max(last, place) + 1
            if place < len(out):
                out[place] = self.pieces[word]
        return out


class SaidPieces:
    """Lays texts along their recordings; what was found for a recording is kept.

    Args:
        tokenizer: of the checkpoint.
        sounds: how the words of the texts sound.
    """

    def __init__(self, tokenizer: TextTokenizer, sounds: Pronunciations) -> None:
        self._tokenizer, self._sounds = tokenizer, sounds
        self._found: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}

    def line(self, clip: Clip, rendition: Rendition) -> Line:
        """A rendition with what each of its codes says."""
        by_phone, pieces = self._of(clip)
        groups = len(rendition.values) // GROUP_TOKENS
        moments_s = (np.arange(groups)[:, None] * _GROUP_S + _MOMENTS_S).ravel() * rendition.speed + rendition.begin_s
        phones = np.searchsorted(clip.ends_s, np.maximum(moments_s, 0.0), side="right")
        return Line(clip.recording.text, rendition.values, by_phone[np.minimum(phones, len(clip.labels))], pieces)

    def _of(self, clip: Clip) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Word of each phone and of what follows them, and the piece of each word."""
        identity, text = clip.recording.identity, clip.recording.text
        if identity not in self._found:
            words = words_said(text, [LABELS[label] for label in clip.labels], self._sounds)
            pieces = np.array(pieces_of_words(self._tokenizer, text), np.int64)
            self._found[identity] = np.append(words, NO_WORD), pieces
        return self._found[identity]


def pieces_of_words(tokenizer: TextTokenizer, text: str) -> list[int]:
    """Id of the piece of each of `words_in(text)`; `NO_HINT` for a word of several pieces."""
    found: list[int] = []
    words, spelled = words_in(text), ""
    for token in tokenizer.encode_text(text):
        piece = tokenizer.decode([token]).strip()
        if len(found) == len(words) or not piece or not (spelled or words[len(found)].startswith(piece)):
            continue
        spelled += piece
        if spelled == words[len(found)]:
            found.append(token if spelled == piece else NO_HINT)
            spelled = ""
    return found + [NO_HINT] * (len(words) - len(found))
