"""Bringing a generated speech stream back to whole groups of two linguistic and three semantic tokens, as it arrives.

A speech model now and then drops or repeats a token; from there on the vocoder, which knows only positions, hears
garble. A codec value says by itself which codebook it belongs to, so a slip is seen at once and mended so that the
rhythm of 120 ms a group is kept:

    expected   L L S S S          found                      mended by
    a semantic token before the first linguistic one         leaving it out       (spurious, often at the very start)
    a semantic token after one linguistic token              saying that linguistic token twice
    a third linguistic token                                 leaving it out
    a linguistic token after one or two semantic ones        saying the last semantic token once or twice more

A stream that needs too much of this is not speech: see `MAX_FREE_FAULTS` and `MAX_FAULT_SHARE`. The released code does
not look: what is not 2:3 is played as it is, and text ids are clamped to 0.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from services.shared.codec import CODEC_SIZE, GROUP_LINGUISTIC, GROUP_TOKENS, SEMANTIC_OFFSET
from services.shared.errors import MisalignedSpeechError, TextInSpeechError

MAX_FREE_FAULTS: Final = 5
MAX_FAULT_SHARE: Final = 0.1
"""Beyond repair: more faults (tokens left out or repeated) than 5 plus a tenth of the tokens seen so far. A correct
stream has none; a stream of arbitrary codec values has a fault in every other token."""


@dataclass(frozen=True, slots=True)
class Repairs:
    """What was done to a stream so far, in tokens.

    Attributes:
        seen: tokens that came from the model.
        spurious_semantic: semantic tokens left out because no group was open.
        extra_linguistic: linguistic tokens left out because the group had its two.
        repeated: tokens said again to fill a group.
        unfinished: tokens left out at the end because their group never became whole.
    """

    seen: int = 0
    spurious_semantic: int = 0
    extra_linguistic: int = 0
    repeated: int = 0
    unfinished: int = 0

    @property
    def faults(self) -> int:
        """Tokens left out or repeated, without those of the last group."""
        return self.spurious_semantic + self.extra_linguistic + self.repeated


class SpeechAligner:
    """Turns one stream of generated ids into whole groups of codec values; use a new one for each stream.

    Args:
        audio_offset: id of `<audio_0>` in the checkpoint's text tokenizer.
    """

    def __init__(self, audio_offset: int) -> None:
        self._audio_offset = audio_offset
        self._group: list[int] = []
        self._groups: list[list[int]] = []
        self._seen = 0
        self._spurious = 0
        self._extra = 0
        self._repeated = 0
        self._unfinished = 0

    @property
    def repairs(self) -> Repairs:
        """What was done so far."""
        return Repairs(
            seen=self._seen,
            spurious_semantic=self._spurious,
            extra_linguistic=self._extra,
            repeated=self._repeated,
            unfinished=self._unfinished,
        )

    def push(self, ids: Iterable[int]) -> list[list[int]]:
        """Take the next ids of the stream.

        Returns:
            The groups that became whole, five codec values each, in order.

        Raises:
            TextInSpeechError: an id is no speech id.
            MisalignedSpeechError: the stream is beyond repair.
        """
        for token_id in ids:
            self._take(self._value(token_id))
        whole, self._groups = self._groups, []
        return whole

    def finish(self) -> None:
        """End the stream: the tokens of a group that never became whole are left out."""
        self._unfinished += len(self._group)
        self._group = []

    def _value(self, token_id: int) -> int:
        value = token_id - self._audio_offset
        if not 0 <= value < CODEC_SIZE:
            raise TextInSpeechError(
                f"id {token_id} after {self._seen} speech tokens is not speech "
                f"({self._audio_offset}..{self._audio_offset + CODEC_SIZE - 1}); another seed may do better"
            )
        return value

    def _take(self, value: int) -> None:
        self._seen += 1
        filled = len(self._group)
        if value < SEMANTIC_OFFSET:
            self._take_linguistic(value, filled)
        elif filled == 0:
            self._spurious += 1
        else:
            self._repeat(max(0, GROUP_LINGUISTIC - filled))
            self._group.append(value)
        self._close_whole_group()
        faults = self.repairs.faults
        if faults > MAX_FREE_FAULTS + MAX_FAULT_SHARE * self._seen:
            raise MisalignedSpeechError(
                f"{faults} of {self._seen} speech tokens do not fit the pattern of 2 linguistic, 3 semantic; "
                "another seed may do better"
            )

    def _take_linguistic(self, value: int, filled: int) -> None:
        if filled < GROUP_LINGUISTIC:
            self._group.append(value)
        elif filled == GROUP_LINGUISTIC:
            self._extra += 1
        else:
            self._repeat(GROUP_TOKENS - filled)
            self._close_whole_group()
            self._group.append(value)

    def _repeat(self, count: int) -> None:
        self._group.extend([self._group[-1]] * count)
        self._repeated += count

    def _close_whole_group(self) -> None:
        if len(self._group) == GROUP_TOKENS:
            self._groups.append(self._group)
            self._group = []
