"""Sessions that are resumed, here or on another replica: tokens, what is repeated, and drains."""

import asyncio

import pytest

from services.orchestrator.conversation.outputs import GoAway, Refused, ReplyAudio, ReplyEnded, TurnEnded
from services.orchestrator.pipeline.session import StreamOpened
from services.orchestrator.pipeline.sessions import ResumeRequest
from services.shared.errors import DrainingError, InvalidInputError, InvalidResumeTokenError, SessionTakenOverError
from tests.fakes.clock import run
from tests.fakes.rooms import PACED, FakeRooms
from tests.fakes.store import FakeSessionStore
from tests.orchestrator.pipeline.house import house, loop_time, nothing_is_left, resume, start, wall_time

pytestmark = pytest.mark.unit


def test_a_resume_goes_on_with_a_new_epoch_repeats_what_was_missed_and_ends_the_older_stream() -> None:
    async def main() -> None:
        async with house() as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks)
            client.ask("Hello?")
            await client.turns(1)
            received = next(n for n, emitted in client.emitted if isinstance(emitted.output, ReplyEnded))
            again = await resume(place, tasks, client, received=received)
            await client.over()
            assert isinstance(client.error, SessionTakenOverError)
            await again.turns(1)
            first, second = again.emitted[:2]
            assert isinstance(first[1].output, StreamOpened)
            assert first[1].output.resumed
            assert (first[0], first[1].epoch) == (received + 1, 2)
            assert isinstance(second[1].output, TurnEnded)
            client.ask("I am only a ghost.")
            again.ask("Are you there?")
            await again.turns(2)
            third = await resume(place, tasks, again)
            assert third.of(TurnEnded) == []
            third.hang_up()
        nothing_is_left(place)

    run(main())


def test_a_token_is_void_once_its_successor_was_used() -> None:
    async def main() -> None:
        async with house() as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks)
            client.stream.touch()
            again = await resume(place, tasks, client)
            twice = await resume(place, tasks, client)  # nothing came on the stream that brought the successor
            assert isinstance(again.error, SessionTakenOverError) or not again.stream.is_open
            twice.stream.touch()
            await asyncio.sleep(0.1)
            with pytest.raises(InvalidResumeTokenError):
                await resume(place, tasks, client)
            with pytest.raises(InvalidInputError):
                await resume(place, tasks, twice, received=99_999_999)
            assert twice.stream.is_open
            twice.hang_up()

    run(main())


def test_a_session_moves_to_another_replica_with_its_turns() -> None:
    async def main() -> None:
        store = FakeSessionStore(clock=wall_time)
        rooms = FakeRooms(sleep=asyncio.sleep)
        async with (
            house(store=store, rooms=rooms) as one,
            house(store=store, rooms=rooms, owner="replica-2") as two,
            asyncio.TaskGroup() as tasks,
        ):
            client = await start(one, tasks)
            rooms.chat.answers.extend(["Lisbon is sunny.", "It stays so."])
            client.ask("How is the weather in Lisbon?")
            await client.turns(1)
            again = await resume(two, tasks, client)
            await client.over()  # the next renewal finds out
            assert isinstance(client.error, SessionTakenOverError)
            assert one.sessions.open_sessions == 0
            again.ask("And tomorrow?")
            await again.turns(1)
            assert [turn.record.number for turn in again.of(TurnEnded)] == [2]
            contents = [message.content for message in rooms.chat.asked[-1]]
            assert contents == ["How is the weather in Lisbon?", "Lisbon is sunny.", "And tomorrow?"]
            again.hang_up()

    run(main())


def test_a_turn_end_that_was_missed_is_repeated_by_another_replica_and_no_other() -> None:
    async def main() -> None:
        store = FakeSessionStore(clock=wall_time)
        async with house(store=store) as one, house(store=store, owner="two") as two, asyncio.TaskGroup() as tasks:
            client = await start(one, tasks)
            for count in (1, 2):
                client.ask("Hello?")
                await client.turns(count)
            ends = [number for number, emitted in client.emitted if isinstance(emitted.output, TurnEnded)]
            again = await resume(two, tasks, client, received=ends[1] - 1)
            await again.turns(1)
            assert [turn.record.number for turn in again.of(TurnEnded)] == [2]
            assert again.of(TurnEnded)[0].record.agent_text == client.of(TurnEnded)[1].record.agent_text
            again.hang_up()

    run(main())


