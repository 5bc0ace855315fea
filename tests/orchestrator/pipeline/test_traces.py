"""One trace a turn: it goes on with the caller's, and every room's part of the turn is in it."""

import asyncio
from dataclasses import dataclass, field

import pytest

from services.orchestrator.conversation.events import ReplyId
from services.orchestrator.conversation.record import RoomName
from services.orchestrator.pipeline.observer import ReplyTrace, Unobserved
from services.orchestrator.pipeline.sessions import ResumeRequest, StartRequest
from tests.fakes.clock import run
from tests.fakes.rooms import PACED
from tests.orchestrator.pipeline.house import FORMATS, OPTIONS, Client, house

pytestmark = pytest.mark.unit

FIRST, SECOND = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-" + "1" * 32 + "-" + "2" * 16 + "-01"


@dataclass
class Watching(Unobserved):
    """Notes the parents of replies and the parts of each."""

    parents: list[str] = field(default_factory=list)
    stages: list[tuple[RoomName, float, float]] = field(default_factory=list)

    def reply(self, session_id: str, reply: ReplyId, parent: str) -> ReplyTrace:
        self.parents.append(parent)
        return self

    def stage(self, room: RoomName, begun_s: float, ended_s: float) -> None:
        self.stages.append((room, begun_s, ended_s))


def test_a_turn_goes_on_with_its_callers_trace_and_has_a_span_of_every_room() -> None:
    async def main() -> None:
        watching = Watching()
        async with house(PACED, observer=watching) as place, asyncio.TaskGroup() as tasks:
            client = Client(
                place, await place.sessions.start(StartRequest("tenant", FORMATS, OPTIONS, traceparent=FIRST))
            )
            client.listen(tasks)
            await client.speak(1.0, 0.5)
            await client.speak(1.5, 0.0)
            await client.turns(1)
            assert watching.parents == [FIRST]
            assert {room for room, _, _ in watching.stages} == set(RoomName)
            ((_, begun_s, ended_s),) = [stage for stage in watching.stages if stage[0] is RoomName.TOKENIZER]
            assert 0 < begun_s < ended_s
            assert {work.traceparent for work in place.rooms.tokenizer.works} == {FIRST}
            client.hang_up()
            request = ResumeRequest(
                "tenant", client.stream.session_id, client.token, client.emitted[-1][0], traceparent=SECOND
            )
            again = Client(place, await place.sessions.resume(request))
            again.listen(tasks)
            again.ask("And you?")
            await again.turns(1)
            assert watching.parents == [FIRST, SECOND]
            again.hang_up()

    run(main())
