"""Speech written down as it arrives, utterance by utterance, outside any conversation.

    audio       ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒                ▒▒▒▒▒▒▒
    frames      judged ─► speech_started        ─► speech_started
    tokenizer   ├─ push ─┼─ push ─┤ finish      ├─ push …
    lm                    ► so far ► transcript
                          ↑     ↑ `silence_ms` after the last speech: speech_stopped
                          `partial_after_ms` after it, once in a pause

One thing happens at a time: while an utterance is written down no audio is read, so that a client which sends a file
faster than it can be heard is held back by the transport and nothing piles up here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import numpy as np

from protos.gen.stepaudio.v1 import speech_pb2
from services.orchestrator.conversation.events import VoiceFrame
from services.orchestrator.conversation.options import VoiceActivityOptions
from services.orchestrator.conversation.voice_activity import Ears, hear
from services.orchestrator.ports.hearing import FRAME_SAMPLES, VoiceActivity
from services.orchestrator.ports.rooms import Rooms, Samples, Utterance, Work
from services.shared.audio.positions import InputPositions

SAMPLES_PER_MS: Final = 16
MAX_UTTERANCE_MS: Final = 30_000
ROOM_S: Final = 30.0

Write = Callable[[speech_pb2.TranscribeResponse], Awaitable[None]]


class Dictation:
    """Writes down one stream.

    Args:
        rooms: where the models are.
        activity: judges the frames of this stream.
        options: of finding speech.
        silence_ms: that ends an utterance.
        partial_after_ms: of silence, the words so far are told; None tells no words before an utterance's end.
        positions: the client's samples.
        work: what the rooms are told.
        write: sends one part of the answer.
    """

    def __init__(
        self,
        rooms: Rooms,
        activity: VoiceActivity,
        *,
        options: VoiceActivityOptions,
        silence_ms: int,
        partial_after_ms: int | None,
        positions: InputPositions,
        work: Work,
        write: Write,
    ) -> None:
        self._rooms = rooms
        self._activity = activity
        self._options = options
        self._silence_samples = silence_ms * SAMPLES_PER_MS
        self._partial_after_samples = None if partial_after_ms is None else partial_after_ms * SAMPLES_PER_MS
        self._positions = positions
        self._work = work
        self._write = write
        self._ears = Ears()
        self._kept = np.zeros(0, np.float32)
        self._kept_from = 0
        self._utterance: Utterance | None = None
        self._first_sample = 0
        self._floor = 0

    async def hear(self, samples: Samples) -> None:
        """Take the next samples at 16 kHz. Raises StepAudioError as the rooms do."""
        self._kept = np.concatenate([self._kept, samples])
        while (whole := self._unjudged() // FRAME_SAMPLES * FRAME_SAMPLES) > 0:
            start = self._ears.end_sample - self._kept_from
            step = min(whole, FRAME_SAMPLES)
            async with asyncio.timeout(ROOM_S):
                probabilities = await self._activity.judge(self._kept[start : start + step])
            for probability in probabilities:
                await self._judged(probability)

    async def finish(self) -> None:
        """The audio has ended: so has the utterance under way."""
        if self._utterance is not None:
            await self._end(self._kept_from + len(self._kept))

    async def close(self) -> None:
        """Let go of everything, however it ended."""
        self._activity.close()
        if self._utterance is not None:
            await self._utterance.abandon()

    def _unjudged(self) -> int:
        return self._kept_from + len(self._kept) - self._ears.end_sample

    async def _judged(self, probability: float) -> None:
        frame = VoiceFrame(0.0, self._ears.end_sample + FRAME_SAMPLES, probability)
        speaking, silent_before = self._utterance is not None, self._ears.silent_samples
        self._ears = hear(self._ears, frame, self._options, speaking=speaking)
        if not speaking:
            if self._ears.speech_end == frame.end_sample and self._ears.run_first is not None:
                await self._begin(self._ears.run_first)
            else:
                pre_roll = (self._options.pre_roll_ms + self._options.min_speech_ms) * SAMPLES_PER_MS
                self._forget(max(self._kept_from, frame.end_sample - pre_roll - FRAME_SAMPLES))
            return
        await self._push(frame.end_sample)
        is_silent = self._ears.silent_samples >= self._silence_samples
        if is_silent or frame.end_sample - self._first_sample >= MAX_UTTERANCE_MS * SAMPLES_PER_MS:
            await self._end(self._ears.speech_end)
        elif self._pauses_since(silent_before):
            await self._tell_so_far()

    def _pauses_since(self, silent_before: int) -> bool:
        """Whether the newest frame made a silence long enough to tell the words before it."""
        after = self._partial_after_samples
        return after is not None and silent_before < after <= self._ears.silent_samples

    async def _begin(self, first_sample: int) -> None:
        self._first_sample = max(first_sample, self._floor)
        boundary = speech_pb2.SpeechBoundary(sample=self._positions.theirs(self._first_sample))
        await self._write(speech_pb2.TranscribeResponse(speech_started=boundary))
        self._utterance = self._rooms.tokenizer.listen(self._work)
        pre_roll = self._options.pre_roll_ms * SAMPLES_PER_MS
        self._forget(max(self._kept_from, self._floor, self._first_sample - pre_roll))
        await self._push(self._ears.end_sample)

    async def _push(self, end: int) -> None:
        """Give the tokenizer what is kept up to here."""
        assert self._utterance is not None
        async with asyncio.timeout(ROOM_S):
            await self._utterance.push(self._kept[: end - self._kept_from])
        self._forget(end)

    async def _tell_so_far(self) -> None:
        """The speaker pauses: tell the words before the pause, if there are any."""
        assert self._utterance is not None
        async with asyncio.timeout(ROOM_S):
            tokens = await self._utterance.peek()
        if text := await self._words(tokens):
            await self._tell(text, self._ears.speech_end, is_final=False)

    async def _end(self, end_sample: int) -> None:
        assert self._utterance is not None
        boundary = speech_pb2.SpeechBoundary(sample=self._positions.theirs(end_sample))
        await self._write(speech_pb2.TranscribeResponse(speech_stopped=boundary))
        rest = self._kept_from + len(self._kept)
        if end_sample >= rest > self._kept_from:
            await self._push(rest)
        async with asyncio.timeout(ROOM_S):
            tokens = await self._utterance.finish()
        self._utterance = None
        self._floor = self._ears.end_sample
        await self._tell(await self._words(tokens), end_sample, is_final=True)

    async def _words(self, tokens: Sequence[int]) -> str:
        if not tokens:
            return ""
        async with asyncio.timeout(ROOM_S):
            return await self._rooms.chat.transcribe(tokens, self._work)

    async def _tell(self, text: str, end_sample: int, *, is_final: bool) -> None:
        speech = speech_pb2.TranscribedSpeech(
            text=text,
            is_final=is_final,
            first_sample=self._positions.theirs(self._first_sample),
            end_sample=self._positions.theirs(end_sample),
        )
        await self._write(speech_pb2.TranscribeResponse(transcript=speech))

    def _forget(self, before: int) -> None:
        self._kept = self._kept[before - self._kept_from :]
        self._kept_from = before
