"""What needs the words of speech that is still open: partial transcripts, short answers, listeners' sounds."""

import asyncio
from dataclasses import replace

import pytest

from services.orchestrator.conversation.options import BargeInOptions, Options
from services.orchestrator.conversation.outputs import Interrupted, Transcript, TurnEnded
from services.orchestrator.conversation.record import Outcome
from services.shared.errors import RoomUnavailableError
from tests.fakes.clock import run
from tests.fakes.rooms import PACED, Fault
from tests.orchestrator.pipeline.house import OPTIONS, house, loop_time, start, wait_for_an_answer

pytestmark = pytest.mark.unit

LONG = "It rains in Lisbon today. Take an umbrella with you, and a coat. The sun comes back tomorrow. " * 3
PARTIAL = replace(OPTIONS, partial_transcripts=True)


def barging(**knobs: object) -> Options:
    barge_in = BargeInOptions(enabled=True, **knobs)  # type: ignore[arg-type]  # the knobs are the caller's
    return replace(OPTIONS, turn_taking=replace(OPTIONS.turn_taking, barge_in=barge_in))


def test_words_are_told_at_each_pause_and_once_more_when_the_turn_is_over() -> None:
    async def main() -> None:
        async with house(PACED) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks, options=PARTIAL)
            place.rooms.chat.transcripts.extend(["I would", "I would like", "I would like tea"])
            await client.speak(1.0, 0.5)
            await client.speak(0.5, 0.0)
            await client.speak(1.0, 0.5)
            await client.speak(3.0, 0.0)
            await client.turns(1)
            said = client.of(Transcript)
            assert [(part.text, part.is_final) for part in said] == [
                ("I would", False),
                ("I would like", False),
                ("I would like tea", True),
            ]
            assert said[0].end_sample < said[1].end_sample <= said[2].end_sample
            first, second, last = place.rooms.chat.heard
            assert len(first) < len(second) <= len(last)
            client.hang_up()

    run(main())


def test_words_that_cannot_be_had_at_a_pause_cost_the_turn_nothing() -> None:
    async def main() -> None:
        async with house(PACED) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks, options=PARTIAL)
            place.rooms.chat.faults.append(Fault(RoomUnavailableError("gone")))
            await client.speak(1.0, 0.5)
            await client.speak(3.0, 0.0)
            await client.turns(1)
            assert [part.is_final for part in client.of(Transcript)] == [True]
            assert client.of(TurnEnded)[0].record.outcome is Outcome.COMPLETED
            client.hang_up()

    run(main())


def test_a_one_word_answer_is_answered_sooner() -> None:
    def answered_s(words: str) -> float:
        async def main() -> float:
            taking = replace(OPTIONS.turn_taking.while_idle, one_word_silence_ms=350)
            options = replace(OPTIONS, turn_taking=replace(OPTIONS.turn_taking, while_idle=taking))
            async with house(PACED) as place, asyncio.TaskGroup() as tasks:
                client = await start(place, tasks, options=options)
                place.rooms.chat.transcripts.extend([words, words])
                return await wait_for_an_answer(client, tasks, spoken_s=0.6)

        return run(main())

    assert answered_s("Yes.") < 0.5 < 0.6 <= answered_s("I would like tea")


def test_speech_interrupts_a_reply_and_is_answered() -> None:
    async def main() -> None:
        async with house(PACED) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks, options=barging())
            place.rooms.chat.answers.extend([LONG, "Certainly, my friend."])
            client.ask("How is the weather?")
            await client.speak(2.0, 0.0)
            spoken_s = loop_time()
            talking = tasks.create_task(client.speak(1.0, 0.5))
            await client.until(lambda it: bool(it.of(Interrupted)))
            assert loop_time() - spoken_s <= 0.3
            await asyncio.sleep(0.001)
            assert place.rooms.live == {"tokenizer": 1}
            await talking
            await client.speak(3.0, 0.0)
            await client.turns(2)
            outcomes = [turn.record.outcome for turn in client.of(TurnEnded)]
            assert outcomes == [Outcome.INTERRUPTED, Outcome.COMPLETED]
            heard = client.of(TurnEnded)[0].record.agent_text
            assert 0 < len(heard) < len(LONG)
            assert LONG.startswith(heard)
            client.hang_up()
        assert place.rooms.live == {}

    run(main())


@pytest.mark.parametrize(("words", "turns"), [("mm-hm", 1), ("stop", 2)])
def test_a_listeners_sound_lets_the_reply_go_on_and_a_short_word_does_not(words: str, turns: int) -> None:
    async def main() -> None:
        async with house(PACED) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks, options=barging(ignore_back_channels=True))
            place.rooms.chat.answers.extend([LONG, "Certainly, my friend."])
            place.rooms.chat.transcripts.extend([words, words])
            client.ask("How is the weather?")
            await client.speak(2.0, 0.0)
            await client.speak(0.2, 0.5)
            await client.speak(25.0, 0.0)
            ended = client.of(TurnEnded)
            assert len(ended) == turns
            assert ended[0].record.outcome is (Outcome.COMPLETED if turns == 1 else Outcome.INTERRUPTED)
            assert len(client.of(Interrupted)) == turns - 1
            client.hang_up()

    run(main())
