"""Conversations through the server and the real pipeline, with fake rooms: the order that is promised, and no crash."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.gen.stepaudio.v1 import audio_pb2, conversation_pb2, errors_pb2, options_pb2, session_pb2, tools_pb2
from services.orchestrator.pipeline.limits import PipelineLimits
from services.orchestrator.pipeline.observer import Unobserved
from services.orchestrator.pipeline.sessions import Sessions
from services.orchestrator.pipeline.surroundings import Surroundings
from services.orchestrator.pipeline.voices import VoiceBook
from tests.orchestrator.ingress.serving import (
    END,
    Behind,
    Request,
    Response,
    Served,
    converse,
    read_refusal,
    refusal_of,
    refused_conversation,
    run,
    serving,
    silence,
    start,
)

pytestmark = pytest.mark.integration

LIMITS = PipelineLimits(resume_window_s=0.3, closing_s=1.0)


@asynccontextmanager
async def house(limits: PipelineLimits = LIMITS) -> AsyncIterator[tuple[Served, Sessions]]:
    """A server over a whole replica, all but its rooms."""
    behind = Behind()
    shared = Surroundings(
        rooms=behind.rooms.rooms,
        voices=VoiceBook(behind.rooms.rooms.built_in, behind.voices),
        detector=behind.detector,
        store=behind.store,
        limits=limits,
        observer=Unobserved(),
        clock=time.monotonic,
        wall_clock=behind.clock,
        chance=random.Random(1),
        default_prompt="",
    )
    async with Sessions(shared, owner="replica") as sessions, serving(behind, sessions=sessions) as served:
        yield served, sessions


class Caller:
    """A client that plays at once what it is sent, and acknowledges it."""

    def __init__(self, served: Served) -> None:
        self._call = served.conversation.Converse()
        self.events: list[Response] = []

    async def say(self, *messages: Request) -> None:
        """Send."""
        for message in messages:
            await self._call.write(message)

    async def read(self) -> Response | None:
        """The next event, acknowledged where it has audio; None at the end."""
        response = await self._call.read()
        if not isinstance(response, Response):
            return None
        self.events.append(response)
        audio = response.reply_audio.audio
        if response.HasField("reply_audio"):
            played = audio.first_sample + len(audio.data) // 2
            await self.say(_heard(response.turn, played))
        if response.HasField("reply_ended"):
            await self.say(_heard(response.turn, response.reply_ended.total_samples))
        return response

    async def until(self, kind: str) -> Response:
        """Read up to an event of this kind."""
        while (response := await self.read()) is not None:
            if response.WhichOneof("event") == kind:
                return response
        raise AssertionError(f"the stream ended without {kind}")

    async def finish(self) -> None:
        """End the input and read to the end."""
        await self.say(END)
        while await self.read() is not None:
            pass

    def hang_up(self) -> None:
        """Go away."""
        self._call.cancel()


def check_order(events: list[Response]) -> None:
    """Hold what the service promises about the order of its events."""
    first = events[0].sequence
    assert [event.sequence for event in events] == list(range(first, first + len(events)))
    assert events[0].HasField("session_started")
    assert [event.epoch for event in events] == sorted(event.epoch for event in events)
    position: dict[int, int] = {}
    ended: list[int] = []
    for event in events:
        kind = event.WhichOneof("event")
        if kind == "reply_started":
            position[event.turn] = 0
        elif kind == "reply_resumed":
            position[event.turn] = event.reply_resumed.first_sample
        elif kind == "reply_audio":
            assert event.reply_audio.audio.first_sample == position[event.turn]
            position[event.turn] += len(event.reply_audio.audio.data) // 2
        elif kind == "reply_ended":
            assert event.reply_ended.total_samples == position[event.turn]
        elif kind == "turn_ended":
            ended.append(event.turn)
    assert ended == list(range(1, len(ended) + 1))
    assert set(position) <= set(ended)


def test_a_greeting_a_written_and_a_spoken_turn_are_answered_in_order() -> None:
    async def test() -> None:
        loud = (0.3 * np.sin(np.arange(9600) / 9) * 32_767).astype("<i2").tobytes()
        async with house() as (served, sessions):
            served.behind.rooms.chat.answers.extend(["It rains today.", "Good night to you."])
            caller = Caller(served)
            await caller.say(start(greeting="Good day.", reply_chunk_ms=20))
            assert (await caller.until("turn_ended")).turn_ended.record.agent_text == "Good day."
            await caller.say(Request(text_turn=conversation_pb2.TextTurn(request_id="a", text="How is the weather?")))
            written = (await caller.until("turn_ended")).turn_ended.record
            assert (written.user_text, written.agent_text) == ("How is the weather?", "It rains today.")
            for offset in range(0, len(loud), 6400):
                await caller.say(Request(audio=audio_pb2.AudioChunk(data=loud[offset : offset + 6400])))
            await caller.say(*[silence(3200)] * 6)
            spoken = (await caller.until("turn_ended")).turn_ended.record
            assert spoken.origin == session_pb2.TURN_ORIGIN_SPEECH
            assert spoken.agent_text == "Good night to you."
            metrics = spoken.metrics
            parts = sum(value for _, value in metrics.breakdown.ListFields())
            assert metrics.time_to_first_audio_ms == parts
            await caller.finish()
            check_order(caller.events)
            kinds = [event.WhichOneof("event") for event in caller.events]
            assert kinds.index("speech_started") < kinds.index("speech_stopped")
            session_id = caller.events[0].session_started.session_id
            turns = await served.session.ListTurns(session_pb2.ListTurnsRequest(session_id=session_id))
            assert [turn.number for turn in turns.turns] == [1, 2, 3]
            await _empty(sessions)
            assert served.behind.rooms.live == {}

    run(test)


def test_a_lost_connection_is_resumed_with_what_was_heard_and_the_newest_token_only() -> None:
    async def test() -> None:
        async with house(PipelineLimits(resume_window_s=5.0, closing_s=1.0)) as (served, _):
            caller = Caller(served)
            await caller.say(start())
            started = (await caller.until("session_started")).session_started
            words = "One two three four five six seven eight nine ten. " * 4
            await caller.say(Request(say=conversation_pb2.Say(request_id="a", text=words)))
            first = (await caller.until("reply_audio")).reply_audio.audio
            played = first.first_sample + len(first.data) // 2
            caller.hang_up()
            resume = conversation_pb2.SessionResume(
                session_id=started.session_id,
                resume_token=started.resume_token,
                received_sequence=caller.events[-1].sequence,
                playback=conversation_pb2.PlaybackAck(turn=1, played_samples=played),
            )
            again = Caller(served)
            await again.say(Request(resume=resume))
            opened = await again.until("session_started")
            assert opened.sequence == caller.events[-1].sequence + 1
            assert opened.epoch == 2
            resumed = (await again.until("reply_resumed")).reply_resumed
            assert abs(resumed.first_sample - played) <= 2
            assert abs((await again.until("reply_audio")).reply_audio.audio.first_sample - played) <= 2
            total = (await again.until("reply_ended")).reply_ended.total_samples
            ended = (await again.until("turn_ended")).turn_ended
            assert abs(ended.heard_samples - total) <= 2
            assert ended.record.agent_text == words.strip()
            await again.finish()
            check_order(again.events)
            late = await refused_conversation(served, [Request(resume=resume)])
            assert late.reason in ("INVALID_RESUME_TOKEN", "SESSION_ENDED")
            resume.resume_token = "made up"
            wrong = await refused_conversation(served, [Request(resume=resume)])
            assert wrong.reason in ("INVALID_RESUME_TOKEN", "SESSION_ENDED")

    run(test)


def test_a_deleted_session_ends_its_conversation() -> None:
    async def test() -> None:
        async with house() as (served, _):
            caller = Caller(served)
            await caller.say(start())
            session_id = (await caller.until("session_started")).session_started.session_id
            await served.session.DeleteSession(session_pb2.DeleteSessionRequest(session_id=session_id))
            assert (await refusal_of(caller.read())).reason == "SESSION_DELETED"
            get = session_pb2.GetSessionRequest(session_id=session_id)
            assert (await refusal_of(served.session.GetSession(get))).reason == "SESSION_NOT_FOUND"

    run(test)


def test_hang_ups_in_the_middle_of_a_reply_leave_no_session_and_no_room_at_work() -> None:
    async def test() -> None:
        async with house() as (served, sessions):
            turn = Request(text_turn=conversation_pb2.TextTurn(request_id="a", text="word " * 200))
            for round_ in range(60):
                caller = Caller(served)
                await caller.say(start(), turn)
                if round_ % 3:
                    await caller.until("session_started" if round_ % 3 == 1 else "reply_text")
                caller.hang_up()
            await _empty(sessions)
            assert served.behind.rooms.live == {}
            assert all(stream.closed for stream in served.behind.detector.streams)

    run(test)


STATUS_LOST = "Internal error from Core"
"""What gRPC's client tells in place of the status when it was still writing to a stream that the server had ended, as
happens on a busy machine. The server words its own INTERNAL otherwise."""
SMALL = st.integers(-5, 5)
SAMPLES = st.integers(-(2**63), 2**63 - 1) | SMALL | st.integers(0, 10_000)
FLOATS = st.floats(width=32)
TEXTS = st.text(max_size=20)


def _message(name: str, **fields: st.SearchStrategy[object]) -> st.SearchStrategy[Request]:
    kinds = {
        "start": conversation_pb2.SessionStart,
        "resume": conversation_pb2.SessionResume,
        "audio": audio_pb2.AudioChunk,
        "playback_ack": conversation_pb2.PlaybackAck,
        "text_turn": conversation_pb2.TextTurn,
        "say": conversation_pb2.Say,
        "tool_result": tools_pb2.ToolResult,
        "session_update": conversation_pb2.SessionUpdate,
    }
    content = st.fixed_dictionaries({}, optional=fields).map(lambda chosen: kinds[name](**chosen))
    return content.map(lambda made: Request(**{name: made}))


ENUMS = st.integers(0, 3) | st.integers(-(2**31), 2**31 - 1)
VOICES = st.builds(options_pb2.VoiceOptions, speed=FLOATS, volume=FLOATS, voice_id=TEXTS)
OPTIONS = st.builds(options_pb2.SessionOptions, voice=VOICES | st.none(), system_prompt=TEXTS)
ACKS = st.builds(conversation_pb2.PlaybackAck, turn=SMALL, played_samples=SAMPLES, underruns=SMALL)
MESSAGES = st.one_of(
    st.just(Request()),
    st.binary(max_size=40).map(lambda raw: Request(audio=audio_pb2.AudioChunk(data=raw))),
    _message("audio", data=st.binary(max_size=700), first_sample=SAMPLES),
    _message("start", reply_chunk_ms=SMALL, greeting=TEXTS, options=OPTIONS, retention_s=SAMPLES),
    _message("resume", session_id=TEXTS, resume_token=TEXTS, received_sequence=SAMPLES, playback=ACKS),
    ACKS.map(lambda ack: Request(playback_ack=ack)),
    ACKS.map(lambda ack: Request(interrupt=conversation_pb2.Interrupt(playback=ack))),
    _message("text_turn", request_id=TEXTS, text=TEXTS, timing=ENUMS),
    _message("say", request_id=TEXTS, text=TEXTS, timing=ENUMS),
    _message("tool_result", call_id=TEXTS, output=TEXTS),
    _message("session_update", options=OPTIONS),
    st.just(Request(end_of_turn=conversation_pb2.EndOfTurn())),
    st.just(END),
)


@settings(max_examples=60)
@given(st.booleans(), st.lists(MESSAGES, max_size=12))
def test_no_messages_crash_or_hang_the_server(begins: bool, messages: list[Request]) -> None:
    async def test() -> None:
        async with house() as (served, sessions):
            call = served.conversation.Converse(iter([*([start()] if begins else []), *messages, END]))
            events = []
            try:
                async with asyncio.timeout(10):
                    async for event in call:
                        events.append(event)
                        if event.HasField("reply_started"):
                            call.cancel()  # what is spoken takes its time
            except asyncio.CancelledError:
                assert call.cancelled()
            except grpc.aio.AioRpcError as error:
                if error.details() != STATUS_LOST:
                    refusal = read_refusal(error)
                    known = errors_pb2.ErrorReason.keys()
                    assert f"ERROR_REASON_{refusal.reason}" in known, refusal
                    assert refusal.reason != "INTERNAL", refusal
            if events:
                assert [event.sequence for event in events] == list(range(1, len(events) + 1))
            assert len(await converse(served, [start(), END])) == 1
            await _empty(sessions)
            assert served.behind.rooms.live == {}

    run(test)


def _heard(turn: int, played: int) -> Request:
    return Request(playback_ack=conversation_pb2.PlaybackAck(turn=turn, played_samples=played))


async def _empty(sessions: Sessions) -> None:
    while sessions.open_sessions:
        await asyncio.sleep(0.01)
