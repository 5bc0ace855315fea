"""What a caller hears when the replica that answers is killed in mid-answer: `python -m benchmarks.failover [--quick]`.

    turn 1   written, to its end: committed
    turn 2   is being heard ──╳ kill -9 of its owner ──► goes on at another replica, from the sample that was heard last
    turn 3   written, to its end, on that replica

The client resumes by itself; replicas are processes over one real Redis. Resumed means that what was heard of all three
turns is, sample by sample, what one hears whom nothing happens to: nothing lost, nothing spoken twice.

Then owners that are stopped in mid-answer for as long as another replica needs to take their session over, and wake up
believing that they still own it. What every one of all these wrote is judged by redis_history.py.
"""

import argparse
import asyncio
import json
import random
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
from redis.asyncio import Redis

from benchmarks.redis_history import History, watched
from benchmarks.replicas import Fleet, Talk, fleet, start, talk, undisturbed
from benchmarks.report import machine, percentile, table
from protos.gen.stepaudio.v1 import conversation_pb2, conversation_pb2_grpc, session_pb2
from services.orchestrator.adapters.redis.keys import session_keys
from services.shared.errors import StepAudioError
from stepaudio import ApiError, Client
from stepaudio.formats import Samples

TENANT: Final = "default"
TEXTS: Final = (
    "What is the capital of Egypt?",
    "Tell me about the river that flows through it, from its springs down to the sea.",
    "Thank you, good night.",
)
REPLICAS: Final = 3
LONGEST_S: Final = 60.0
_LATEST_KILL_S: Final = 1.2
Request, Response = conversation_pb2.ConverseRequest, conversation_pb2.ConverseResponse


@dataclass(slots=True)
class Found:
    """What came of all rounds.

    Attributes:
        kills: owners that were killed in mid-answer.
        resumed: callers who heard all of it once.
        problems: what else became of callers, one line each.
        gaps_s: from each kill to the next audio.
        committed: turns of which callers were told that they are kept.
        zombies: owners that were stopped and woke up.
        refused: of their writes.
        taken: writes that the store took.
    """

    kills: int = 0
    resumed: int = 0
    problems: list[str] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    committed: int = 0
    zombies: int = 0
    refused: int = 0
    taken: int = 0


async def measure(folder: Path, kills: int, zombies: int, *, replicas: int = REPLICAS) -> Found:
    """Kill so many owners of this many, stop so many others, and judge what was heard and written."""
    found, chance = Found(), random.Random(1)
    async with fleet(folder, replicas) as running:
        async with watched(running.redis.port) as history:
            await asyncio.gather(*map(running.start, running.ports))
            expected = await undisturbed(running.address, TEXTS)
            for _ in range(kills):
                await kill_once(running, expected, chance.uniform(0.0, _LATEST_KILL_S), found)
            for _ in range(zombies):
                await stop_once(running, found)
        await check_kept(running, history)
    found.refused, found.taken = history.refused, sum(session.taken for session in history.sessions.values())
    found.problems += history.problems
    return found


async def kill_once(replicas: Fleet, expected: Samples, moment_s: float, found: Found) -> None:
    """One conversation whose owner dies in its second turn; another replica is started in its place."""
    async with asyncio.timeout(LONGEST_S):
        try:
            async with talk(replicas.address) as caller:
                port = await _through_a_kill(replicas, caller, moment_s, found)
                await _check(replicas, caller, expected, found)
        except (ApiError, RuntimeError) as error:
            found.problems.append(f"the conversation was lost: {error}")
            port = next(port for port in replicas.ports if replicas.running[port].process.returncode is not None)
        await replicas.start(port)


async def _through_a_kill(replicas: Fleet, caller: Talk, moment_s: float, found: Found) -> int:
    await caller.ask(TEXTS[0])
    await caller.until("turn_ended")
    await caller.ask(TEXTS[1])
    await caller.until("reply_audio")
    await asyncio.sleep(moment_s)
    victim = replicas.owned_by(await owner_of(replicas, caller.session_id))
    victim.signal(signal.SIGKILL)
    killed_s = time.monotonic()
    await victim.ended()
    found.kills += 1
    await caller.until("reply_resumed")
    await caller.until("reply_audio")
    found.gaps_s.append(time.monotonic() - killed_s)
    await caller.until("turn_ended")
    await caller.ask(TEXTS[2])
    await caller.until("turn_ended")
    await caller.finish()
    return victim.port


