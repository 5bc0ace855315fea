"""The same conversation as a LiveKit agent session: plugins for recognition, model and speech, its own Silero.

Plugins are subclasses of the framework's own bases; voice activity is the network that comes with it, and turns end by
it. Audio goes in and out of the session's own `input.audio` and `output.audio`, so there is no room, no server and no
WebRTC; a sink plays at the pace of a sound card. Drawing up replies ahead of the end of a turn is off, as in all.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from livekit import rtc
from livekit.agents import Agent, AgentSession, inference, llm, stt, tts, vad
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, APIConnectOptions
from livekit.agents.voice import io

from benchmarks.peers.scene import (
    FRAME_MS,
    INPUT_RATE_HZ,
    MIN_SPEECH_MS,
    REPLY_RATE_HZ,
    SILENCE_MS,
    SPEECH_RATE_HZ,
    USER_WORDS,
    VAD_STOP_MS,
    VAD_THRESHOLD,
    WINDOW_BYTES,
    Journal,
    Talker,
)

AHEAD_S: Final = 0.2
"""Audio that the sink takes before it has to wait: as much as the framework's own one for rooms."""


class Recognition(stt.STT):
    """Takes the audio and has the words when it is told to."""

    def __init__(self) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=False))
        self.due: asyncio.Queue[None] = asyncio.Queue()

    async def _recognize_impl(self, *args: Any, **kwargs: Any) -> stt.SpeechEvent:
        raise NotImplementedError

    def stream(
        self, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS, **kwargs: Any
    ) -> stt.RecognizeStream:
        """See the base."""
        return RecognitionStream(self, conn_options)


class RecognitionStream(stt.RecognizeStream):
    """One stream of it."""

    def __init__(self, recognition: Recognition, conn_options: APIConnectOptions) -> None:
        super().__init__(stt=recognition, conn_options=conn_options, sample_rate=INPUT_RATE_HZ)
        self._due = recognition.due

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(self._tell())
            async for _ in self._input_ch:
                pass
            telling.cancel()

    async def _tell(self) -> None:
        while True:
            await self._due.get()
            said = stt.SpeechData(language="en", text=USER_WORDS, confidence=1.0)
            self._event_ch.send_nowait(stt.SpeechEvent(type=stt.SpeechEventType.FINAL_TRANSCRIPT, alternatives=[said]))


class Model(llm.LLM):
    """The stub of the language model."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self.journal = journal

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        **kwargs: Any,
    ) -> llm.LLMStream:
        """See the base."""
        return ModelStream(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class ModelStream(llm.LLMStream):
    """One answer."""

    async def _run(self) -> None:
        async for word in self._llm.journal.words():
            delta = llm.ChoiceDelta(role="assistant", content=word)
            self._event_ch.send_nowait(llm.ChatChunk(id="answer", delta=delta))


class Speech(tts.TTS):
    """The stub of speech, fed with text as it comes."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(capabilities=tts.TTSCapabilities(streaming=True), sample_rate=SPEECH_RATE_HZ, num_channels=1)
        self.journal = journal

    def synthesize(self, text: str, **kwargs: Any) -> tts.ChunkedStream:
        """See the base."""
        raise NotImplementedError

    def stream(self, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS) -> tts.SynthesizeStream:
        """See the base."""
        return SpeechStream(tts=self, conn_options=conn_options)


class SpeechStream(tts.SynthesizeStream):
    """One reply: what was said is spoken when its text is complete."""

    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        output_emitter.initialize(
            request_id="speech",
            sample_rate=SPEECH_RATE_HZ,
            num_channels=1,
            mime_type="audio/pcm",
            frame_size_ms=FRAME_MS,
            stream=True,
        )
        output_emitter.start_segment(segment_id="reply")
        text = ""
        async for part in self._input_ch:
            if isinstance(part, str):
                text += part
                continue
            self._mark_started()
            async for piece in self._tts.journal.pieces(text):
                output_emitter.push(piece)
            text = ""
        output_emitter.end_segment()


class Ear(io.AudioInput):
    """Where the user's frames come in."""

    def __init__(self) -> None:
        super().__init__(label="driver")
        self.frames: asyncio.Queue[rtc.AudioFrame] = asyncio.Queue(50)

    async def __anext__(self) -> rtc.AudioFrame:
        return await self.frames.get()


