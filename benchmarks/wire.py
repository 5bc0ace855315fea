"""A spoken question to a running system, through its public API or room by room; what benchmarks of the whole share."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from benchmarks.processor import family_of, processor_s
from protos.gen.stepaudio.v1 import audio_pb2, conversation_pb2, metrics_pb2, options_pb2, turn_taking_pb2
from services.local.record import ORCHESTRATOR, RunRecord
from services.orchestrator.adapters.triton.checkpoint import Checkpoint
from services.orchestrator.adapters.triton.connect import RoomAddresses
from services.orchestrator.conversation.options import GenerationOptions
from services.orchestrator.conversation.record import Role
from services.orchestrator.ports.rooms import ChatMessage, PreparedVoice, Rooms, SpeechTokens, Work
from services.shared.errors import GenerationError
from services.shared.prompt.speech.clauses import split_clauses
from services.shared.triton.specs import POOLS, WAVE_RATE_HZ
from stepaudio.conversation import Conversation
from stepaudio.formats import Samples
from stepaudio.sources import paced, silence

HEARD_RATE_HZ, REPLY_RATE_HZ = 16_000, 24_000
SEED: Final = 7
TURN_TIMEOUT_S: Final = 90.0
MANUAL, SILENCE = turn_taking_pb2.ENDPOINTING_MODE_MANUAL, turn_taking_pb2.ENDPOINTING_MODE_SILENCE
PARTS: Final = ("endpointing", "tokenizer", "lm", "tts", "vocoder", "orchestrator")
_ATTEMPTS: Final = 5
_PCM_SCALE: Final = 32_768


@dataclass(frozen=True, slots=True)
class Wait:
    """One question answered.

    Attributes:
        text: of the reply.
        wall_s: from the end of speech to the first reply audio.
        processor_s: of all processes meanwhile.
        parts_s: where that time went, by part.
        audio_s: length of the reply.
    """

    text: str
    wall_s: float
    processor_s: float
    parts_s: dict[str, float]
    audio_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where the system is: its API, its rooms, and the processes that lead it."""

    api: str
    rooms: RoomAddresses
    leaders: tuple[int, ...]

    @classmethod
    def of(cls, record: RunRecord) -> "Place":
        """From the record of a run."""
        servers = {server.name: server for server in record.servers}
        rooms = RoomAddresses(**{pool: servers[pool].address for pool in POOLS})
        return cls(servers[ORCHESTRATOR].address, rooms, tuple(server.pid for server in record.servers))


@dataclass(frozen=True, slots=True)
class Manner:
    """How a question is asked.

    Attributes:
        mode: what ends the turn.
        seed: of the reply's words.
        prepares: whether replies are prepared at pauses.
    """

    mode: turn_taking_pb2.EndpointingMode.ValueType = MANUAL
    seed: int = SEED
    prepares: bool = False


@dataclass(slots=True)
class Marks:
    """What was noted while one question was asked; times in seconds."""

    spoken_s: float = 0.0
    spoken_used_s: float = 0.0
    first_s: float = 0.0
    first_used_s: float = 0.0
    text: str = ""
    pcm: bytearray = field(default_factory=bytearray)

    @property
    def samples(self) -> Samples:
        """The reply's."""
        return np.frombuffer(bytes(self.pcm), "<i2").astype(np.float32) / np.float32(_PCM_SCALE)


class Ear:
    """A player that has heard everything as soon as it is written."""

    sample_rate_hz = REPLY_RATE_HZ

    def write(self, samples: Samples) -> None:
        """See `Player`."""

    def clear(self) -> None:
        """See `Player`."""

    def pending_samples(self) -> int:
        """See `Player`."""
        return 0


async def ask(place: Place, speech: Samples, manner: Manner) -> tuple[Wait, Samples]:
    """Speak to the whole system in real time until the turn has ended; the wait, and the reply's samples."""
    processes = family_of(place.leaders)
    marks = Marks()
    breakdown = metrics_pb2.FirstAudioBreakdown()
    async with (
        asyncio.timeout(TURN_TIMEOUT_S),
        Conversation(place.api, session(manner), player=Ear()) as conversation,
        asyncio.TaskGroup() as group,
    ):
        ends_turn = manner.mode == MANUAL
        speaking = group.create_task(speak(conversation, speech, processes, marks, ends_turn=ends_turn))
        async for event in conversation:
            match event.WhichOneof("event"):
                case "reply_text":
                    marks.text += event.reply_text.text
                case "reply_audio":
                    if not marks.first_s:
                        marks.first_s, marks.first_used_s = time.perf_counter(), processor_s(processes)
                    marks.pcm += event.reply_audio.audio.data
                case "turn_ended":
                    breakdown = event.turn_ended.record.metrics.breakdown
                    break
        speaking.cancel()
    parts_s = {part: getattr(breakdown, f"{part}_ms") / 1000 for part in PARTS}
    used_s = marks.first_used_s - marks.spoken_used_s
    samples = marks.samples
    return Wait(marks.text, marks.first_s - marks.spoken_s, used_s, parts_s, len(samples) / REPLY_RATE_HZ), samples


