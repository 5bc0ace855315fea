"""This server's conversations without its wire: PCM16 in and out as the frameworks have it, Silero and stub rooms.

What is between the API's messages and the rooms runs as in a replica: decoding, voice activity, endpointing, the
pipeline, pacing, resampling from the vocoder's 22.05 kHz, chunks of 20 ms. `ours_api` adds the messages.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.scene import (
    FRAME_MS,
    INPUT_RATE_HZ,
    MIN_SPEECH_MS,
    PIECE_MS,
    REPLY_RATE_HZ,
    SILENCE_MS,
    VAD_STOP_MS,
    VAD_THRESHOLD,
    WINDOW_BYTES,
    Journal,
    Talker,
)
from protos.gen.stepaudio.v1 import audio_pb2, conversation_pb2
from services.orchestrator.adapters.silero import SileroDetector
from services.orchestrator.conversation import events
from services.orchestrator.conversation.options import (
    EndpointingOptions,
    GenerationOptions,
    Options,
    Tool,
    TurnTakingOptions,
    VoiceActivityOptions,
    VoiceOptions,
)
from services.orchestrator.conversation.outputs import Refused, ReplyAudio, ReplyStarted
from services.orchestrator.ingress.audio_in import AudioInput
from services.orchestrator.ingress.audio_out import AudioOutput
from services.orchestrator.ingress.formats import input_format, reply_format
from services.orchestrator.ingress.messages import Profile
from services.orchestrator.ingress.opening import Retention, read_start
from services.orchestrator.ingress.options import Offer
from services.orchestrator.pipeline.limits import PipelineLimits, ReplyLimits
from services.orchestrator.pipeline.observer import Unobserved
from services.orchestrator.pipeline.session import Stream
from services.orchestrator.pipeline.sessions import Sessions
from services.orchestrator.pipeline.surroundings import Surroundings
from services.orchestrator.pipeline.voices import VoiceBook
from services.orchestrator.ports.hearing import VoiceActivityDetector
from services.orchestrator.ports.rooms import (
    NO_HASTE,
    ChatMessage,
    Haste,
    PreparedVoice,
    Rooms,
    Samples,
    TextPiece,
    Work,
)
from services.shared.codec import GROUP_TOKENS
from tests.fakes.hearing import ScriptedDetector
from tests.fakes.rooms import (
    OUTPUT_RATE_HZ,
    FakeBuiltInVoices,
    FakeChatModel,
    FakeSpeechModel,
    FakeSpeechStream,
    FakeTokenizer,
    FakeVocoder,
    FakeVoiceMaker,
    group_of,
)
from tests.fakes.store import FakeSessionStore, FakeVoiceStore

TENANT: Final = "benchmark"
WAVE: Final = np.zeros(OUTPUT_RATE_HZ * PIECE_MS // 1000, np.float32)


class Chat(FakeChatModel):
    """The stub of the language model."""

    def __init__(self, journals: dict[str, Journal]) -> None:
        super().__init__()
        self._journals = journals

    async def reply(
        self,
        messages: Sequence[ChatMessage],
        options: GenerationOptions,
        work: Work,
        *,
        begun: str = "",
        tools: Sequence[Tool] = (),
    ) -> AsyncGenerator[TextPiece, None]:
        """See the port."""
        async for word in self._journals[work.session].words():
            yield TextPiece(word, 1)
        yield TextPiece("", 0, "stop")


class Speech(FakeSpeechModel):
    """The stub of speech: a group of tokens for each of its pieces."""

    def __init__(self, journals: dict[str, Journal]) -> None:
        super().__init__()
        self._journals = journals

    async def speak(
        self, clause: str, voice: PreparedVoice, *, seed: int, work: Work
    ) -> AsyncGenerator[tuple[int, ...], None]:
        """See the port."""
        async for _ in self._journals[work.session].pieces(clause):
            yield TOKENS


class Wave(FakeSpeechStream):
    """A piece for each group, at once: unlike the real vocoder it looks at nothing beyond."""

    async def push(self, tokens: Sequence[int], *, last: bool, haste: Haste = NO_HASTE) -> NDArray[np.float32]:
        """See the port."""
        return np.tile(WAVE, len(tokens) // GROUP_TOKENS)


class Vocoder(FakeVocoder):
    """Takes no time: that of speech is all in the stub of speech."""

    def open(self, voice: PreparedVoice, *, seed: int, work: Work) -> FakeSpeechStream:
        """See the port."""
        return Wave(self, work, seed=seed)


TOKENS: Final = group_of(1)


class Conversation:
    """One stream of a session."""

    def __init__(self, journal: Journal, stream: Stream) -> None:
        self._journal = journal
        self._stream = stream
        self._input = AudioInput(input_format(stream.formats), clock=time.monotonic, first_sample=0, replay_s=0.0)

    async def push(self, frame: bytes) -> None:
        """See the protocol."""
        heard = self._input.push(frame)
        self._stream.hear(heard.samples, heard.first_sample)

    async def words_known(self) -> None:
        """The language model hears for itself."""

    async def say(self, text: str) -> None:
        """See the protocol."""
        self._stream.tell(events.Say(time.monotonic(), "long", text, events.ReplyTiming.INTERRUPT))

    async def listen(self) -> None:
        """Take what is emitted until the conversation ends."""
        format_ = reply_format(self._stream.formats)
        audio = AudioOutput(format_, OUTPUT_RATE_HZ, chunk_ms=FRAME_MS)
        async for emitted in self._stream.events():
            match emitted.output:
                case ReplyStarted():
                    audio = AudioOutput(format_, OUTPUT_RATE_HZ, chunk_ms=FRAME_MS)
                case ReplyAudio(samples=samples, spoken_characters=characters):
                    for chunk in audio.push(cast(Samples, samples), characters):
                        self._journal.heard(len(chunk.data))
                case Refused(error=error):
                    raise error


async def judge(audio: bytes) -> Sequence[float]:
    """By the detector that serves."""
    samples = np.frombuffer(audio[: len(audio) // WINDOW_BYTES * WINDOW_BYTES], "<i2").astype(np.float32) / 32768
    silero = SileroDetector()
    try:
        return await silero.open().judge(samples)
    finally:
        silero.close()


@asynccontextmanager
async def conversations(journals: Sequence[Journal], *, deaf: bool) -> AsyncIterator[Sequence[Talker]]:
    """One for each journal."""
    async with opened(journals, deaf=deaf) as (streams, _, _):
        talkers = [Conversation(journal, stream) for journal, stream in zip(journals, streams, strict=True)]
        async with kept_running([talker.listen() for talker in talkers]):
            yield talkers


@asynccontextmanager
async def opened(
    journals: Sequence[Journal], *, deaf: bool
) -> AsyncIterator[tuple[Sequence[Stream], Surroundings, Profile]]:
    """A session for each journal, and what they live in."""
    by_session: dict[str, Journal] = {}
    async with AsyncExitStack() as stack:
        shared = surroundings(by_session, ScriptedDetector() if deaf else open_silero(stack))
        sessions = await stack.enter_async_context(Sessions(shared, owner="replica"))
        profile = profile_of(shared)
        streams = [await sessions.start(read_start(START, TENANT, profile.offer, Retention())) for _ in journals]
        by_session.update((stream.session_id, each) for stream, each in zip(streams, journals, strict=True))
        yield streams, shared, profile


@asynccontextmanager
async def kept_running(conversing: Sequence[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run what holds conversations while the block runs; what fails there, fails."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in conversing]
        yield
        for task in tasks:
            task.cancel()


def open_silero(stack: AsyncExitStack) -> VoiceActivityDetector:
    """One for all conversations, as in a replica."""
    silero = SileroDetector()
    stack.callback(silero.close)
    return silero


def surroundings(journals: dict[str, Journal], detector: VoiceActivityDetector) -> Surroundings:
    """What a replica gives its sessions, over the stubs."""
    built_in = FakeBuiltInVoices()
    rooms = Rooms(FakeTokenizer(), Chat(journals), Speech(journals), Vocoder(), FakeVoiceMaker(), built_in)
    return Surroundings(
        rooms=rooms,
        voices=VoiceBook(built_in, FakeVoiceStore(clock=time.time)),
        detector=detector,
        store=FakeSessionStore(clock=time.time),
        limits=PipelineLimits(reply=ReplyLimits(first_chunk_ms=PIECE_MS)),
        observer=Unobserved(),
        clock=time.monotonic,
        wall_clock=time.time,
        chance=random.Random(1),
        default_prompt="",
    )


def profile_of(shared: Surroundings) -> Profile:
    """The turn taking that all have here."""
    idle = EndpointingOptions(pause_ms=VAD_STOP_MS, complete_silence_ms=SILENCE_MS, max_silence_ms=2 * SILENCE_MS)
    options = Options(
        voice=VoiceOptions(voice_id=shared.rooms.built_in.default_name),
        generation=GenerationOptions(max_new_tokens=512, temperature=0.5, top_p=0.75, top_k=50),
        turn_taking=TurnTakingOptions(
            voice_activity=VoiceActivityOptions(threshold=VAD_THRESHOLD, min_speech_ms=MIN_SPEECH_MS),
            while_idle=idle,
            while_replying=idle,
        ),
    )
    return Profile(
        offer=Offer(context_tokens=4096, max_new_tokens=1024, defaults=options),
        native_rate_hz=OUTPUT_RATE_HZ,
        resume_window_ms=60_000,
        max_session_ms=3_600_000,
        max_utterance_ms=30_000,
        max_playout_lead_ms=shared.limits.reply.max_playout_lead_ms,
        max_idle_ms=60_000,
        server_version="benchmark",
    )


_PCM = audio_pb2.AUDIO_ENCODING_PCM16
START: Final = conversation_pb2.SessionStart(
    input_audio=audio_pb2.AudioFormat(encoding=_PCM, sample_rate_hz=INPUT_RATE_HZ),
    reply_audio=audio_pb2.AudioFormat(encoding=_PCM, sample_rate_hz=REPLY_RATE_HZ),
    reply_chunk_ms=FRAME_MS,
)
