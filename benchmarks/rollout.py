"""A new version under live conversations: `python -m benchmarks.rollout [--quick]`.

    old  a1 ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓ SIGTERM ─ go_away, when the answer was heard or half of the grace is over ─► ends with 0
         a2 ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓ SIGTERM ─ … ─► ends with 0
    new        b3 b4 start ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓

Ten callers ask one turn after another meanwhile, and go on until one was asked after the last old replica had ended. A
turn counts as dropped unless it was completed, was heard sample by
sample as one hears it whom nothing happens to, and is kept as it was told. The grace is so short that some answers have
to move in the middle. The store's log is judged as for fail-over (redis_history.py).
"""

import argparse
import asyncio
import json
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.failover import check_kept, owner_of, words
from benchmarks.redis_history import watched
from benchmarks.replicas import Fleet, fleet, talk, undisturbed
from benchmarks.report import machine, table
from protos.gen.stepaudio.v1 import session_pb2
from stepaudio import ApiError, Client
from stepaudio.formats import Samples

CALLERS: Final = 10
TURNS: Final = 8
DRAIN_S: Final = 4.0
TEXTS: Final = tuple(
    f"{number}: tell me about the river, from its springs in the hills, past the old towns, down to the sea."
    for number in range(TURNS)
)
"""Asked again from the first one on, where the roll-out takes longer."""
_LONGEST_S: Final = 300.0


@dataclass(slots=True)
class Found:
    """What came of the roll-outs.

    Attributes:
        asked, dropped: turns.
        moved, mid_answer: streams that went on elsewhere, and replies that did so in the middle.
        took_s: from the first SIGTERM to the end of the last old process, each.
        problems: what was not as it should be, one line each.
    """

    asked: int = 0
    dropped: int = 0
    moved: int = 0
    mid_answer: int = 0
    took_s: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Plan:
    """What one caller does.

    Attributes:
        turns: asked at least.
        begun: set by the caller, who hears the first reply.
        over: set when the roll-out is.
    """

    turns: int
    begun: asyncio.Event
    over: asyncio.Event


async def measure(folder: Path, rounds: int, *, callers: int = CALLERS, turns: int = TURNS) -> Found:
    """Roll out so often under so many callers."""
    found = Found()
    for place in range(rounds):
        async with fleet(folder / str(place), 4, drain_s=DRAIN_S) as replicas:
            async with watched(replicas.redis.port) as history:
                await _round(replicas, callers, turns, found)
            await check_kept(replicas, history)
        found.problems += history.problems
    return found


async def _round(replicas: Fleet, callers: int, turns: int, found: Found) -> None:
    await asyncio.gather(*(replicas.start(port, "a") for port in replicas.ports[:2]))
    expected = await asyncio.gather(*(undisturbed(replicas.address, [text]) for text in TEXTS))
    begun, over = [asyncio.Event() for _ in range(callers)], asyncio.Event()
    async with asyncio.timeout(_LONGEST_S), asyncio.TaskGroup() as tasks:
        for event in begun:
            tasks.create_task(_call(replicas, expected, Plan(turns, event, over), found))
        await asyncio.gather(*(event.wait() for event in begun))
        await _roll_out(replicas, found)
        over.set()


async def _roll_out(replicas: Fleet, found: Found) -> None:
    """New replicas first, then the old ones go, one after the other."""
    old = list(replicas.running.values())
    await asyncio.gather(*(replicas.start(port, "b") for port in replicas.ports[2:]))
    begun_s = time.monotonic()
    for replica in old:
        replica.signal(signal.SIGTERM)
        if code := await replica.ended():
            found.problems.append(f"an old replica ended with {code}")
    found.took_s.append(time.monotonic() - begun_s)


async def _call(replicas: Fleet, expected: Sequence[Samples], plan: Plan, found: Found) -> None:
    """One caller, turn after turn; the last one is asked when the roll-out is over."""
    asked, is_last = 0, False
    try:
        async with talk(replicas.address) as caller:
            while not is_last:
                is_last = plan.over.is_set() and asked + 1 >= plan.turns
                await caller.ask(TEXTS[asked % len(TEXTS)])
                asked += 1
                found.asked += 1
                await caller.until("reply_audio")
                plan.begun.set()
                await caller.until("turn_ended")
            owner = await owner_of(replicas, caller.session_id)
            await caller.finish()
    except (ApiError, RuntimeError) as error:
        plan.begun.set()
        found.dropped += asked
        found.problems.append(f"a conversation was lost: {error}")
        return
    found.moved += caller.streams - 1
    found.mid_answer += len(caller.resumed)
    async with Client(replicas.address) as client:
        kept = [turn async for turn in client.list_turns(caller.session_id)]
    completed = [turn for turn in kept if turn.outcome == session_pb2.TURN_OUTCOME_COMPLETED]
    heard = caller.player.samples
    wanted = np.concatenate([expected[place % len(expected)] for place in range(asked)])
    is_whole = np.array_equal(heard, wanted) and [words(turn) for turn in kept] == [
        words(turn) for turn in caller.ended
    ]
    found.dropped += asked - len(completed) if is_whole else asked
    if not is_whole:
        counts = f"{len(completed)} turns are kept, {len(caller.ended)} were told"
        found.problems.append(f"{len(heard)} of {len(wanted)} samples were heard, {counts}")
    if not owner.startswith("b"):
        found.problems.append(f"a conversation ended at {owner}")


def report(found: Found) -> str:
    """The figures as a table."""
    header = ("roll-outs", "turns", "dropped", "moved", "of them in mid-answer", "longest s", "breaches")
    longest = f"{max(found.took_s, default=0.0):.1f}"
    row = (len(found.took_s), found.asked, found.dropped, found.moved, found.mid_answer, longest, len(found.problems))
    return table(header, [row])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1 roll-out, not 5")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    asked = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(Path(folder), 1 if asked.quick else 5))
    print(report(found))
    for problem in found.problems:
        print(problem)
    if asked.json:
        asked.json.write_text(json.dumps(asdict(found), indent=1) + "\n")


if __name__ == "__main__":
    main()
