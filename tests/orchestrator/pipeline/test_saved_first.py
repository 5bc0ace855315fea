"""Audio is heard when the store has what another replica makes it again from; a store that is away mutes nobody."""

import asyncio

import pytest

from services.orchestrator.conversation.outputs import ReplyAudio, TurnEnded
from tests.fakes.clock import run
from tests.fakes.rooms import PACED
from tests.orchestrator.pipeline.house import LIMITS, house, loop_time, start

pytestmark = pytest.mark.unit

ANSWER = "It rains in Lisbon today. Take an umbrella with you, and a coat. The sun comes back tomorrow."


def first_audio_s(opens_s: float | None) -> float:
    """When the first audio comes of a reply whose state the store takes from some moment on, or never."""

    async def main() -> float:
        async with house(PACED) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks)
            gate = asyncio.Event()
            if opens_s is not None:
                asyncio.get_running_loop().call_later(opens_s, gate.set)
            place.store.faults.gates["save_open_turn"] = gate
            place.rooms.chat.answers.append(ANSWER)
            begun_s = loop_time()
            client.ask("How is the weather?")
            await client.until(lambda it: bool(it.of(ReplyAudio)))
            heard_s = loop_time() - begun_s
            gate.set()
            await client.turns(1)
            client.hang_up()
            return heard_s

    return run(main())


def test_audio_waits_until_its_text_is_saved_and_for_a_moment_at_most() -> None:
    soonest_s = first_audio_s(0.0)
    assert first_audio_s(soonest_s + 0.1) == pytest.approx(soonest_s + 0.1, abs=0.02)
    assert first_audio_s(None) == pytest.approx(soonest_s + LIMITS.saved_s, abs=0.02)


def test_what_is_saved_when_audio_is_heard_has_its_text() -> None:
    async def main() -> None:
        async with house(PACED) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks)
            place.rooms.chat.answers.append(ANSWER)
            client.ask("How is the weather?")
            looked = 0
            while not client.of(TurnEnded):
                await asyncio.sleep(0.002)
                if len(client.of(ReplyAudio)) > looked:
                    looked = len(client.of(ReplyAudio))
                    kept = place.store.open_turn("tenant", client.stream.session_id)
                    assert kept is not None
                    assert len(kept.written) >= client.of(ReplyAudio)[-1].spoken_characters
            assert looked > 10
            client.hang_up()

    run(main())