def session(manner: Manner) -> conversation_pb2.SessionStart:
    """A session whose replies are always the same."""
    options = options_pb2.SessionOptions(
        turn_taking=turn_taking_pb2.TurnTakingOptions(
            mode=manner.mode, speculation=turn_taking_pb2.SpeculationOptions(enabled=manner.prepares)
        ),
        voice=options_pb2.VoiceOptions(seed=SEED),
        generation=options_pb2.GenerationOptions(seed=manner.seed),
    )
    reply_audio = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM16, sample_rate_hz=REPLY_RATE_HZ)
    return conversation_pb2.SessionStart(options=options, reply_audio=reply_audio)


async def speak(
    conversation: Conversation, speech: Samples, processes: set[int], marks: Marks, *, ends_turn: bool
) -> None:
    """Say it in real time; then end the turn, or be silent until cancelled."""
    async for piece in paced(speech, HEARD_RATE_HZ):
        await conversation.send_audio(piece)
    marks.spoken_s, marks.spoken_used_s = time.perf_counter(), processor_s(processes)
    if ends_turn:
        await conversation.end_turn()
        return
    async for piece in paced(silence(TURN_TIMEOUT_S, HEARD_RATE_HZ), HEARD_RATE_HZ):
        await conversation.send_audio(piece)


@dataclass(frozen=True, slots=True)
class RoomByRoom:
    """The same rooms, each run to its end before the next one begins.

    Attributes:
        place: where they are.
        rooms: connections to them.
        checkpoint: whose defaults hold where the caller chooses nothing but the seed, as in the orchestrator.
        voice: that speaks.
        prompt: what the chat model is told where nobody chose a system prompt.
    """

    place: Place
    rooms: Rooms
    checkpoint: Checkpoint
    voice: PreparedVoice
    prompt: str

    async def ask(self, speech: Samples, *, seed: int = SEED) -> Wait:
        """Ask; the first audio is there when all of it is."""
        processes = family_of(self.place.leaders)
        work = Work(session="one by one", turn=1, epoch=1)
        started_s, used_s = time.perf_counter(), processor_s(processes)
        utterance = self.rooms.tokenizer.listen(work)
        await utterance.push(speech)
        tokens = await utterance.finish()
        heard_s = time.perf_counter()
        text = await self._reply(tokens, work, seed)
        thought_s = time.perf_counter()
        clauses = [await self._spoken(clause, work) for clause in split_clauses(text)]
        said_s = time.perf_counter()
        made = 0
        for clause in clauses:
            made += len(await self.rooms.vocoder.open(self.voice, seed=SEED, work=work).push(clause, last=True))
        ended_s = time.perf_counter()
        parts_s: Mapping[str, float] = {
            "tokenizer": heard_s - started_s,
            "lm": thought_s - heard_s,
            "tts": said_s - thought_s,
            "vocoder": ended_s - said_s,
        }
        used_s = processor_s(processes) - used_s
        return Wait(text, ended_s - started_s, used_s, dict(parts_s), made / WAVE_RATE_HZ)

    async def _reply(self, tokens: tuple[int, ...], work: Work, seed: int) -> str:
        """The whole text, sampled as the orchestrator does it."""
        sampling = self.checkpoint.chat_params
        options = GenerationOptions(
            temperature=sampling.temperature, top_p=sampling.top_p, top_k=sampling.top_k, seed=seed
        )
        messages = [ChatMessage(Role.SYSTEM, self.prompt)] if self.prompt else []
        messages.append(ChatMessage(Role.USER, SpeechTokens(tokens)))
        async with aclosing(self.rooms.chat.reply(messages, options, work)) as pieces:
            return "".join([piece.text async for piece in pieces]).strip()

    async def _spoken(self, clause: str, work: Work) -> list[int]:
        """All speech tokens of a clause, with the next seed where one gives no speech."""
        for attempt in range(_ATTEMPTS):
            try:
                speech = self.rooms.speech.speak(clause, self.voice, seed=SEED + attempt, work=work)
                async with aclosing(speech) as groups:
                    return [token async for group in groups for token in group]
            except GenerationError as error:
                failure = error
        raise failure
