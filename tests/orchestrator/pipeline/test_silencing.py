"""How long an interrupted reply goes on is measured: from what the client sent to the word that silences its player.

the client  ▒▒▒▒|sent ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ `interrupted` was taken|
the server      |waits for voice activity, decides, sends what was queued before, `interrupted`|
"""

import asyncio
from dataclasses import dataclass, field

import numpy as np
import pytest

from services.orchestrator.conversation.events import Interrupt
from services.orchestrator.conversation.outputs import Interrupted, InterruptionReason, ReplyAudio
from services.orchestrator.pipeline.observer import Unobserved
from services.orchestrator.pipeline.sessions import StartRequest
from services.orchestrator.ports.hearing import FRAME_SAMPLES
from tests.fakes.clock import run
from tests.fakes.hearing import LoudnessDetector
from tests.fakes.rooms import PACED
from tests.orchestrator.pipeline.house import FORMATS, OPTIONS, Client, House, house, loop_time, start
from tests.orchestrator.pipeline.test_resumed_replies import ANSWER, BARGE_IN

pytestmark = pytest.mark.unit

JUDGING_S = 0.05


@dataclass
class Watching(Unobserved):
    """Notes what was silenced, how late, and when it heard of it."""

    silenced_: list[tuple[InterruptionReason, float]] = field(default_factory=list)
    told_s: list[float] = field(default_factory=list)

    def silenced(self, session_id: str, reason: InterruptionReason, within_s: float) -> None:
        self.silenced_.append((reason, within_s))
        self.told_s.append(loop_time())


async def replying(place: House, tasks: asyncio.TaskGroup) -> Client:
    """A client that hears a long answer."""
    client = await start(place, tasks, options=BARGE_IN)
    place.rooms.chat.answers.append(ANSWER)
    client.ask("How is the weather?")
    await client.speak(2.0, 0.0)
    assert client.of(ReplyAudio)
    return client


def test_speech_is_measured_from_its_arrival_and_so_with_the_time_of_judging_it() -> None:
    watching = Watching()

    async def main() -> None:
        detector = LoudnessDetector(delay_s=JUDGING_S)
        async with house(PACED, observer=watching, detector=detector) as place, asyncio.TaskGroup() as tasks:
            client = await replying(place, tasks)
            await client.speak(0.6, 0.5)
            assert client.of(Interrupted)
            client.hang_up()

    run(main())
    ((reason, within_s),) = watching.silenced_
    assert reason is InterruptionReason.SPEECH
    assert JUDGING_S <= within_s <= 2 * JUDGING_S, "it may come while other frames are judged, and then waits for them"


def test_a_word_of_the_clients_is_measured_from_its_arrival_also_where_it_waits_for_audio_before_it() -> None:
    watching = Watching()

    async def main() -> None:
        detector = LoudnessDetector(delay_s=JUDGING_S)
        async with house(PACED, observer=watching, detector=detector) as place, asyncio.TaskGroup() as tasks:
            client = await replying(place, tasks)
            await asyncio.sleep(1.0)
            client.stream.hear(np.zeros(FRAME_SAMPLES, np.float32), client.stream.input_end_sample)
            client.stream.tell(Interrupt(loop_time()))
            await client.until(lambda it: bool(it.of(Interrupted)))
            client.hang_up()

    run(main())
    ((reason, within_s),) = watching.silenced_
    assert reason is InterruptionReason.CLIENT
    assert within_s == pytest.approx(JUDGING_S)


def test_nothing_waits_where_nothing_has_to() -> None:
    watching = Watching()

    async def main() -> None:
        async with house(PACED, observer=watching) as place, asyncio.TaskGroup() as tasks:
            client = await replying(place, tasks)
            await asyncio.sleep(1.0)
            client.stream.tell(Interrupt(loop_time()))
            await client.until(lambda it: bool(it.of(Interrupted)))
            client.hang_up()

    run(main())
    assert watching.silenced_ == [(InterruptionReason.CLIENT, 0.0)]


@pytest.mark.parametrize("is_lost", [False, True])
def test_it_ends_when_a_slow_client_has_taken_the_word_and_not_before(is_lost: bool) -> None:
    watching, taking_s = Watching(), 0.7

    async def main() -> None:
        async with house(PACED, observer=watching) as place:
            stream = await place.sessions.start(StartRequest("tenant", FORMATS, OPTIONS))
            client = Client(place, stream)
            place.rooms.chat.answers.append(ANSWER)
            client.ask("How is the weather?")
            events = stream.events()
            async for emitted in events:
                stream.number()
                if isinstance(emitted.output, ReplyAudio):
                    stream.tell(Interrupt(loop_time()))
                    break
            async for emitted in events:
                if isinstance(emitted.output, Interrupted):
                    await asyncio.sleep(taking_s)
                    assert watching.silenced_ == []
                    break
            if not is_lost:
                await anext(events)
            await events.aclose()
            place.sessions.detach(stream)

    run(main())
    if is_lost:
        assert watching.silenced_ == []
    else:
        ((_, within_s),) = watching.silenced_
        assert within_s == pytest.approx(taking_s, abs=0.01)
