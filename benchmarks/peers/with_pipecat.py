"""The same conversation as a pipecat pipeline: transport, recognition, user, model, speech, transport, assistant.

Services are subclasses of the framework's own bases; voice activity is its Silero analyser in the user's aggregator,
and turns end by its `SpeechTimeoutUserTurnStopStrategy`. The transport is its base with nothing behind it: bare frames
go in and out, at the pace of a sound card.
"""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADAnalyzer, VADParams
from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    OutputAudioRawFrame,
    StartFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair, LLMUserAggregatorParams
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import LLMSettings, STTSettings, TTSSettings
from pipecat.services.stt_service import STTService
from pipecat.services.tts_service import TTSService
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.utils.time import time_now_iso8601
from pipecat.workers.runner import WorkerRunner

from benchmarks.peers.scene import (
    FRAME_MS,
    FRAME_S,
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


class Recognition(STTService):
    """Takes the audio and has the words when it is told to."""

    def __init__(self) -> None:
        super().__init__(ttfs_p99_latency=0.0, settings=STTSettings(model=None, language=None))

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        """See the base."""
        yield None

    async def words_known(self) -> None:
        """The words of the turn, once and for all."""
        await self.push_frame(TranscriptionFrame(USER_WORDS, "", time_now_iso8601(), finalized=True))


class Model(LLMService[Any]):
    """The stub of the language model."""

    def __init__(self, journal: Journal) -> None:
        names = ("model", "system_instruction", "temperature", "max_tokens", "top_p", "top_k", "frequency_penalty")
        more = ("presence_penalty", "seed", "filter_incomplete_user_turns", "user_turn_completion_config")
        super().__init__(settings=LLMSettings(**dict.fromkeys((*names, *more))))
        self._journal = journal

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Answer a context."""
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        await self.push_frame(LLMFullResponseStartFrame())
        async for word in self._journal.words():
            await self._push_llm_text(word)
        await self.push_frame(LLMFullResponseEndFrame())


class Speech(TTSService):
    """The stub of speech."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(
            push_start_frame=True,
            push_stop_frames=True,
            sample_rate=SPEECH_RATE_HZ,
            settings=TTSSettings(model=None, voice=None, language=None),
        )
        self._journal = journal

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        """See the base."""
        async for piece in self._journal.pieces(text):
            yield TTSAudioRawFrame(piece, SPEECH_RATE_HZ, 1, context_id=context_id)


class Ear(BaseInputTransport):
    """Where the user's frames come in."""

    async def start(self, frame: StartFrame) -> None:
        """See the base."""
        await super().start(frame)
        await self.set_transport_ready(frame)


class Mouth(BaseOutputTransport):
    """Where the agent's frames go out, each as long as it sounds."""

    def __init__(self, params: TransportParams, journal: Journal) -> None:
        super().__init__(params)
        self._journal = journal
        self._next_s = 0.0

    async def start(self, frame: StartFrame) -> None:
        """See the base."""
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """See the base: it is asked to block like a device."""
        if isinstance(frame, TTSAudioRawFrame):
            self._journal.heard(len(frame.audio))
        now_s = time.monotonic()
        self._next_s = max(self._next_s, now_s) + FRAME_S
        await asyncio.sleep(self._next_s - FRAME_S - now_s)
        return True


class Conversation:
    """One pipeline and its worker."""

    def __init__(self, journal: Journal, *, deaf: bool) -> None:
        params = TransportParams(
            audio_in_enabled=True,
            audio_in_sample_rate=INPUT_RATE_HZ,
            audio_out_enabled=True,
            audio_out_sample_rate=REPLY_RATE_HZ,
            audio_out_10ms_chunks=FRAME_MS // 10,
        )
        self._ear = Ear(params)
        self._recognition = Recognition()
        aggregators = LLMContextAggregatorPair(LLMContext(), user_params=listening(deaf=deaf))
        stages = [
            self._ear,
            self._recognition,
            aggregators.user(),
            Model(journal),
            Speech(journal),
            Mouth(params, journal),
            aggregators.assistant(),
        ]
        rates = PipelineParams(audio_in_sample_rate=INPUT_RATE_HZ, audio_out_sample_rate=REPLY_RATE_HZ)
        self.ready = asyncio.Event()
        self.worker = PipelineWorker(Pipeline(stages), params=rates, enable_rtvi=False)
        self.worker.add_event_handler("on_pipeline_started", self._begun)

    async def _begun(self, worker: PipelineWorker, frame: StartFrame) -> None:
        self.ready.set()

    async def push(self, frame: bytes) -> None:
        """See the protocol."""
        await self._ear.push_audio_frame(InputAudioRawFrame(frame, INPUT_RATE_HZ, 1))

    async def words_known(self) -> None:
        """See the protocol."""
        await self._recognition.words_known()

    async def say(self, text: str) -> None:
        """See the protocol."""
        await self.worker.queue_frame(TTSSpeakFrame(text))


class Deaf(VADAnalyzer):
    """Hears speech in nothing, at no cost of its own."""

    def num_frames_required(self) -> int:
        """See the base."""
        return WINDOW_BYTES // 2

    def voice_confidence(self, buffer: bytes) -> float:
        """See the base."""
        return 0.0


async def judge(audio: bytes) -> Sequence[float]:
    """By the analyser that serves."""
    analyser = SileroVADAnalyzer()
    analyser.set_sample_rate(INPUT_RATE_HZ)
    windows = (audio[begin : begin + WINDOW_BYTES] for begin in range(0, len(audio) - WINDOW_BYTES + 1, WINDOW_BYTES))
    return [float(np.ravel(analyser.voice_confidence(window))[0]) for window in windows]


def listening(*, deaf: bool) -> LLMUserAggregatorParams:
    """The turn taking that all have here."""
    vad = VADParams(
        confidence=VAD_THRESHOLD, start_secs=MIN_SPEECH_MS / 1000, stop_secs=VAD_STOP_MS / 1000, min_volume=0.0
    )
    stop = SpeechTimeoutUserTurnStopStrategy(user_speech_timeout=(SILENCE_MS - VAD_STOP_MS) / 1000)
    analyser = Deaf(params=vad) if deaf else SileroVADAnalyzer(params=vad)
    return LLMUserAggregatorParams(vad_analyzer=analyser, user_turn_strategies=UserTurnStrategies(stop=[stop]))


@asynccontextmanager
async def conversations(journals: Sequence[Journal], *, deaf: bool) -> AsyncIterator[Sequence[Talker]]:
    """One for each journal."""
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    talkers = [Conversation(journal, deaf=deaf) for journal in journals]
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(*(talker.worker for talker in talkers))
    running = asyncio.create_task(runner.run())
    await asyncio.gather(*(talker.ready.wait() for talker in talkers))
    yield talkers
    await runner.cancel()
    await running
