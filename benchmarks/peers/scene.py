"""What is the same for everyone who is compared: audio, stub services, and what is noted of a turn.

    user       ▒▒▒▒▒▒▒▒▒▒──────────────────────────────
    noted      speech_end┊    asked┊            heard┊
                         ├ silence ┼─ words ─┬─ piece ┤          words and piece: the stubs' own time, taken off
                                   stub lm    stub tts

The stub of the language model gives one short sentence, a word at a time; that of speech gives pieces of 120 ms. Both
note how long they really took, so what is left of a turn is the framework's. The words of the user are known before the
turn ends, for all alike. Nothing here knows a framework, and nothing beyond the standard library is needed.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

INPUT_RATE_HZ: Final = 16_000
REPLY_RATE_HZ: Final = 24_000
FRAME_MS: Final = 20
FRAME_S: Final = FRAME_MS / 1000
INPUT_FRAME_BYTES: Final = 2 * INPUT_RATE_HZ * FRAME_MS // 1000
REPLY_FRAME_BYTES: Final = 2 * REPLY_RATE_HZ * FRAME_MS // 1000

WINDOW_BYTES: Final = 1024
"""What Silero judges at once: 32 ms."""
VAD_THRESHOLD: Final = 0.5
MIN_SPEECH_MS: Final = 96
VAD_STOP_MS: Final = 200
SILENCE_MS: Final = 800
"""Of silence ends a turn, in each: 200 of them are seen as a pause first, as pipecat has it."""

USER_WORDS: Final = "What sound does a sheep make?"
REPLY_WORDS: Final = ("The ", "sheep ", "says ", "baa.")
LONG_TEXT: Final = "All of this is spoken, one word after another. " * 20
LETTERS_PER_PIECE: Final = 2
PIECE_MS: Final = 120
SPEECH_RATE_HZ: Final = 22_050
"""Of the stub of speech, as of the real vocoder; what comes out is asked for at `REPLY_RATE_HZ`, so all resample."""
PIECE: Final = bytes(2 * SPEECH_RATE_HZ * PIECE_MS // 1000)
WORD_S: Final = 0.01
FIRST_PIECE_S: Final = 0.03
WORDS_KNOWN_MS: Final = 100
"""After the end of speech the stub of recognition has the words."""


@dataclass(slots=True)
class Turn:
    """One turn of a user, in seconds of `time.perf_counter`.

    Attributes:
        speech_end_s: the last frame that holds speech was given to the framework.
        asked_s: the language model was asked; 0 until then.
        heard_s: the first frame of the reply came out; 0 until then.
        busy: when the stubs worked on it.
    """

    speech_end_s: float
    asked_s: float = 0.0
    heard_s: float = 0.0
    busy: list[tuple[float, float]] = field(default_factory=list)


@dataclass(slots=True)
class Journal:
    """What is noted of one conversation.

    Attributes:
        pushed: frames that the framework took.
        reply_bytes: of audio that came out.
        turns: in order.
        pace_s: time of the stub of speech for each piece after the first.
    """

    pace_s: float
    pushed: int = 0
    reply_bytes: int = 0
    turns: list[Turn] = field(default_factory=list)

    def heard(self, size_bytes: int) -> None:
        """Audio came out of the framework."""
        self.reply_bytes += size_bytes
        if self.turns and self.turns[-1].asked_s and not self.turns[-1].heard_s:
            self.turns[-1].heard_s = time.perf_counter()

    def asked(self) -> None:
        """The language model is asked."""
        if self.turns and not self.turns[-1].asked_s:
            self.turns[-1].asked_s = time.perf_counter()

    @contextmanager
    def working(self) -> Iterator[None]:
        """A stub works."""
        begun_s = time.perf_counter()
        try:
            yield
        finally:
            if self.turns:
                self.turns[-1].busy.append((begun_s, time.perf_counter()))

    async def words(self) -> AsyncIterator[str]:
        """The stub of the language model."""
        self.asked()
        for word in REPLY_WORDS:
            with self.working():
                await asyncio.sleep(WORD_S)
            yield word

    async def pieces(self, text: str) -> AsyncIterator[bytes]:
        """The stub of speech: PCM16, as long as its text."""
        for place in range(-(-len(text) // LETTERS_PER_PIECE)):
            if place:
                await asyncio.sleep(self.pace_s)
            else:
                with self.working():
                    await asyncio.sleep(FIRST_PIECE_S)
            yield PIECE


class Talker(Protocol):
    """One conversation, as the driver holds it."""

    async def push(self, frame: bytes) -> None:
        """Give the next 20 ms of the user: PCM16 at 16 kHz."""

    async def words_known(self) -> None:
        """The recognition of speech, where there is one, has the words of this turn."""

    async def say(self, text: str) -> None:
        """Have the agent speak a text."""
