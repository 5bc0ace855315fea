"""What a caller sees when a part of the system is killed in the middle of a turn: `python -m benchmarks.faults`.

    turn 1   written, to its end: committed
    turn 2   begins ──╳ kill -9 ──► completed, interrupted or failed with a typed error; never silence for ever
    turn 3   written again and again until one is answered: the system is whole again

and then callers who hang up at random moments, after whom nothing may be left. It drives the Python client, which
resumes by itself, against four Triton servers, Ray Serve and Redis.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import numpy as np

from benchmarks.live_system import REPLICA, LiveSystem
from benchmarks.report import machine, table
from protos.gen.stepaudio.v1 import audio_pb2, conversation_pb2, conversation_pb2_grpc, session_pb2
from services.local.record import ORCHESTRATOR
from services.local.settings import ROOT
from services.shared.audio.files import read_audio
from services.shared.audio.resample import resample
from stepaudio import ApiError, Client, Conversation, Retry
from stepaudio.sources import paced

Event = conversation_pb2.ConverseResponse

QUESTION: Final = ROOT / "benchmarks" / "data" / "nano_questions" / "wav" / "heldout_16.wav"
RATE_HZ: Final = 16_000
PATIENT: Final = Retry(max_attempts=60, max_delay_s=1.0)
MOMENTS: Final = {
    "tokenizer": "speech_started",
    "lm": "reply_started",
    "tts": "reply_text",
    "vocoder": "reply_audio",
    "redis": "reply_audio",
    REPLICA: "reply_audio",
    ORCHESTRATOR: "reply_audio",
}
"""The event of the second turn at which each part is killed."""
LEFT_BEHIND: Final = (
    (ORCHESTRATOR, "stepaudio_orchestrator_open_sessions"),
    (ORCHESTRATOR, "stepaudio_orchestrator_attached_sessions"),
    ("tokenizer", "stepaudio_speech_tokenizer_open_sequences"),
    ("lm", "stepaudio_step1_chat_open_requests"),
    ("tts", "stepaudio_step1_tts_open_requests"),
)
"""What is 0 when nobody calls."""
TASKS: Final = "stepaudio_orchestrator_event_loop_tasks"
_HANG_S: Final = 150.0
_AGAIN_S: Final = 0.5
_NAMES: Final = {
    session_pb2.TURN_OUTCOME_COMPLETED: "completed",
    session_pb2.TURN_OUTCOME_INTERRUPTED: "interrupted",
    session_pb2.TURN_OUTCOME_FAILED: "failed",
}


@dataclass(frozen=True, slots=True)
class Survival:
    """A conversation through the death of a part.

    Attributes:
        first, cut, next: the turn before, the one under way, and the first one after it that was answered.
        cut_reason: why the cut turn failed; empty where it did not.
        refusals: why each turn failed that was asked for before the next one was answered.
        cut_s, next_s: from the death to the cut turn's end, and to the end of the next.
        resumes: streams that went on with the session.
        kept: what the store has in the end.
    """

    first: session_pb2.Turn
    cut: session_pb2.Turn
    next: session_pb2.Turn
    cut_reason: str
    refusals: tuple[str, ...]
    cut_s: float
    next_s: float
    resumes: int
    kept: tuple[session_pb2.Turn, ...]

    @property
    def is_kept(self) -> bool:
        """Whether the store has every turn once, and of the two that were answered what the caller was told."""
        told = [(turn.number, turn.outcome, turn.user_text, turn.agent_text) for turn in (self.first, self.next)]
        kept = [(turn.number, turn.outcome, turn.user_text, turn.agent_text) for turn in self.kept]
        return [number for number, *_ in kept] == list(range(1, self.next.number + 1)) and {*told} <= {*kept}

    @property
    def cut_outcome(self) -> str:
        """How the cut turn ended, for people."""
        return " ".join(filter(None, (_NAMES[self.cut.outcome], self.cut_reason)))


class _Caller:
    """Talks, and follows the events."""

    def __init__(self, conversation: Conversation) -> None:
        self.streams = 0
        self._conversation = conversation

    async def until(self, kind: str, turn: int = 0) -> Event:
        """The next event of a kind, of this turn or a later one."""
        async for event in self._conversation:
            self.streams += event.HasField("session_started")
            if event.HasField(kind) and event.turn >= turn:  # type: ignore[arg-type]  # a name of the message
                return event
        raise RuntimeError(f"the conversation ended without {kind}")

    async def write(self, text: str, turn: int = 0) -> Event:
        """A written turn, to its end."""
        await self._conversation.send_text(text)
        return await self.until("turn_ended", turn)


async def survive(system: LiveSystem, victims: Sequence[str], *, moment: str) -> Survival:
    """Hold a conversation, and kill parts of the system in its second turn.

    Args:
        system: that runs.
        victims: names of servers, or `REPLICA`.
        moment: kind of the event at which they die; at `speech_started` the second turn is spoken, else written.

    Raises:
        TimeoutError: the caller waited for ever.
        ApiError: the conversation could not go on.
    """
    async with asyncio.timeout(_HANG_S):
        async with Conversation(system.address, retry=PATIENT) as conversation:
            caller = _Caller(conversation)
            first = (await caller.write("What is the capital of Egypt?")).turn_ended
            async with asyncio.TaskGroup() as group:
                if moment == "speech_started":
                    group.create_task(_speak(conversation))
                else:
                    await conversation.send_text("What sound does a sheep make?")
                await caller.until(moment, 2)
                for victim in victims:
                    system.kill(victim)
                died_s = time.monotonic()
                cut = (await caller.until("turn_ended", 2)).turn_ended
            cut_s, refusals = time.monotonic() - died_s, []
            while True:
                ended = (await caller.write("What is two plus three?", 3)).turn_ended
                if ended.record.outcome == session_pb2.TURN_OUTCOME_COMPLETED:
                    break
                refusals.append(_reason(ended.error))
                await asyncio.sleep(_AGAIN_S)
            next_s = time.monotonic() - died_s
            session_id = conversation.session.session_id
            await conversation.end_input()
            async for _ in conversation:
                pass
        async with Client(system.address, retry=PATIENT) as client:
            kept = tuple([turn async for turn in client.list_turns(session_id)])
    return Survival(
        first=first.record,
        cut=cut.record,
        next=ended.record,
        cut_reason=_reason(cut.error) if cut.HasField("error") else "",
        refusals=tuple(refusals),
        cut_s=cut_s,
        next_s=next_s,
        resumes=caller.streams - 1,
        kept=kept,
    )


async def hang_up(system: LiveSystem, count: int, *, seed: int, at_once: int = 8) -> int:
    """Begin conversations, break them off at random moments, and delete what waits to be resumed.

    Args:
        system: that runs.
        count: of conversations.
        seed: of the moments.
        at_once: conversations under way.

    Returns:
        How many had begun.
    """
    chance, places = random.Random(seed), asyncio.Semaphore(at_once)
    moments_s = [chance.uniform(0.0, 2.0) for _ in range(count)]

    async def one(moment_s: float) -> bool:
        async with places, grpc.aio.insecure_channel(system.address) as channel:
            session_id = await _break_off(channel, moment_s)
        if session_id:
            async with Client(system.address) as client:
                try:
                    await client.delete_session(session_id)
                except ApiError as error:  # one in which nothing was heard is gone already
                    if error.code is not grpc.StatusCode.NOT_FOUND:
                        raise
        return bool(session_id)

    return sum(await asyncio.gather(*map(one, moments_s)))


async def await_nothing_left(system: LiveSystem, *, timeout_s: float) -> dict[str, float]:
    """Wait until nothing is left of any caller; returns what still is when the time is over."""
    deadline_s = time.monotonic() + timeout_s
    while left := {series: value for name, series in LEFT_BEHIND if (value := system.metric(name, series))}:
        if time.monotonic() > deadline_s:
            break
        await asyncio.sleep(_AGAIN_S)
    return left


async def _break_off(channel: grpc.aio.Channel, moment_s: float) -> str:
    """Speak and write, and go away without a word; gives the session's id if it had begun."""
    call = conversation_pb2_grpc.ConversationServiceStub(channel).Converse()
    pcm16 = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM16, sample_rate_hz=RATE_HZ)
    start = conversation_pb2.SessionStart(input_audio=pcm16, reply_audio=pcm16)
    session_id = ""

    async def listen() -> None:
        nonlocal session_id
        while isinstance(event := await call.read(), Event):
            session_id = session_id or event.session_started.session_id

    async def talk() -> None:
        await call.write(conversation_pb2.ConverseRequest(start=start))
        text = conversation_pb2.TextTurn(request_id="1", text="What sound does a sheep make?")
        await call.write(conversation_pb2.ConverseRequest(text_turn=text))
        async for piece in paced(question(), RATE_HZ):
            data = (piece * 32_767).astype(np.int16).tobytes()
            await call.write(conversation_pb2.ConverseRequest(audio=audio_pb2.AudioChunk(data=data)))

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(listen())
            await talk()

    try:
        async with asyncio.timeout(moment_s):
            await both()
    except TimeoutError:
        pass
    finally:
        call.cancel()
    return session_id


