"""A text spoken outside any conversation: the pipeline's reply with words of its own, read as fast as it is made.

reply ─► pieces of audio ─► the client's chunks ─► written          at most `max_playout_lead_ms` wait unwritten
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from protos.gen.stepaudio.v1 import audio_pb2, speech_pb2
from services.orchestrator.conversation.effects import StartReply
from services.orchestrator.conversation.events import ReplyAudioMade, ReplyId, ReplyTakenUp, ReplyTextMade, ToolCallMade
from services.orchestrator.conversation.options import Options
from services.orchestrator.ingress.audio_out import AudioOutput, ReplyChunk
from services.orchestrator.ingress.records import milliseconds
from services.orchestrator.pipeline.limits import PipelineLimits
from services.orchestrator.pipeline.made import Made
from services.orchestrator.pipeline.meter import Meter
from services.orchestrator.pipeline.observer import Unobserved
from services.orchestrator.pipeline.replies import Reply, ReplyNeeds
from services.orchestrator.pipeline.utterances import SpokenUtterance
from services.orchestrator.ports.rooms import PreparedVoice, Rooms, Work
from services.shared.errors import InvalidInputError
from services.shared.prompt.speech.tags import leading_tags

Write = Callable[[speech_pb2.SynthesizeResponse], Awaitable[None]]
_REPLY = ReplyId(turn=1, epoch=1)


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be spoken.

    Attributes:
        text: with its style tags.
        options: of the voice.
        voice: that speaks.
        seed: of the speech.
        work: what the rooms are told.
        asked_s: when the request came, in monotonic seconds.
    """

    text: str
    options: Options
    voice: PreparedVoice
    seed: int
    work: Work
    asked_s: float


class Synthesis:
    """Speaks one text.

    Args:
        task: what is to be spoken.
        rooms: where the models are.
        audio: makes the client's chunks.
        limits: of the reply's doors.
        clock: monotonic seconds.
    """

    def __init__(
        self, task: Task, rooms: Rooms, audio: AudioOutput, *, limits: PipelineLimits, clock: Callable[[], float]
    ) -> None:
        self._task = task
        self._rate_hz = rooms.vocoder.sample_rate_hz
        self._audio = audio
        self._clock = clock
        self._meter = Meter(clock, Unobserved())
        self._pieces: deque[ReplyAudioMade] = deque()
        self._has_news = asyncio.Event()
        self._is_complete = False
        self._first_audio_s: float | None = None
        self._spoken_from = _spoken_from(task.text)
        needs = ReplyNeeds(
            rooms=rooms,
            find_voice=self._find_voice,
            utterance=_no_utterance,
            lead_s=self._unwritten_s,
            tell=self._take,
            clock=clock,
            limits=limits,
        )
        asked = StartReply(reply=_REPLY, context=(), words=task.text, options=task.options)
        self._reply = Reply(asked, needs, work=task.work, meter=self._meter, seed=task.seed, made=Made())

    async def run(self, write: Write) -> None:
        """Speak, and write what becomes ready.

        Raises:
            StepAudioError: what a room raised, in a group.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._make())
            while (piece := await self._next()) is not None:
                characters = self._spoken_from + piece.spoken_characters if piece.spoken_characters else 0
                await self._write_chunks(self._audio.push(piece.samples, characters), write)  # type: ignore[arg-type]  # the core passes samples on as objects
        await self._write_chunks(self._audio.flush(), write)
        first_audio_s = self._task.asked_s if self._first_audio_s is None else self._first_audio_s
        finished = speech_pb2.SynthesisFinished(
            total_samples=self._audio.end_sample,
            time_to_first_audio_ms=milliseconds(first_audio_s - self._task.asked_s),
            speech_tokens=self._meter.speech_tokens,
        )
        await write(speech_pb2.SynthesizeResponse(finished=finished))

    async def _make(self) -> None:
        await self._reply.run()
        self._is_complete = True
        self._has_news.set()

    async def _next(self) -> ReplyAudioMade | None:
        while not self._pieces:
            if self._is_complete:
                return None
            self._has_news.clear()
            await self._has_news.wait()
        return self._pieces.popleft()

    async def _write_chunks(self, chunks: list[ReplyChunk], write: Write) -> None:
        for chunk in chunks:
            if self._first_audio_s is None:
                self._first_audio_s = self._clock()
            audio = audio_pb2.AudioChunk(data=chunk.data, first_sample=chunk.first_sample)
            spoken = speech_pb2.SynthesizedAudio(audio=audio, spoken_characters=chunk.spoken_characters)
            await write(speech_pb2.SynthesizeResponse(audio=spoken))

    async def _find_voice(self, voice_id: str) -> PreparedVoice:
        return self._task.voice

    def _unwritten_s(self) -> float:
        return sum(piece.end_sample - piece.first_sample for piece in self._pieces) / self._rate_hz

    def _take(self, event: ReplyTextMade | ReplyAudioMade | ReplyTakenUp | ToolCallMade) -> None:
        if isinstance(event, ReplyAudioMade):
            self._pieces.append(event)
            self._has_news.set()


def _spoken_from(text: str) -> int:
    """Where the words begin behind the style tags, which the reply does not count."""
    body = text.strip()
    words = body[len(leading_tags(body)) :].lstrip()
    return len(text.rstrip()) - len(words)


def _no_utterance(number: int) -> SpokenUtterance:
    raise InvalidInputError("a text to be spoken has no utterance")
