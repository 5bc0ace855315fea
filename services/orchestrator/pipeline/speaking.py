"""Clauses to samples: the speech model speaks clause n + 1 while the vocoder voices clause n.

As the offline pipeline does it, each clause is one vocoder stream of its own with the reply's seed, and speech that
went wrong is made again with the next seed. Unlike there, speech that was voiced already cannot be made again: if the
model slips after all words must have been said (a loop, as a rule) the clause ends there, else the reply fails.
"""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing, closing
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from services.orchestrator.conversation.options import VoiceOptions
from services.orchestrator.conversation.record import RoomName
from services.orchestrator.pipeline.channel import Channel
from services.orchestrator.pipeline.clause_voices import ClauseVoices
from services.orchestrator.pipeline.gate import Gate
from services.orchestrator.pipeline.limits import ReplyLimits
from services.orchestrator.pipeline.made import AudioPiece, Made, Start
from services.orchestrator.pipeline.meter import Meter
from services.orchestrator.pipeline.pacing import Pacing
from services.orchestrator.pipeline.speech_door import Clause, SpeechChunk, SpeechDoor
from services.orchestrator.pipeline.watch import Watch
from services.orchestrator.ports.rooms import PreparedVoice, Rooms, Samples, SpeechStream, Work
from services.shared.audio.effects import SpeedChanger, change_volume
from services.shared.codec import GROUP_MS, GROUP_TOKENS
from services.shared.errors import DeadlineExceededError, GenerationError

_SEEDS: Final = 2**63
"""Seeds are whole numbers below this; after the largest comes 0."""


class Shaping:
    """Speed and volume of one reply, as its samples come; the whole reply is one stream, as offline.

    Args:
        options: of the voice.
        sample_rate_hz: of the samples.
    """

    def __init__(self, options: VoiceOptions, sample_rate_hz: int) -> None:
        self._volume = options.volume
        self._speed = None if options.speed == 1.0 else SpeedChanger(sample_rate_hz, options.speed)

    async def push(self, samples: Samples, *, is_final: bool = False) -> Samples:
        """Shape the next samples; the search for a speed's seams runs beside the event loop."""
        if self._speed is not None:
            samples = await asyncio.to_thread(self._speed.push, samples, final=is_final)
        return samples if self._volume == 1.0 or not len(samples) else change_volume(samples, self._volume)


@dataclass(frozen=True, slots=True)
class Manner:
    """How a reply is spoken, and from where on.

    Attributes:
        options: of the voice.
        seed: of everything random in the speech.
        first_sample, first_character: positions at which its audio and its text begin.
        start: where it is taken up, if it was stopped.
        made: takes what is made of it.
    """

    options: VoiceOptions
    seed: int
    first_sample: int = 0
    first_character: int = 0
    start: Start = Start()  # noqa: RUF009 - it never changes
    made: Made = field(default_factory=Made)


