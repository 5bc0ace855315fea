"""Sessions of one replica from start to end: turns, rooms that fail, hang-ups, windows and limits."""

import asyncio
import itertools
import random
from dataclasses import replace

import pytest

from services.orchestrator.conversation.events import InputEnded, Interrupt
from services.orchestrator.conversation.outputs import (
    GoAway,
    Interrupted,
    ReplyAudio,
    ReplyEnded,
    ReplyStarted,
    ReplyText,
    SpeechStarted,
    SpeechStopped,
    TurnEnded,
)
from services.orchestrator.conversation.record import Outcome, RoomName
from services.orchestrator.pipeline.limits import PipelineLimits
from services.orchestrator.pipeline.session import StreamOpened
from services.orchestrator.pipeline.sessions import StartRequest
from services.shared.errors import (
    DeadlineExceededError,
    InputIdleError,
    OverloadedError,
    QuotaExceededError,
    RoomUnavailableError,
    SessionDeletedError,
    SessionEndedError,
    SessionTooLongError,
    SlowConsumerError,
)
from tests.fakes.clock import run
from tests.fakes.rooms import PACED, Fault
from tests.orchestrator.pipeline.house import FORMATS, OPTIONS, house, loop_time, nothing_is_left, resume, start

pytestmark = pytest.mark.unit


def test_a_written_turn_is_answered_spoken_and_kept() -> None:
    async def main() -> None:
        async with house(PACED) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks)
            place.rooms.chat.answers.append("It rains in Lisbon. Take an umbrella with you today, and a coat.")
            client.ask("How is the weather?")
            await client.turns(1)
            kinds = [type(output) for output in client.outputs]
            assert kinds[:2] == [StreamOpened, ReplyStarted]
            assert kinds.index(ReplyText) < kinds.index(ReplyAudio) < kinds.index(ReplyEnded) < kinds.index(TurnEnded)
            assert client.text == "It rains in Lisbon. Take an umbrella with you today, and a coat."
            audio = client.of(ReplyAudio)
            assert audio[0].first_sample == 0
            assert all(a.end_sample == b.first_sample for a, b in itertools.pairwise(audio))
            spoken = [piece.spoken_characters for piece in audio]
            assert spoken == sorted(spoken)
            assert spoken[-1] == len(client.text)
            (turn,) = client.of(TurnEnded)
            assert turn.record.outcome is Outcome.COMPLETED
            assert turn.record.metrics.first_audio is not None
            assert {work.room for work in turn.record.metrics.work.rooms} == {
                RoomName.LM,
                RoomName.TTS,
                RoomName.VOCODER,
            }
            assert [number for number, _ in client.emitted] == list(range(1, len(client.emitted) + 1))
            (kept,) = await place.store.turns("tenant", client.stream.session_id, after=0, limit=9)
            assert kept.agent_text == client.text
            client.stream.tell(InputEnded(loop_time(), 0))
            await client.over()
            assert client.error is None
            assert (await place.store.get("tenant", client.stream.session_id)).state == "ended"
        nothing_is_left(place)

    run(main())


def test_speech_is_tokenized_while_it_is_spoken_and_answered_after_silence() -> None:
    async def main() -> None:
        async with house(PACED) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks)
            place.rooms.chat.answers.append("I heard you well, my friend.")
            await client.speak(0.5, 0.0)
            await client.speak(1.5, 0.5)
            pushes = place.rooms.tokenizer.live
            assert pushes == 1
            await client.speak(3.0, 0.0)
            await client.turns(1)
            kinds = [type(output) for output in client.outputs]
            assert kinds.index(SpeechStarted) < kinds.index(SpeechStopped) < kinds.index(ReplyStarted)
            (turn,) = client.of(TurnEnded)
            assert "groups" in turn.record.user_text
            assert turn.record.metrics.work.rooms[0].room is RoomName.TOKENIZER
            client.hang_up()
        nothing_is_left(place)

    run(main())


