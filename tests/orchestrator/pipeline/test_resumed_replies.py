"""A reply that was stopped goes on where it was heard to, and sounds as if it had never been stopped."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.orchestrator.conversation.events import Playback
from services.orchestrator.conversation.options import BargeInOptions, Options, VoiceOptions
from services.orchestrator.conversation.outputs import (
    Interrupted,
    InterruptionReason,
    ReplyAudio,
    ReplyEnded,
    ReplyResumed,
    ReplyText,
    TurnEnded,
)
from services.orchestrator.conversation.record import Outcome
from services.orchestrator.pipeline.made import AudioPiece, Made
from services.shared.errors import RoomUnavailableError
from services.shared.prompt.speech.clauses import split_clauses
from tests.fakes.clock import run
from tests.fakes.rooms import PACED, FakeRooms, Fault, Pace, Paces
from tests.fakes.store import FakeSessionStore
from tests.orchestrator.pipeline.house import LIMITS, OPTIONS, Client, House, house, resume, start, wall_time

pytestmark = pytest.mark.unit

ANSWER = "（高兴）It rains in Lisbon today. Take an umbrella with you, and a coat. The sun comes back tomorrow. " * 3
RATE_HZ = 22_050
SLOW_TEXT = replace(PACED, reply=Pace(0.03, 0.3))
Wave = np.ndarray[tuple[int], np.dtype[np.float32]]


def whole_reply(options: Options, paces: Paces) -> tuple[str, Wave]:
    async def main() -> tuple[str, Wave]:
        async with house(paces) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks, options=options)
            place.rooms.chat.answers.append(ANSWER)
            client.ask("How is the weather?")
            await client.turns(1)
            client.hang_up()
            return client.text, client.samples

    return run(main())


async def lose_and_resume(
    place: House, tasks: asyncio.TaskGroup, client: Client, *, after_s: float, unheard: int
) -> Client:
    """Hang up in mid-answer and come back, with all but the newest samples heard."""
    await asyncio.sleep(after_s)
    heard = max(len(client.samples) - unheard, 0)
    client.hang_up()
    return await resume(place, tasks, client, playback=Playback(1, heard))


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.0, 4.0), st.integers(0, 66_000)), min_size=1, max_size=3),
    st.sampled_from([PACED, SLOW_TEXT]),
    st.sampled_from([VoiceOptions(seed=7), VoiceOptions(seed=7, volume=0.5)]),
)
def test_a_reply_that_is_lost_again_and_again_is_heard_once_and_whole(
    losses: list[tuple[float, int]], paces: Paces, voice: VoiceOptions
) -> None:
    options = replace(OPTIONS, voice=voice)
    text, samples = whole_reply(options, paces)

    async def main() -> None:
        async with house(paces) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks, options=options)
            place.rooms.chat.answers.extend([ANSWER] * (len(losses) + 1))
            client.ask("How is the weather?")
            heard, said = np.zeros(0, np.float32), ""
            for after_s, unheard in losses:
                before = len(heard)
                await asyncio.sleep(after_s)
                heard, said = np.concatenate([heard, client.samples]), said + client.text
                played = max(len(heard) - unheard, 0)
                client.hang_up()
                client = await resume(place, tasks, client, playback=Playback(1, played))
                assert before <= len(heard)
                if resumed := client.of(ReplyResumed):
                    assert text.startswith(resumed[0].text)
                    assert resumed[0].first_sample <= len(heard)
                    heard, said = heard[: resumed[0].first_sample], resumed[0].text
            await client.turns(1)
            heard, said = np.concatenate([heard, client.samples]), said + client.text
            (turn,) = client.of(TurnEnded)
            assert turn.record.outcome is Outcome.COMPLETED
            assert turn.record.agent_text == text
            assert said == text
            assert np.allclose(heard, samples, atol=1e-6)
            client.hang_up()
        assert place.rooms.live == {}

    run(main())


def test_going_on_costs_the_rooms_only_what_was_not_made_yet() -> None:
    async def main() -> None:
        async with house(PACED) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks)
            place.rooms.chat.answers.append(ANSWER)
            client.ask("How is the weather?")
            await client.until(lambda it: len(it.samples) > 10 * RATE_HZ)
            asked, spoken = place.rooms.chat.begun, len(place.rooms.speech.spoken)
            again = await lose_and_resume(place, tasks, client, after_s=0.0, unheard=RATE_HZ)
            assert again.of(ReplyResumed)[0].first_sample == len(client.samples) - RATE_HZ
            await again.turns(1)
            assert again.of(ReplyAudio)[0].first_sample == len(client.samples) - RATE_HZ
            assert place.rooms.chat.begun == asked
            assert len(place.rooms.speech.spoken) - spoken < len(set(split_clauses(ANSWER))) * 2
            again.hang_up()

    run(main())


def test_audio_that_was_heard_is_not_kept() -> None:
    made = Made(clause_ends=[100, 250])
    for first in range(0, 400, 50):
        made.keep(AudioPiece(first, first + 50, 0, np.arange(first, first + 50), None))
    made.forget(120)
    assert made.pieces[0].first_sample == 100
    start_at = made.copy().rewind(130)
    assert [piece.first_sample for piece in start_at.pieces] == [130, 150, 200, 250, 300, 350]
    assert start_at.pieces[0].samples[0] == 130
    assert (start_at.sample, start_at.clauses, start_at.clause_sample) == (400, 2, 250)
    forgotten = made.rewind(60)
    assert forgotten.pieces == ()
    assert (forgotten.sample, forgotten.clauses, forgotten.clause_sample) == (60, 0, 0)


BARGE_IN = replace(
    OPTIONS,
    turn_taking=replace(OPTIONS.turn_taking, barge_in=BargeInOptions(enabled=True, false_interruption_ms=600)),
)


@pytest.mark.parametrize("words", ["", "No, wait a moment."])
def test_speech_without_words_lets_the_reply_go_on_and_words_end_it(words: str) -> None:
    text, samples = whole_reply(OPTIONS, PACED)

    async def main() -> None:
        async with house(PACED) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks, options=BARGE_IN)
            place.rooms.chat.answers.extend([ANSWER, "Certainly, my friend."])
            place.rooms.chat.transcripts.extend([words, words])
            client.ask("How is the weather?")
            await client.speak(2.0, 0.0)
            await client.speak(0.45, 0.5)
            assert [output.reason for output in client.of(Interrupted)] == [InterruptionReason.SPEECH]
            assert place.rooms.live == {"tokenizer": 1}
            await client.speak(3.0, 0.0)
            if words:
                await client.turns(2)
                outcomes = [turn.record.outcome for turn in client.of(TurnEnded)]
                assert outcomes == [Outcome.INTERRUPTED, Outcome.COMPLETED]
                assert client.of(ReplyResumed) == []
                assert text.startswith(client.of(TurnEnded)[0].record.agent_text)
            else:
                await client.turns(1)
                assert client.of(TurnEnded)[0].record.outcome is Outcome.COMPLETED
                assert "".join(output.text for output in client.of(ReplyText)) == text
                first = client.of(ReplyResumed)[0].first_sample
                place_of = client.outputs.index(client.of(ReplyResumed)[0])
                after = [output for output in client.outputs[place_of:] if isinstance(output, ReplyAudio)]
                tail = np.concatenate([np.asarray(output.samples) for output in after])
                assert after[0].first_sample == first
                assert np.array_equal(tail, samples[first:])
                assert client.of(ReplyEnded)[0].total_samples == len(samples)
            client.hang_up()
        assert place.rooms.live == {}

    run(main())


@settings(max_examples=15, deadline=None)
@given(st.floats(0.0, 6.0), st.integers(0, 66_000), st.sampled_from([PACED, SLOW_TEXT]), st.booleans())
def test_another_replica_goes_on_with_a_reply_in_mid_answer(
    after_s: float, unheard: int, paces: Paces, is_spoken: bool
) -> None:
    text, samples = whole_reply(OPTIONS, paces)

    async def main() -> None:
        store, rooms = FakeSessionStore(clock=wall_time), FakeRooms(paces, sleep=asyncio.sleep)
        async with (
            house(store=store, rooms=rooms) as one,
            house(store=store, rooms=rooms, owner="replica-2") as two,
            asyncio.TaskGroup() as tasks,
        ):
            client = await start(one, tasks)
            rooms.chat.answers.extend([ANSWER] * 3)
            if is_spoken:
                await client.speak(1.5, 0.5)
                await client.speak(0.8, 0.0)
            else:
                client.ask("How is the weather?")
            await client.until(lambda it: bool(it.of(ReplyAudio)))
            await asyncio.sleep(after_s)
            heard = client.samples
            played = max(len(heard) - unheard, 0)
            again = await resume(two, tasks, client, playback=Playback(1, played))
            await again.turns(1)
            (resumed,) = again.of(ReplyResumed)
            assert resumed.first_sample == played
            (turn,) = again.of(TurnEnded)
            assert turn.record.outcome is Outcome.COMPLETED
            assert turn.record.agent_text == resumed.text + again.text == text
            assert ("groups" in turn.record.user_text) == is_spoken
            assert np.array_equal(np.concatenate([heard[:played], again.samples]), samples)
            spoken = [piece.spoken_characters for piece in again.of(ReplyAudio)]
            assert spoken == sorted(spoken)
            again.hang_up()
        assert rooms.live == {}

    run(main())


def test_a_reply_that_another_replica_cannot_make_again_ends_as_interrupted() -> None:
    async def main() -> None:
        store, rooms = FakeSessionStore(clock=wall_time), FakeRooms(PACED, sleep=asyncio.sleep)
        async with (
            house(store=store, rooms=rooms) as one,
            house(store=store, rooms=rooms, owner="replica-2") as two,
            asyncio.TaskGroup() as tasks,
        ):
            client = await start(one, tasks)
            rooms.chat.answers.append(ANSWER)
            client.ask("How is the weather?")
            await client.until(lambda it: len(it.samples) > 5 * RATE_HZ)
            client.hang_up()
            await asyncio.sleep(0.1)
            rooms.vocoder.faults.append(Fault(RoomUnavailableError("gone")))
            again = await resume(two, tasks, client, playback=Playback(1, 4 * RATE_HZ))
            await again.turns(1)
            kinds = {type(output) for output in again.outputs}
            assert kinds.isdisjoint({ReplyResumed, ReplyAudio, ReplyEnded})
            assert again.of(TurnEnded)[0].record.outcome is not Outcome.COMPLETED
            again.ask("Are you there?")
            await again.turns(2)
            again.hang_up()
        assert rooms.live == {}

    run(main())


def test_speech_whose_words_could_not_be_had_at_the_pause_is_not_forgotten() -> None:
    async def main() -> None:
        async with house(PACED) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks, options=BARGE_IN)
            place.rooms.chat.answers.extend([ANSWER, "Certainly, my friend."])
            place.rooms.chat.faults.extend([None, Fault(RoomUnavailableError("gone"))])
            place.rooms.chat.transcripts.append("No, wait a moment.")
            client.ask("How is the weather?")
            await client.speak(2.0, 0.0)
            await client.speak(0.45, 0.5)
            await client.speak(3.0, 0.0)
            await client.turns(2)
            assert client.of(ReplyResumed) == []
            assert client.of(TurnEnded)[1].record.user_text == "No, wait a moment."
            client.hang_up()

    run(main())


def test_a_client_that_comes_back_after_minutes_hears_the_rest_and_its_absence_counts_as_silence() -> None:
    text, samples = whole_reply(OPTIONS, PACED)

    async def main() -> None:
        async with house(PACED, limits=replace(LIMITS, resume_window_s=1000.0)) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks)
            place.rooms.chat.answers.extend([ANSWER, "I am still here."])
            client.ask("How is the weather?")
            await client.speak(2.0, 0.0)
            again = await lose_and_resume(place, tasks, client, after_s=0.0, unheard=RATE_HZ)
            await asyncio.sleep(1.0)
            again.stream.hear(np.zeros(320, np.float32), again.stream.input_end_sample + 400 * 16_000)
            await again.turns(1)
            assert again.of(TurnEnded)[0].record.outcome is Outcome.COMPLETED
            assert again.of(TurnEnded)[0].record.agent_text == text
            assert again.of(ReplyEnded)[0].total_samples == len(samples)
            await again.speak(1.5, 0.5)
            await again.speak(2.0, 0.0)
            await again.turns(2)
            again.hang_up()
        assert place.rooms.live == {}

    run(main())
