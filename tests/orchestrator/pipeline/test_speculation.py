"""A reply prepared at a pause: nobody hears of it before the turn's end, and then at once; else no trace is left."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from services.orchestrator.conversation.options import Options, SpeculationOptions
from services.orchestrator.conversation.outputs import ReplyAudio, ReplyStarted, SpeechStopped, TurnEnded
from services.orchestrator.conversation.record import Outcome, SpeculationWork
from services.orchestrator.pipeline.input_audio import InputAudio
from services.orchestrator.pipeline.limits import PipelineLimits
from services.orchestrator.pipeline.session import StreamOpened
from services.orchestrator.pipeline.utterances import SpokenUtterance
from services.orchestrator.ports.rooms import SpeechTokens, Work
from services.shared.errors import CancelledRequestError, RoomUnavailableError
from tests.fakes.clock import run
from tests.fakes.rooms import GROUP_SAMPLES, PACED, FakeRooms, FakeTokenizer, Fault, tokens_of
from tests.orchestrator.pipeline.house import LIMITS, OPTIONS, Client, House, house, loop_time, start

pytestmark = pytest.mark.unit

AHEAD = replace(OPTIONS, turn_taking=replace(OPTIONS.turn_taking, speculation=SpeculationOptions(enabled=True)))
ANSWER = "It rains in Lisbon today. Take an umbrella with you, and a coat. The sun comes back tomorrow. " * 4


async def ask_aloud(place: House, client: Client) -> None:
    place.rooms.chat.answers.append(ANSWER)
    await client.speak(0.5, 0.0)
    await client.speak(1.5, 0.5)
    await client.speak(0.5, 0.0)


def first_audio_s(options: Options) -> tuple[float, Client]:
    async def main() -> tuple[float, Client]:
        async with house(PACED) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks, options=options)
            place.rooms.chat.answers.append(ANSWER)
            await client.speak(1.5, 0.5)
            stopped_s = loop_time()
            talking = tasks.create_task(client.speak(3.0, 0.0))
            await client.until(lambda it: bool(it.of(ReplyAudio)))
            heard_s = loop_time() - stopped_s
            await talking
            await client.turns(1)
            client.hang_up()
            return heard_s, client

    return run(main())


def test_a_prepared_reply_is_heard_sooner_and_is_the_same() -> None:
    plain_s, plain = first_audio_s(OPTIONS)
    ahead_s, ahead = first_audio_s(AHEAD)
    assert ahead.text == plain.text
    assert np.array_equal(ahead.samples, plain.samples)
    record = ahead.of(TurnEnded)[0].record
    saved_ms = record.metrics.speculation.saved_ms
    assert saved_ms > 100
    assert plain_s - ahead_s == pytest.approx(saved_ms / 1000, abs=0.05)
    assert replace(record.metrics.speculation, saved_ms=0) == SpeculationWork(started=1, committed=1)
    assert record.outcome is Outcome.COMPLETED


def test_nobody_hears_of_a_prepared_reply_before_the_turn_has_ended_and_its_work_waits() -> None:
    async def main() -> None:
        async with house(PACED) as place, asyncio.TaskGroup() as tasks:
            taking = replace(AHEAD.turn_taking.while_idle, complete_silence_ms=5000, max_silence_ms=5000)
            options = replace(AHEAD, turn_taking=replace(AHEAD.turn_taking, while_idle=taking))
            client = await start(place, tasks, options=options)
            await ask_aloud(place, client)
            await client.speak(3.0, 0.0)
            assert {type(output) for output in client.outputs[1:]}.isdisjoint({ReplyStarted, ReplyAudio, TurnEnded})
            assert isinstance(client.outputs[0], StreamOpened)
            assert place.rooms.vocoder.begun > 0
            spoken = len(place.rooms.speech.spoken)
            assert 0 < spoken < 6
            assert place.rooms.vocoder.live == place.rooms.speech.live == place.rooms.chat.live == 0
            await client.speak(2.5, 0.0)
            await client.turns(1)
            assert len(place.rooms.speech.spoken) > 2 * spoken
            assert client.text == ANSWER.strip()
            client.hang_up()
        assert place.rooms.live == {}

    run(main())


def test_speech_that_goes_on_throws_the_prepared_reply_away_down_to_the_rooms() -> None:
    async def main() -> None:
        async with house(PACED) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks, options=AHEAD)
            await ask_aloud(place, client)
            assert place.rooms.chat.begun == 1
            place.rooms.chat.answers.append("And this is the answer to all of it.")
            await client.speak(0.2, 0.5)
            assert place.rooms.live == {"tokenizer": 1}
            await client.speak(0.8, 0.5)
            await client.speak(3.0, 0.0)
            await client.turns(1)
            assert client.text == "And this is the answer to all of it."
            first, second = (asked[-1].content for asked in place.rooms.chat.asked)
            assert isinstance(first, SpeechTokens)
            assert isinstance(second, SpeechTokens)
            assert len(second.tokens) > len(first.tokens) > 0
            work = client.of(TurnEnded)[0].record.metrics.speculation
            assert (work.started, work.committed, work.discarded) == (2, 1, 1)
            assert work.wasted_tokens > 0
            client.hang_up()
        assert place.rooms.live == {}

    run(main())


@pytest.mark.parametrize("room", ["chat", "speech", "vocoder"])
def test_a_prepared_reply_that_fails_is_made_anew_when_the_turn_has_ended(room: str) -> None:
    async def main() -> None:
        async with house(PACED) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks, options=AHEAD)
            getattr(place.rooms, room).faults.append(Fault(RoomUnavailableError("gone")))
            place.rooms.chat.answers.extend([ANSWER, ANSWER])
            await client.speak(1.5, 0.5)
            await client.speak(3.0, 0.0)
            await client.turns(1)
            record = client.of(TurnEnded)[0].record
            assert record.outcome is Outcome.COMPLETED
            assert (record.metrics.speculation.committed, record.metrics.speculation.discarded) == (0, 1)
            assert client.text == ANSWER.strip()
            client.hang_up()

    run(main())


def test_a_client_that_hangs_up_leaves_no_prepared_reply_behind() -> None:
    async def main() -> None:
        async with house(PACED) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks, options=AHEAD)
            await ask_aloud(place, client)
            assert client.of(SpeechStopped)
            client.hang_up()
            await asyncio.sleep(0.001)
            assert place.rooms.chat.live == place.rooms.speech.live == place.rooms.vocoder.live == 0
        assert place.rooms.live == {}

    run(main())


def noise(samples: int) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    return np.random.default_rng(3).standard_normal(samples).astype(np.float32)


def utterance_of(samples: int, tokenizer: FakeTokenizer) -> tuple[SpokenUtterance, InputAudio]:
    audio = InputAudio()
    audio.append(noise(samples))
    limits: PipelineLimits = LIMITS
    return SpokenUtterance(audio, 0, tokenizer=tokenizer, work=Work(), limits=limits, clock=loop_time), audio


def test_tokens_of_an_open_utterance_are_those_of_its_audio_so_far() -> None:
    async def main() -> None:
        utterance, _ = utterance_of(10 * GROUP_SAMPLES, FakeRooms(PACED, sleep=asyncio.sleep).tokenizer)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(utterance.run())
            utterance.settle(3 * GROUP_SAMPLES)
            half, more = 5 * GROUP_SAMPLES, 8 * GROUP_SAMPLES
            assert await utterance.tokens_before(half) == tokens_of(noise(10 * GROUP_SAMPLES)[:half])
            assert await utterance.tokens_before(more) == tokens_of(noise(10 * GROUP_SAMPLES)[:more])
            utterance.end(9 * GROUP_SAMPLES)
            whole = tokens_of(noise(10 * GROUP_SAMPLES)[: 9 * GROUP_SAMPLES])
            assert await utterance.tokens() == whole
            assert await utterance.tokens_before(half) == whole

    run(main())


def test_who_asks_an_utterance_that_ends_meanwhile_gets_all_its_tokens() -> None:
    async def main() -> None:
        utterance, _ = utterance_of(4 * GROUP_SAMPLES, FakeRooms(PACED, sleep=asyncio.sleep).tokenizer)
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(utterance.tokens_before(2 * GROUP_SAMPLES))
            await asyncio.sleep(0)
            utterance.end(4 * GROUP_SAMPLES)
            tasks.create_task(utterance.run())
            assert await asked == tokens_of(noise(4 * GROUP_SAMPLES))

    run(main())


def test_who_asks_an_utterance_that_is_dropped_is_told() -> None:
    async def main() -> None:
        utterance, _ = utterance_of(4 * GROUP_SAMPLES, FakeRooms(PACED, sleep=asyncio.sleep).tokenizer)
        running = asyncio.ensure_future(utterance.run())
        asked = [asyncio.ensure_future(utterance.tokens_before(GROUP_SAMPLES)) for _ in range(2)]
        await asyncio.sleep(0.005)
        running.cancel()
        await asyncio.wait([running, *asked])
        assert all(isinstance(task.exception(), CancelledRequestError) for task in asked)

    run(main())


def test_tokens_that_cannot_be_had_at_a_pause_are_had_at_the_end() -> None:
    async def main() -> None:
        tokenizer = FakeRooms(PACED, sleep=asyncio.sleep).tokenizer
        tokenizer.faults.extend([None, Fault(RoomUnavailableError("gone"))])
        utterance, _ = utterance_of(4 * GROUP_SAMPLES, tokenizer)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(utterance.run())
            with pytest.raises(RoomUnavailableError):
                await utterance.tokens_before(2 * GROUP_SAMPLES)
            utterance.end(4 * GROUP_SAMPLES)
            assert await utterance.tokens() == tokens_of(noise(4 * GROUP_SAMPLES))

    run(main())


def test_who_does_not_wait_any_more_costs_the_tokenizer_nothing() -> None:
    async def main() -> None:
        tokenizer = FakeRooms(PACED, sleep=asyncio.sleep).tokenizer
        utterance, _ = utterance_of(4 * GROUP_SAMPLES, tokenizer)
        asked = asyncio.ensure_future(utterance.tokens_before(GROUP_SAMPLES))
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait([asked])
        running = asyncio.ensure_future(utterance.run())
        await asyncio.sleep(1.0)
        assert tokenizer.begun == 0
        utterance.end(4 * GROUP_SAMPLES)
        await running
        assert await utterance.tokens() == tokens_of(noise(4 * GROUP_SAMPLES))

    run(main())