async def _check(replicas: Fleet, caller: Talk, expected: Samples, found: Found) -> None:
    """What was heard and told of a conversation is whole, and kept as it was told."""
    heard = caller.player.samples
    is_whole = np.array_equal(heard, expected)
    async with Client(replicas.address) as client:
        kept = [turn async for turn in client.list_turns(caller.session_id)]
    told = [words(turn) for turn in caller.ended]
    found.committed += len(told)
    is_kept = [words(turn) for turn in kept] == told
    is_answered = all(turn.outcome == session_pb2.TURN_OUTCOME_COMPLETED for turn in kept) and len(kept) == len(TEXTS)
    if is_whole and is_kept and is_answered:
        found.resumed += 1
    else:
        said = f"{len(heard)} of {len(expected)} samples were heard"
        found.problems.append(f"{said}, {told} was told and {[words(turn) for turn in kept]} is kept")


def words(turn: session_pb2.Turn) -> tuple[int, int, str, str]:
    """What a turn is, but for its times and costs."""
    return turn.number, turn.outcome, turn.user_text, turn.agent_text


async def stop_once(replicas: Fleet, found: Found) -> None:
    """An owner is stopped in mid-answer, another one takes the session over and speaks, and the first one wakes up."""
    first_port, second_port = replicas.ports[:2]
    owner = replicas.running[first_port]
    async with (
        asyncio.timeout(LONGEST_S),
        grpc.aio.insecure_channel(f"127.0.0.1:{first_port}") as first,
        grpc.aio.insecure_channel(f"127.0.0.1:{second_port}") as second,
    ):
        old = conversation_pb2_grpc.ConversationServiceStub(first).Converse()
        await old.write(Request(start=start(1)))
        began = await _until(old, "session_started")
        await old.write(Request(text_turn=conversation_pb2.TextTurn(request_id="a", text=TEXTS[1])))
        sequence = (await _until(old, "reply_audio")).sequence
        owner.signal(signal.SIGSTOP)
        new = conversation_pb2_grpc.ConversationServiceStub(second).Converse()
        session = began.session_started
        await new.write(
            Request(
                resume=conversation_pb2.SessionResume(
                    session_id=session.session_id, resume_token=session.resume_token, received_sequence=sequence
                )
            )
        )
        await _until(new, "reply_resumed")
        owner.signal(signal.SIGCONT)
        found.zombies += 1
        try:
            await _until(old, "turn_ended")
            found.problems.append("an owner that was none any more ended a turn")
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.ABORTED:
                found.problems.append(f"an owner that was none any more ended with {error.code().name}")
        await new.write(Request(interrupt=conversation_pb2.Interrupt()))
        await _until(new, "turn_ended")
        await new.write(Request(end_of_input=conversation_pb2.EndOfInput()))


async def _until(call: Any, kind: str) -> conversation_pb2.ConverseResponse:  # grpc's types of calls are its stubs' own
    while isinstance(event := await call.read(), Response):
        if event.HasField(kind):  # type: ignore[arg-type]  # a name of the message
            return event
    raise StepAudioError(f"the stream ended without {kind}")


async def owner_of(replicas: Fleet, session_id: str) -> str:
    """The name of the replica that owns a session."""
    redis = Redis(port=replicas.redis.port, protocol=2)
    try:
        owner = await redis.execute_command("HGET", session_keys(TENANT, session_id).session, "owner")
        return str(owner, "utf-8")
    finally:
        await redis.aclose()


async def check_kept(replicas: Fleet, history: History) -> None:
    """Hold what the store has in the end to its log."""
    redis = Redis(port=replicas.redis.port, protocol=2)
    try:
        for session in list(history.sessions):
            kept: Sequence[bytes] = await redis.execute_command("LRANGE", f"{session}:turns", 0, -1)
            history.check_kept(session, [turn.decode() for turn in kept])
    finally:
        await redis.aclose()


def report(found: Found) -> str:
    """The figures as tables."""
    gaps = [f"{1000 * percentile(found.gaps_s, share):.0f}" for share in (50, 95, 100)]
    header = (
        "killed",
        "resumed, all heard once",
        "next audio after ms: median",
        "95 %",
        "longest",
        "turns kept as told",
    )
    first = table(header, [(found.kills, found.resumed, *gaps, found.committed)])
    other = ("owners that woke up", "their writes refused", "writes taken", "breaches")
    return f"{first}\n\n" + table(other, [(found.zombies, found.refused, found.taken, len(found.problems))])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5 kills and 1 owner that wakes up, not 100 and 10")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    asked = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(Path(folder), *((5, 1) if asked.quick else (100, 10))))
    print(report(found))
    for problem in found.problems:
        print(problem)
    if asked.json:
        asked.json.write_text(json.dumps(asdict(found), indent=1) + "\n")


if __name__ == "__main__":
    main()