def test_an_interruption_reaches_every_room_and_the_session_lives_on() -> None:
    async def main() -> None:
        async with house(PACED) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks)
            place.rooms.chat.answers.extend(["word " * 200, "Fine, thank you."])
            client.ask("Tell me a long story.")
            await client.until(lambda it: len(it.of(ReplyAudio)) >= 3)
            client.stream.tell(Interrupt(loop_time()))
            await client.until(lambda it: bool(it.of(Interrupted)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert place.rooms.live == {}
            client.ask("And how are you?")
            await client.turns(2)
            outcomes = [turn.record.outcome for turn in client.of(TurnEnded)]
            assert outcomes == [Outcome.INTERRUPTED, Outcome.COMPLETED]
            client.hang_up()

    run(main())


@pytest.mark.parametrize("room", ["chat", "speech", "vocoder"])
@pytest.mark.parametrize("after", [0, 1, 2, 5])
@pytest.mark.parametrize("is_own", [True, False])
def test_a_room_that_fails_at_any_moment_fails_one_turn_and_the_session_lives_on(
    room: str, after: int, is_own: bool
) -> None:
    async def main() -> None:
        async with house(PACED) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks)
            error = RoomUnavailableError("gone") if is_own else ValueError("a fault of the adapter's")
            fake = getattr(place.rooms, room)
            calls = after if room == "vocoder" else 0  # each push of a stream is a call of its own
            fake.faults.extend([None] * calls)
            fake.faults.append(Fault(error, after=0 if calls else after))  # type: ignore[arg-type]  # a foreign error
            place.rooms.chat.answers.extend(["One sentence here, please. And another one follows it now. " * 3] * 2)
            client.ask("First?")
            await client.turns(1)
            (turn,) = client.of(TurnEnded)
            assert turn.record.outcome is Outcome.FAILED
            assert turn.record.error is not None
            assert turn.record.error.reason == ("ROOM_UNAVAILABLE" if is_own else "INTERNAL")
            assert place.rooms.live == {}
            client.ask("Second?")
            await client.turns(2)
            assert client.of(TurnEnded)[1].record.outcome is Outcome.COMPLETED
            client.hang_up()

    run(main())


def test_a_room_that_says_nothing_fails_the_turn_in_time() -> None:
    async def main() -> None:
        async with house(PACED) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks)
            place.rooms.speech.faults.append(Fault(None, after=1))
            client.ask("Hello there, my friend?")
            await client.turns(1)
            assert isinstance(client.of(TurnEnded)[0].record.error, DeadlineExceededError)
            client.hang_up()

    run(main())


@pytest.mark.parametrize("error", [RoomUnavailableError("gone"), ValueError("a fault of the adapter's")])
def test_a_failed_transcript_costs_the_words_and_no_more(error: Exception) -> None:
    async def main() -> None:
        async with house(PACED) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks)
            place.rooms.chat.faults.extend([None, Fault(error)])  # type: ignore[arg-type]  # a foreign error on purpose
            place.rooms.chat.answers.append("I heard you well, my friend.")
            await client.speak(1.5, 0.5)
            await client.speak(3.0, 0.0)
            await client.turns(1)
            record = client.of(TurnEnded)[0].record
            assert (record.user_text, record.outcome) == ("", Outcome.COMPLETED)
            client.hang_up()

    run(main())


def test_two_hundred_random_hang_ups_leave_nothing_behind() -> None:
    async def main() -> None:
        chance = random.Random(5)
        limits = PipelineLimits(resume_window_s=2.0)
        async with house(PACED, limits=limits) as place:
            for _ in range(200):
                async with asyncio.TaskGroup() as tasks:
                    client = await start(place, tasks)
                    for _ in range(chance.randint(0, 2)):
                        if chance.random() < 0.5:
                            client.ask("Tell me something long and nice, please.")
                            await asyncio.sleep(chance.uniform(0.0, 0.6))
                        else:
                            await client.speak(chance.uniform(0.1, 0.6), chance.choice([0.0, 0.5]))
                    client.hang_up()
            await asyncio.sleep(60)
            nothing_is_left(place)
            assert len(asyncio.all_tasks()) == 2  # this one, and the renewal of leases
        assert len(asyncio.all_tasks()) == 1

    run(main())


def test_a_session_that_never_said_anything_is_dropped() -> None:
    async def main() -> None:
        async with house() as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks)
            client.hang_up()
            await asyncio.sleep(1)
            assert "delete" in place.store.faults.calls
            assert place.sessions.open_sessions == 0

    run(main())