async def _speak(conversation: Conversation) -> None:
    async for piece in paced(np.concatenate([question(), np.zeros(2 * RATE_HZ, np.float32)]), RATE_HZ):
        await conversation.send_audio(piece)


def question() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """[N] samples of a spoken question."""
    recorded = read_audio(QUESTION)
    return resample(recorded.samples, recorded.sample_rate_hz, RATE_HZ)


def _reason(status: object) -> str:
    return ApiError.from_status(status).reason  # type: ignore[arg-type]  # google.rpc.Status


async def _measure(system: LiveSystem, hang_ups: int) -> None:
    rows = []
    for victim, moment in MOMENTS.items():
        found = await survive(system, [victim], moment=moment)
        rows.append(
            (
                victim,
                moment,
                found.cut_outcome,
                f"{found.cut_s:.1f}",
                f"{found.next_s:.1f}",
                found.resumes,
                len(found.refusals),
                "yes" if found.is_kept else "NO",
            )
        )
        print(f"{victim}: done", flush=True)
    header = ("killed", "at", "turn under way", "ended after s", "next answer after s", "resumes", "refused", "kept")
    print(table(header, rows))
    before, memory = system.metric(ORCHESTRATOR, TASKS), system.memory_bytes()
    begun = await hang_up(system, hang_ups, seed=1)
    left = await await_nothing_left(system, timeout_s=120.0)
    after, grown = system.metric(ORCHESTRATOR, TASKS), system.memory_bytes()
    print(f"\n{hang_ups} callers hung up, {begun} of them in a session; left behind: {left or 'nothing'}")
    print(f"tasks of the replica: {before:.0f}, then {after:.0f}")
    print("memory in MiB: " + ", ".join(f"{name} {memory[name] >> 20}, then {grown[name] >> 20}" for name in memory))


def main() -> None:
    """Start a system, kill its parts, and tell what callers saw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hang-ups", type=int, default=200)
    asked = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        system = LiveSystem(Path(folder), {"STEPAUDIO_RESUME_WINDOW_S": "60"})
        system.up()
        try:
            asyncio.run(_measure(system, asked.hang_ups))
        finally:
            system.down()


if __name__ == "__main__":
    main()