class Speaking:
    """The two stages of one reply.

    Args:
        rooms: where the models are.
        work: what every request carries.
        manner: how it is spoken.
        limits: bounds of the doors.
        meter: measures the rooms.
        door: between the two stages.
        gate: holds a reply back that is prepared ahead.
        pacing: how soon each piece is needed.

    Attributes:
        skipped_characters: of the reply's text that are spoken before the sample from which on it is reported.
    """

    def __init__(
        self,
        rooms: Rooms,
        work: Work,
        manner: Manner,
        *,
        limits: ReplyLimits,
        meter: Meter,
        door: SpeechDoor,
        gate: Gate,
        pacing: Pacing,
    ) -> None:
        self._rooms = rooms
        self._work = work
        self._speed = manner.options.speed
        self._shaping = Shaping(manner.options, rooms.vocoder.sample_rate_hz)
        self._seed = manner.seed
        self._limits = limits
        self._meter = meter
        self._door = door
        self.skipped_characters = 0
        self._gate = gate
        self._pacing = pacing
        self._first_sample = manner.first_sample
        self._first_character = manner.first_character
        self._start = manner.start
        self._made = manner.made
        self._position = max(manner.first_sample, manner.start.clause_sample)
        self._spoken_characters = manner.first_character

    async def speak(self, clauses: Channel[Clause], voices: ClauseVoices) -> None:
        """Speak clauses until there are no more.

        Raises:
            GenerationError: a clause failed with every seed, or half-way.
            VoiceNotFoundError: a clause is to be sung, and the speaker does not sing.
            StepAudioError: as the speech model raises.
        """
        spoken = 0
        async for clause in clauses:
            spoken += 1
            if spoken <= self._start.clauses:
                continue
            await self._gate.after(self._meter.speech_tokens / GROUP_TOKENS * GROUP_MS)
            self._door.begin(clause)
            await self._speak_clause(clause, await voices.of(clause.text))
        self._door.close()

    async def voice(self, audio: Channel[AudioPiece], voices: ClauseVoices) -> None:
        """Voice what is spoken until there is no more. Raises StepAudioError as the vocoder does."""
        while (clause := await self._door.next_clause()) is not None:
            voice = await voices.of(clause.text)
            stream = self._rooms.vocoder.open(voice, seed=self._seed, work=self._work)
            await self._voice_clause(clause, stream, audio)
        for piece in self._cut(await self._shaping.push(np.zeros(0, np.float32), is_final=True)):
            await self._send(piece, 0, audio)
        audio.close()

    async def _speak_clause(self, clause: Clause, voice: PreparedVoice) -> None:
        failure: GenerationError | None = None
        for attempt in range(self._limits.speech_attempts):
            try:
                await self._attempt(clause, voice, (self._seed + attempt) % _SEEDS)
            except GenerationError as error:
                failure = error
                gone_s = self._door.take_back()
                if gone_s >= clause.estimate_s:
                    break
                if gone_s:
                    raise
            else:
                break
        else:
            raise GenerationError(
                f"no speech with {self._limits.speech_attempts} seeds; the last one gave: {failure}"
            ) from failure
        self._door.complete()

    async def _attempt(self, clause: Clause, voice: PreparedVoice, seed: int) -> None:
        with self._meter.request(RoomName.TTS) as request, closing(Watch(self._limits.room_silence_s)) as watch:
            work = replace(self._work, slack_ms=self._pacing.slack_ms(self._door.held_ms))
            async with aclosing(self._rooms.speech.speak(clause.text, voice, seed=seed, work=work)) as answer:
                while True:
                    try:
                        with watch:
                            groups = await anext(answer)
                    except StopAsyncIteration:
                        return
                    except TimeoutError as error:
                        raise _silent("speech model", self._limits) from error
                    request.output()
                    self._meter.speech_tokens += len(groups)
                    await self._door.put(groups)

    async def _voice_clause(self, clause: Clause, stream: SpeechStream, audio: Channel[AudioPiece]) -> None:
        made = 0
        is_last = False
        while not is_last:
            await self._gate.after((self._position - self._first_sample) * 1000 / self._rooms.vocoder.sample_rate_hz)
            chunk = await self._door.take()
            is_last = chunk.is_last
            if chunk.tokens:
                self._meter.mark(3)
            samples = await self._shaping.push(await self._push(stream, chunk))
            end = made + len(samples)
            for piece in self._cut(samples):
                made += len(piece)
                await self._send(piece, self._characters(clause, made, chunk, ends=is_last and made == end), audio)
        if self._speed == 1.0:
            self._made.clause_ends.append(self._position)

    def _cut(self, samples: Samples) -> Iterator[Samples]:
        """In pieces of the length in which audio is handed on."""
        length = self._rooms.vocoder.sample_rate_hz * self._limits.release_ms // 1000
        return (samples[start : start + length] for start in range(0, len(samples), length))

    async def _push(self, stream: SpeechStream, chunk: SpeechChunk) -> Samples:
        with self._meter.request(RoomName.VOCODER) as request:
            try:
                async with asyncio.timeout(self._limits.room_silence_s):
                    samples = await stream.push(chunk.tokens, last=chunk.is_last, haste=self._pacing.haste())
            except TimeoutError as error:
                raise _silent("vocoder", self._limits) from error
            if len(samples):
                request.output()
                self._pacing.came(len(samples) * 1000 / self._rooms.vocoder.sample_rate_hz)
            return samples

    async def _send(self, samples: Samples, spoken_characters: int, audio: Channel[AudioPiece]) -> None:
        first, self._position = self._position, self._position + len(samples)
        self._spoken_characters = max(self._spoken_characters, self._first_character + spoken_characters)
        marks = None
        if first == self._first_sample:
            self._meter.mark(4)
            marks = self._meter.marks()
        piece = AudioPiece(first, self._position, self._spoken_characters, samples, marks).after(self._start.sample)
        if piece is None:
            self.skipped_characters = self._spoken_characters
        else:
            self._made.keep(piece)
            await audio.put(piece, len(piece.samples) / self._rooms.vocoder.sample_rate_hz * 1000)

    def _characters(self, clause: Clause, made: int, chunk: SpeechChunk, *, ends: bool) -> int:
        """Characters of the reply that are spoken after so many samples of a clause, whose whole length is a guess."""
        if ends:
            return clause.end_character
        whole_s = chunk.clause_s if chunk.is_complete else max(chunk.clause_s, clause.estimate_s)
        share = min(made * self._speed / self._rooms.vocoder.sample_rate_hz / whole_s, 1.0) if whole_s else 1.0
        return clause.start_character + int(share * (clause.end_character - clause.start_character))


def _silent(room: str, limits: ReplyLimits) -> DeadlineExceededError:
    return DeadlineExceededError(f"the {room} gave nothing for {limits.room_silence_s:g} s")