class Mouth(io.AudioOutput):
    """Where the agent's frames go out: it takes them a little ahead, and says when they have sounded."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(
            label="driver", capabilities=io.AudioOutputCapabilities(pause=False), sample_rate=REPLY_RATE_HZ
        )
        self._journal = journal
        self._end_s = 0.0
        self._played_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """See the base."""
        await super().capture_frame(frame)
        self._journal.heard(2 * frame.samples_per_channel)
        now_s = time.monotonic()
        if not self._played_s:
            self.on_playback_started(created_at=time.time())
        self._played_s += frame.duration
        self._end_s = max(self._end_s, now_s) + frame.duration
        if self._end_s - now_s > AHEAD_S:
            await asyncio.sleep(self._end_s - now_s - AHEAD_S)

    def flush(self) -> None:
        """See the base."""
        super().flush()
        if self._played_s:
            left_s = max(0.0, self._end_s - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(left_s, self._finish, False)

    def clear_buffer(self) -> None:
        """See the base."""
        if self._timer is not None:
            self._timer.cancel()
        if self._played_s:
            self._finish(True)

    def _finish(self, interrupted: bool) -> None:
        played_s, self._played_s, self._timer = self._played_s, 0.0, None
        self.on_playback_finished(playback_position=played_s, interrupted=interrupted)


class Deaf(vad.VAD):
    """Hears speech in nothing, at no cost of its own."""

    def __init__(self) -> None:
        super().__init__(capabilities=vad.VADCapabilities(update_interval=0.032))

    def stream(self) -> vad.VADStream:
        """See the base."""
        return DeafStream(self)


class DeafStream(vad.VADStream):
    """One stream of it."""

    async def _main_task(self) -> None:
        async for _ in self._input_ch:
            pass


def silero() -> vad.VAD:
    """The network that comes with the framework; a pause is what it is in all."""
    return inference.VAD(
        min_speech_duration=MIN_SPEECH_MS / 1000,
        min_silence_duration=VAD_STOP_MS / 1000,
        activation_threshold=VAD_THRESHOLD,
        deactivation_threshold=VAD_THRESHOLD,
    )


async def judge(audio: bytes) -> Sequence[float]:
    """By the network that serves."""
    stream = silero().stream()
    for begin in range(0, len(audio) - WINDOW_BYTES + 1, WINDOW_BYTES):
        stream.push_frame(rtc.AudioFrame(audio[begin : begin + WINDOW_BYTES], INPUT_RATE_HZ, 1, WINDOW_BYTES // 2))
    stream.end_input()
    return [event.probability async for event in stream if event.type is vad.VADEventType.INFERENCE_DONE]


class Conversation:
    """One agent session."""

    def __init__(self, journal: Journal, *, deaf: bool) -> None:
        self._ear = Ear()
        self._recognition = Recognition()
        self.session: AgentSession[None] = AgentSession(
            stt=self._recognition,
            vad=Deaf() if deaf else silero(),
            llm=Model(journal),
            tts=Speech(journal),
            turn_handling={
                "turn_detection": "vad",
                "endpointing": {"mode": "fixed", "min_delay": SILENCE_MS / 1000, "max_delay": SILENCE_MS / 1000},
                "interruption": {"mode": "vad", "resume_false_interruption": False},
                "preemptive_generation": {"enabled": False},
            },
            aec_warmup_duration=None,
        )
        self.session.input.audio = self._ear
        self.session.output.audio = Mouth(journal)

    async def push(self, frame: bytes) -> None:
        """See the protocol."""
        await self._ear.frames.put(rtc.AudioFrame(frame, INPUT_RATE_HZ, 1, len(frame) // 2))

    async def words_known(self) -> None:
        """See the protocol."""
        self._recognition.due.put_nowait(None)

    async def say(self, text: str) -> None:
        """See the protocol."""
        self.session.say(text)


@asynccontextmanager
async def conversations(journals: Sequence[Journal], *, deaf: bool) -> AsyncIterator[Sequence[Talker]]:
    """One for each journal."""
    logging.getLogger("livekit").setLevel(logging.WARNING)
    talkers = [Conversation(journal, deaf=deaf) for journal in journals]
    for talker in talkers:
        await talker.session.start(Agent(instructions=""))
    yield talkers
    for talker in talkers:
        await talker.session.aclose()
