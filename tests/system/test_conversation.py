"""One conversation through gRPC, Ray Serve, four Triton servers and Redis: it says what the offline pipeline says."""

import asyncio
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import pytest

from benchmarks.live_system import LiveSystem
from benchmarks.streaming_vocoder import log_mel_distance
from protos.gen.stepaudio.v1 import audio_pb2, conversation_pb2, metrics_pb2, options_pb2, session_pb2, turn_taking_pb2
from services.offline.pipeline import Answer, ChatOptions, OfflinePipeline
from services.offline.settings import NANO_CHECKPOINTS
from services.offline.speaking import SpeechOptions
from services.shared.audio.files import Audio, read_audio
from services.shared.audio.resample import resample
from stepaudio import Client, Conversation
from tests.conftest import ROOT
from tests.system.order import Event, check_order, kind_of

pytestmark = pytest.mark.integration

QUESTION = ROOT / "benchmarks" / "data" / "nano_questions" / "wav" / "heldout_16.wav"
HEARD_HZ, SPOKEN_HZ = 16_000, 22_050
SEED = 3


def float32(rate_hz: int) -> audio_pb2.AudioFormat:
    return audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_FLOAT32, sample_rate_hz=rate_hz)


START = conversation_pb2.SessionStart(
    input_audio=float32(HEARD_HZ),
    reply_audio=float32(SPOKEN_HZ),
    options=options_pb2.SessionOptions(
        voice=options_pb2.VoiceOptions(seed=SEED),
        generation=options_pb2.GenerationOptions(seed=SEED),
        turn_taking=turn_taking_pb2.TurnTakingOptions(mode=turn_taking_pb2.ENDPOINTING_MODE_MANUAL),
    ),
)
"""The user ends turns by hand, so that both pipelines hear the same samples."""


def question() -> Audio:
    recorded = read_audio(QUESTION)
    return Audio(resample(recorded.samples, recorded.sample_rate_hz, HEARD_HZ), HEARD_HZ)


@dataclass
class Turn:
    """What a client got of a turn."""

    text: str = ""
    heard: str = ""
    audio: bytes = b""
    record: session_pb2.Turn = field(default_factory=session_pb2.Turn)

    @property
    def samples(self) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
        return np.frombuffer(self.audio, np.float32).copy()  # torch wants memory that can be written


def turn_of(events: list[Event], number: int) -> Turn:
    turn = Turn()
    for event in events:
        if event.turn != number:
            continue
        match kind_of(event):
            case "reply_text":
                turn.text += event.reply_text.text
            case "reply_audio":
                turn.audio += event.reply_audio.audio.data
            case "transcript" if event.transcript.is_final:
                turn.heard = event.transcript.text
            case "turn_ended":
                turn.record = event.turn_ended.record
    return turn


async def converse(address: str) -> tuple[list[Event], list[session_pb2.Turn]]:
    """A spoken turn, a written one, and what is kept of them."""
    events: list[Event] = []
    async with Conversation(address, START) as conversation:
        await conversation.send_audio(question().samples)
        await conversation.end_turn()
        async for event in conversation:
            events.append(event)
            if kind_of(event) == "turn_ended" and event.turn == 1:
                await conversation.send_text("What sound does a sheep make?")
                await conversation.end_input()
    async with Client(address) as client:
        kept = [turn async for turn in client.list_turns(events[0].session_started.session_id)]
    return events, kept


@cache
def offline() -> OfflinePipeline:
    return OfflinePipeline(NANO_CHECKPOINTS)


@cache
def offline_answer() -> Answer:
    return offline().ask(question(), ChatOptions(seed=SEED), SpeechOptions(seed=SEED))


def tolerance(answer: Answer) -> float:
    """How far the streaming vocoder alone, given one group of tokens at a time, is from the whole."""
    rooms = offline().rooms
    voice = rooms.prepare(rooms.voices.get(rooms.voices.default_name), music=False)
    vocoder, pieces = rooms.vocoder(music=False), []
    for clause in answer.speech.clauses:
        groups = list(rooms.speech.speak(clause.text, voice.prompt, replace(rooms.speech.params, seed=SEED)))
        state = vocoder.initial_state(SEED)
        for place, group in enumerate(groups, start=1):
            samples, state = vocoder.chunk(
                np.asarray(group, np.int64), voice.features, state, final=place == len(groups)
            )
            pieces.append(samples)
    return log_mel_distance(np.concatenate(pieces), answer.speech.samples)


def test_a_conversation_through_the_whole_system_is_the_offline_pipelines(system: LiveSystem) -> None:
    events, kept = asyncio.run(converse(system.address))
    check_order(events)
    spoken, written = turn_of(events, 1), turn_of(events, 2)
    answer = offline_answer()
    assert (spoken.heard, spoken.text) == (answer.heard, answer.text)
    assert len(spoken.samples) == len(answer.speech.samples)
    distance, allowed = log_mel_distance(spoken.samples, answer.speech.samples), tolerance(answer)
    print(f"{spoken.text!r}: log-mel {distance:.3f} from offline, the streaming vocoder alone {allowed:.3f}")
    assert distance <= 1.05 * allowed
    assert written.text
    assert len(written.samples)
    assert [without_times(turn) for turn in kept] == [without_times(spoken.record), without_times(written.record)]
    assert [turn.user_text for turn in kept] == [answer.heard, "What sound does a sheep make?"]
    assert [turn.outcome for turn in kept] == [session_pb2.TURN_OUTCOME_COMPLETED] * 2
    for turn in kept:
        check_times(turn.metrics)


def without_times(turn: session_pb2.Turn) -> session_pb2.Turn:
    """All but the wall times: each who tells them adds a moment of the wall clock to the monotonic one."""
    rest = session_pb2.Turn()
    rest.CopyFrom(turn)
    rest.ClearField("start_time")
    rest.ClearField("end_time")
    return rest


def check_times(metrics: metrics_pb2.TurnMetrics) -> None:
    parts = metrics.breakdown
    names = ("endpointing", "tokenizer", "lm", "tts", "vocoder", "orchestrator")
    assert sum(getattr(parts, f"{name}_ms") for name in names) == metrics.time_to_first_audio_ms > 0
    assert metrics.speech_tokens > metrics.text_tokens > 0