def test_a_detached_session_waits_for_its_window_and_then_ends() -> None:
    async def main() -> None:
        async with house(limits=PipelineLimits(resume_window_s=30)) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks)
            client.ask("Hello?")
            await client.turns(1)
            client.hang_up()
            await asyncio.sleep(29)
            assert place.sessions.open_sessions == 1
            await asyncio.sleep(2)
            assert place.sessions.open_sessions == 0
            assert (await place.store.get("tenant", client.stream.session_id)).state == "ended"
            with pytest.raises(SessionEndedError):
                await resume(place, tasks, client)

    run(main())


def test_a_fault_of_the_server_ends_the_stream_releases_everything_and_leaves_the_session_to_be_resumed() -> None:
    async def main() -> None:
        async with house(PACED) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks)
            client.ask("Hello there?")
            await asyncio.sleep(0.05)
            client.stream.tell("no event")  # type: ignore[arg-type]  # a fault on purpose
            await client.over()
            assert client.error is not None
            assert client.error.reason == "INTERNAL"
            assert place.rooms.live == {}
            assert place.sessions.open_sessions == 0
            again = await resume(place, tasks, client)
            again.ask("Still there?")
            await again.until(lambda it: any(turn.record.outcome is Outcome.COMPLETED for turn in it.of(TurnEnded)))
            again.hang_up()

    run(main())


def test_turns_are_kept_while_the_store_is_away_and_acknowledged_when_it_is_back() -> None:
    async def main() -> None:
        async with house() as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks)
            place.store.faults.away = True
            client.ask("Hello?")
            await client.until(lambda it: bool(it.of(ReplyEnded)))
            await asyncio.sleep(20)
            assert client.of(TurnEnded) == []
            place.store.faults.away = False
            await client.turns(1)
            client.hang_up()

    run(main())


def test_limits_of_the_replica_and_of_a_tenant_are_kept() -> None:
    async def main() -> None:
        limits = PipelineLimits(max_sessions=2, max_tenant_sessions=1)
        async with house(limits=limits) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks)
            with pytest.raises(QuotaExceededError) as refusal:
                await start(place, tasks)
            assert refusal.value.details["limit"] == "1"
            other = await place.sessions.start(StartRequest("another", FORMATS, OPTIONS))
            with pytest.raises(OverloadedError):
                await place.sessions.start(StartRequest("third", FORMATS, OPTIONS))
            place.sessions.detach(other)
            client.hang_up()

    run(main())


def test_a_silent_client_is_let_go_and_can_resume() -> None:
    async def main() -> None:
        async with house(limits=PipelineLimits(max_idle_s=30)) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks)
            await asyncio.sleep(20)
            client.stream.touch()
            await asyncio.sleep(20)
            assert not client.is_over
            await client.over()
            assert loop_time() == pytest.approx(50)
            assert isinstance(client.error, InputIdleError)
            again = await resume(place, tasks, client)
            again.hang_up()

    run(main())


def test_the_longest_session_is_announced_and_then_ends() -> None:
    async def main() -> None:
        limits = PipelineLimits(max_session_s=100, go_away_s=10, max_idle_s=1000)
        async with house(limits=limits) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks)
            client.stream.touch()
            await client.until(lambda it: bool(it.of(GoAway)))
            assert loop_time() == pytest.approx(90)
            assert not client.of(GoAway)[0].resumable
            await client.over()
            assert isinstance(client.error, SessionTooLongError)
            assert (await place.store.get("tenant", client.stream.session_id)).state == "ended"

    run(main())


def test_a_client_that_does_not_read_is_let_go_and_can_resume() -> None:
    async def main() -> None:
        limits = replace(PipelineLimits(), unread_ms=2_000)
        async with house(limits=limits) as place, asyncio.TaskGroup() as tasks:
            stream = await place.sessions.start(StartRequest("tenant", FORMATS, OPTIONS, greeting="word " * 60))
            await asyncio.sleep(30)
            with pytest.raises(SlowConsumerError):
                async for _ in stream.events():
                    pass
            assert place.sessions.attached_streams == 0
            place.sessions.detach(stream)
            del tasks

    run(main())


def test_a_deleted_session_ends_its_stream_at_once() -> None:
    async def main() -> None:
        async with house() as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks)
            await place.sessions.delete("tenant", client.stream.session_id)
            await client.over()
            assert isinstance(client.error, SessionDeletedError)

    run(main())
