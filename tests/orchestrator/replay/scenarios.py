"""The conversations of tests/data/recordings: `python -m tests.orchestrator.replay.scenarios FOLDER` records them anew.

Each is held with the whole pipeline over fake rooms in virtual time; what is recorded is what the recorder of a replica
writes. They are recorded once, and kept: each was a fault once, or would be one.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from services.orchestrator.conversation.events import Acknowledged, Playback
from services.orchestrator.conversation.options import BargeInOptions, SpeculationOptions
from services.orchestrator.conversation.outputs import Interrupted, ReplyAudio, ReplyResumed, TurnEnded
from services.orchestrator.conversation.record import Outcome
from services.orchestrator.replay.lines import Content
from services.orchestrator.replay.recorder import Recorder
from tests.fakes.clock import run
from tests.fakes.rooms import PACED, FakeRooms
from tests.fakes.store import FakeSessionStore
from tests.orchestrator.pipeline.house import OPTIONS, Client, house, loop_time, resume, start, wall_time

ANSWER: Final = "It rains in Lisbon today. Take an umbrella with you, and a coat. The sun comes back tomorrow. " * 2
RATE_HZ: Final = 22_050
BARGE_IN: Final = replace(
    OPTIONS,
    turn_taking=replace(
        OPTIONS.turn_taking,
        barge_in=BargeInOptions(enabled=True, ignore_back_channels=True, false_interruption_ms=600),
    ),
)
AHEAD: Final = replace(OPTIONS, turn_taking=replace(OPTIONS.turn_taking, speculation=SpeculationOptions(enabled=True)))

Scenario = Callable[[Recorder], Awaitable[None]]


async def acknowledge(client: Client, played: int) -> None:
    """The client says how much of the first reply it has heard."""
    client.stream.tell(Acknowledged(loop_time(), Playback(1, played)))


async def false_interruption(recorder: Recorder) -> None:
    """The user coughs into the reply: it stops, no word was said, and it goes on where it was heard to."""
    async with house(PACED, make_core=recorder) as place, asyncio.TaskGroup() as tasks:
        client = await start(place, tasks, options=BARGE_IN)
        place.rooms.chat.answers.append(ANSWER)
        place.rooms.chat.transcripts.extend(["", ""])
        client.ask("How is the weather?")
        await client.speak(2.0, 0.0)
        await client.speak(0.45, 0.5)
        await client.speak(3.0, 0.0)
        await client.turns(1)
        assert len(client.of(Interrupted)) == len(client.of(ReplyResumed)) == 1
        assert client.of(TurnEnded)[0].record.outcome is Outcome.COMPLETED
        client.hang_up()


async def barge_in_with_acknowledgements(recorder: Recorder) -> None:
    """The user says words into the reply: the history ends at the last word that was acknowledged, not at the sent."""
    async with house(PACED, make_core=recorder) as place, asyncio.TaskGroup() as tasks:
        client = await start(place, tasks, options=BARGE_IN)
        place.rooms.chat.answers.extend([ANSWER, "Certainly, my friend."])
        place.rooms.chat.transcripts.extend(["No, wait a moment."] * 2)
        client.ask("How is the weather?")
        for _ in range(4):
            await client.speak(0.5, 0.0)
            await acknowledge(client, max(len(client.samples) - 3 * RATE_HZ // 2, 0))
        await client.speak(0.45, 0.5)
        await acknowledge(client, RATE_HZ)
        await client.speak(3.0, 0.0)
        await client.turns(2)
        first, second = (ended.record for ended in client.of(TurnEnded))
        assert first.outcome is Outcome.INTERRUPTED
        assert ANSWER.startswith(first.agent_text)
        assert 0 < len(first.agent_text) < len(ANSWER) // 2
        assert second.user_text == "No, wait a moment."
        client.hang_up()


async def resume_elsewhere(recorder: Recorder) -> None:
    """The replica dies in mid-answer: another one goes on from the acknowledged sample, and asks for the words."""
    store, rooms = FakeSessionStore(clock=wall_time), FakeRooms(PACED, sleep=asyncio.sleep)
    async with (
        house(store=store, rooms=rooms) as one,
        house(store=store, rooms=rooms, owner="replica-2", make_core=recorder) as two,
        asyncio.TaskGroup() as tasks,
    ):
        client = await start(one, tasks)
        rooms.chat.answers.extend([ANSWER] * 2)
        await client.speak(1.5, 0.5)
        await client.speak(0.8, 0.0)
        await client.until(lambda it: bool(it.of(ReplyAudio)))
        await asyncio.sleep(1.0)
        again = await resume(two, tasks, client, playback=Playback(1, len(client.samples) // 2))
        await again.turns(1)
        assert again.of(TurnEnded)[0].record.outcome is Outcome.COMPLETED
        again.hang_up()


async def speculation_discarded(recorder: Recorder) -> None:
    """The user pauses, and speaks on: what was prepared is thrown away, and the next preparation is spoken."""
    async with house(PACED, make_core=recorder) as place, asyncio.TaskGroup() as tasks:
        client = await start(place, tasks, options=AHEAD)
        place.rooms.chat.answers.extend([ANSWER, "And this is the answer to all of it."])
        await client.speak(1.5, 0.5)
        await client.speak(0.5, 0.0)
        await client.speak(1.0, 0.5)
        await client.speak(3.0, 0.0)
        await client.turns(1)
        work = client.of(TurnEnded)[0].record.metrics.speculation
        assert (work.started, work.committed, work.discarded) == (2, 1, 1)
        client.hang_up()


async def back_channel(recorder: Recorder) -> None:
    """The listener says "mm-hm" into the reply, which is forgotten: no turn comes of it."""
    async with house(PACED, make_core=recorder) as place, asyncio.TaskGroup() as tasks:
        client = await start(place, tasks, options=BARGE_IN)
        place.rooms.chat.answers.append(ANSWER)
        place.rooms.chat.transcripts.extend(["Mm-hm."] * 4)
        client.ask("How is the weather?")
        await client.speak(2.0, 0.0)
        await client.speak(0.2, 0.5)
        await client.speak(3.0, 0.0)
        await client.turns(1)
        await client.speak(2.0, 0.0)
        assert [ended.record.outcome for ended in client.of(TurnEnded)] == [Outcome.COMPLETED]
        client.hang_up()


SCENARIOS: Final[dict[str, Scenario]] = {
    function.__name__: function
    for function in (
        false_interruption,
        barge_in_with_acknowledgements,
        resume_elsewhere,
        speculation_discarded,
        back_channel,
    )
}


def record(name: str, folder: Path, *, content: Content) -> Path:
    """Hold a conversation and record it; gives its file."""
    with Recorder(folder, content=content) as recorder:
        run(_held(name, recorder))
    (path,) = folder.glob("*.jsonl")
    return path.rename(folder / f"{name}.jsonl")


async def _held(name: str, recorder: Recorder) -> None:
    await SCENARIOS[name](recorder)


def main(folder: Path) -> None:
    """Record all of them, with their words: nobody has said them."""
    for name in SCENARIOS:
        place = folder / name
        path = record(name, place, content=Content.TEXT)
        path.rename(folder / path.name)
        place.rmdir()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