def test_a_turn_end_that_an_event_overtook_is_repeated_by_another_replica() -> None:
    """The turn is on its way to the store, the client hears of something else, leaves, and has a higher number."""

    async def main() -> None:
        store = FakeSessionStore(clock=wall_time)
        async with house(store=store) as one, house(store=store, owner="two") as two, asyncio.TaskGroup() as tasks:
            client = await start(one, tasks)
            store.faults.gates["commit_turn"] = asyncio.Event()
            client.ask("Hello?")
            while "commit_turn" not in store.faults.calls:
                await asyncio.sleep(0.1)
            client.stream.refuse(InvalidInputError("something else"))
            await client.until(lambda it: it.of(Refused) != [])
            left = client.emitted[-1][0]
            store.faults.gates["commit_turn"].set()
            await client.turns(1)
            again = await resume(two, tasks, client, received=left)
            await again.turns(1)
            assert [turn.record.number for turn in again.of(TurnEnded)] == [1]
            again.hang_up()

    run(main())


def test_leaving_the_replica_ends_every_stream_and_all_work() -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            async with house(PACED) as place:
                client = await start(place, tasks)
                client.ask("Hello there?")
                await asyncio.sleep(0.05)
                assert place.rooms.live
            assert place.rooms.live == {}
            await client.over()
            assert isinstance(client.error, DrainingError)

    run(main())


def test_a_drain_tells_clients_to_go_and_leaves_sessions_to_other_replicas() -> None:
    async def main() -> None:
        store = FakeSessionStore(clock=wall_time)
        async with house(store=store) as one, house(store=store, owner="two") as two, asyncio.TaskGroup() as tasks:
            client = await start(one, tasks)
            client.ask("Hello?")
            await client.turns(1)
            draining = tasks.create_task(one.sessions.drain(20.0))
            await client.until(lambda it: bool(it.of(GoAway)))
            with pytest.raises(DrainingError):
                await start(one, tasks)
            await client.over()
            assert isinstance(client.error, DrainingError)
            await draining
            assert one.sessions.open_sessions == 0
            again = await resume(two, tasks, client)
            again.ask("Still there?")
            await again.turns(1)
            again.hang_up()

    run(main())


@pytest.mark.parametrize(("grace_s", "told_s"), [(60.0, None), (4.0, 2.0)])
def test_a_drain_lets_a_caller_hear_the_answer_out_for_half_of_the_grace(grace_s: float, told_s: float | None) -> None:
    async def main() -> None:
        store, rooms = FakeSessionStore(clock=wall_time), FakeRooms(PACED, sleep=asyncio.sleep)
        async with (
            house(store=store, rooms=rooms) as one,
            house(store=store, rooms=rooms, owner="two") as two,
            asyncio.TaskGroup() as tasks,
        ):
            idle, talking = await start(one, tasks), await start(one, tasks)
            rooms.chat.answers.append("It rains in Lisbon. Take an umbrella with you today, and a coat. " * 2)
            idle.stream.touch()
            talking.ask("How is the weather?")
            await talking.until(lambda it: bool(it.of(ReplyAudio)))
            begun_s = loop_time()
            draining = tasks.create_task(one.sessions.drain(grace_s))
            await idle.until(lambda it: bool(it.of(GoAway)))
            assert loop_time() == begun_s
            await talking.until(lambda it: bool(it.of(GoAway)))
            assert bool(talking.of(TurnEnded)) is (told_s is None)
            if told_s is not None:
                assert loop_time() - begun_s == pytest.approx(told_s, abs=0.11)
            left_ms = talking.of(GoAway)[0].time_left_ms
            assert left_ms == pytest.approx(1000 * (grace_s - loop_time() + begun_s), abs=5)
            moved = [await resume(two, tasks, client) for client in (idle, talking)]
            moved_s = loop_time()
            for client in (idle, talking):
                client.hang_up()
            await draining
            assert loop_time() - moved_s < 0.2
            for client in moved:
                client.hang_up()
        assert rooms.live == {}

    run(main())


def test_an_unknown_session_and_a_wrong_token_are_refused() -> None:
    async def main() -> None:
        async with house() as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks)
            with pytest.raises(InvalidResumeTokenError):
                await place.sessions.resume(ResumeRequest("tenant", client.stream.session_id, "guess", 0))
            assert client.stream.is_open
            client.hang_up()

    run(main())
