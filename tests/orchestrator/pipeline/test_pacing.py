"""Each piece of speech is asked for with the slack its listener has, and does without what the governor gives up."""

import asyncio
from dataclasses import replace

import pytest

from services.orchestrator.conversation.events import Acknowledged, Playback
from services.orchestrator.conversation.governor import CALM_S, SETTLING_S, STRIKES
from services.orchestrator.conversation.options import Options, SpeculationOptions
from services.orchestrator.conversation.outputs import ReplyAudio, TurnEnded
from services.orchestrator.conversation.record import Degradation
from services.orchestrator.pipeline.gate import Gate
from services.orchestrator.pipeline.limits import RationLimits, ReplyLimits
from services.orchestrator.pipeline.meter import Meter
from services.orchestrator.pipeline.observer import Unobserved
from services.orchestrator.pipeline.pacing import Pacing
from services.orchestrator.pipeline.rations import Rations
from services.orchestrator.ports.rooms import Haste
from tests.fakes.clock import run
from tests.fakes.rooms import PACED, Pace, Paces
from tests.orchestrator.pipeline.house import OPTIONS, Client, House, house, loop_time, start

pytestmark = pytest.mark.unit

LIMITS = ReplyLimits()
SMALLER, FEWER, SILENT = Degradation
ANSWER = "It rains in Lisbon today. Take an umbrella with you, and a coat. The sun comes back tomorrow. " * 3
NO_SEED = replace(OPTIONS, voice=replace(OPTIONS.voice, seed=None))
AHEAD = replace(NO_SEED, turn_taking=replace(NO_SEED.turn_taking, speculation=SpeculationOptions(enabled=True)))
SLOW = replace(PACED, wave=Pace(2.5, 2.5))
"""A vocoder that takes longer for a chunk than the longest one is heard: no listener has anything left."""


class Clock:
    """Moves when it is told to."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Bench:
    """The pace of one reply, on a replica that has fallen to a level."""

    def __init__(self, level: int = 0, *, is_open: bool = True, has_seed: bool = False) -> None:
        self.clock, self.ahead_ms = Clock(), 0.0
        self.rations = Rations(RationLimits(), self.clock)
        for _ in range(level * STRIKES):
            self.rations.margin(0.0)
            self.clock.now_s += SETTLING_S
        assert self.rations.level == level
        self.gate = Gate(is_open=is_open, ahead_ms=0)
        self.meter = Meter(self.clock, Unobserved())
        self.has_seed = has_seed
        self.pacing = self.new_reply()

    def new_reply(self) -> Pacing:
        return Pacing(
            LIMITS,
            self.rations,
            ahead_ms=lambda: self.ahead_ms,
            gate=self.gate,
            meter=self.meter,
            has_seed=self.has_seed,
        )

    @property
    def degradations(self) -> tuple[Degradation, ...]:
        return self.meter.work().degradations


def test_the_slack_is_the_audio_ahead_and_of_a_clause_the_speech_that_is_voiced_before_it_too() -> None:
    bench = Bench()
    assert (bench.pacing.slack_ms(), bench.pacing.haste()) == (0, Haste())
    bench.ahead_ms = 830.4
    assert bench.pacing.haste() == Haste(slack_ms=830)
    assert bench.pacing.slack_ms(600.0) == 1430


def test_a_prepared_reply_can_wait_longer_until_it_is_committed() -> None:
    bench = Bench(is_open=False)
    assert bench.pacing.haste() == Haste(slack_ms=LIMITS.prepared_slack_ms)
    bench.gate.open()
    assert bench.pacing.haste() == Haste()


TABLE = [
    # level, seed chosen, flow steps and first hop of the first push, of a later one, what the metrics say
    (0, False, (0, 0), (0, 0), ()),
    (1, False, (0, 175), (0, 0), (SMALLER,)),
    (2, False, (4, 175), (4, 0), (SMALLER, FEWER)),
    (3, False, (4, 175), (4, 0), (SMALLER, FEWER)),
    (3, True, (0, 175), (0, 0), (SMALLER,)),
]


@pytest.mark.parametrize(("level", "has_seed", "first", "later", "told"), TABLE)
def test_what_a_reply_does_without_at_each_level(
    level: int, has_seed: bool, first: tuple[int, int], later: tuple[int, int], told: tuple[Degradation, ...]
) -> None:
    bench = Bench(level, has_seed=has_seed)
    chunks_ms = [bench.pacing.first_chunk_ms()]
    hastes = [bench.pacing.haste()]
    bench.pacing.came(300.0)
    chunks_ms.append(bench.pacing.first_chunk_ms())
    hastes.append(bench.pacing.haste())
    assert [(haste.flow_steps, haste.first_hop_ms) for haste in hastes] == [first, later]
    assert chunks_ms == [480 if first[1] else LIMITS.first_chunk_ms, LIMITS.first_chunk_ms]
    assert bench.degradations == told


def test_first_samples_and_those_of_a_prepared_reply_say_nothing_of_the_rooms() -> None:
    for bench, level in ((Bench(), 1), (Bench(is_open=False), 0)):
        bench.pacing.came(300.0)
        for _ in range(STRIKES - 1):
            bench.pacing.came(300.0)
        assert bench.rations.level == 0
        bench.pacing.came(300.0)
        assert bench.rations.level == level


def test_a_reply_that_has_just_begun_says_something_of_the_rooms_only_where_its_listener_has_nothing_left() -> None:
    for margin_ms, level in ((1.0, 0), (0.0, 1)):
        bench = Bench()
        bench.pacing.came(300.0)
        bench.ahead_ms = margin_ms
        for _ in range(STRIKES):
            bench.pacing.came(200.0)
        assert bench.rations.level == level


def test_a_reply_that_had_a_second_to_get_ahead_tells_how_the_rooms_keep_up() -> None:
    bench = Bench()
    bench.pacing.came(1000.0)
    bench.ahead_ms = 239.0
    for _ in range(STRIKES):
        assert bench.rations.level == 0
        bench.pacing.came(300.0)
    assert bench.rations.level == 1


def test_replies_that_begin_again_and_again_do_not_keep_a_level_that_is_not_needed() -> None:
    bench = Bench(1)
    bench.ahead_ms = 150.0  # what is left of a first chunk
    for _ in range(6):
        bench.clock.now_s += CALM_S / 4
        bench.pacing = bench.new_reply()
        bench.pacing.came(300.0)
        bench.pacing.came(300.0)
        bench.rations.review()
    assert bench.rations.level == 0


async def _asked(place: House, client: Client, turn: int) -> TurnEnded:
    place.rooms.chat.answers.append(ANSWER)
    client.ask("How is the weather?")
    await client.turns(turn)
    return client.of(TurnEnded)[-1]


def test_in_a_conversation_the_slack_grows_with_what_the_listener_has_and_is_never_more() -> None:
    async def main() -> None:
        async with house(PACED) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks)
            await _asked(place, client, 1)
            slacks_ms = [haste.slack_ms for haste in place.rooms.vocoder.hastes]
            assert slacks_ms[0] == 0
            assert all(slack_ms > 0 for slack_ms in slacks_ms[1:])
            most_ms = place.limits.reply.max_playout_lead_ms + place.limits.reply.audio_ms
            assert max(slacks_ms) <= most_ms
            speech_ms = [work.slack_ms for work in place.rooms.speech.works]
            assert speech_ms[0] == 0
            assert all(slack_ms > 500 for slack_ms in speech_ms[1:])
            client.hang_up()

    run(main())


def test_a_prepared_replys_requests_have_more_slack_than_those_of_one_that_is_heard() -> None:
    async def main() -> None:
        async with house(PACED) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks, options=AHEAD)
            place.rooms.chat.answers.append(ANSWER)
            await client.speak(1.5, 0.5)
            talking = tasks.create_task(client.speak(2.0, 0.0))
            await client.until(lambda it: bool(it.of(ReplyAudio)))
            assert place.rooms.vocoder.hastes[0].slack_ms >= place.limits.reply.prepared_slack_ms
            assert place.rooms.speech.works[0].slack_ms >= place.limits.reply.prepared_slack_ms
            await talking
            client.hang_up()

    run(main())


async def _with_slow_rooms(paces: Paces, options: Options, turns: int) -> tuple[House, list[TurnEnded]]:
    async with house(paces) as place, asyncio.TaskGroup() as tasks:
        client = await start(place, tasks, options=options)
        ended = [await _asked(place, client, turn + 1) for turn in range(turns)]
        place.rooms.vocoder._paces = PACED
        await asyncio.sleep(4 * CALM_S)
        ended.append(await _asked(place, client, turns + 1))
        client.hang_up()
        return place, ended


def test_replies_do_without_more_and_more_while_the_vocoder_is_slow_and_get_it_back() -> None:
    place, ended = run(_with_slow_rooms(SLOW, NO_SEED, 3))
    told = [turn.record.metrics.degradations for turn in ended]
    assert told[0] == (FEWER,)
    assert told[1] == told[2] == (SMALLER, FEWER)
    assert told[3] == ()
    assert place.rooms.vocoder.hastes[-1].flow_steps == 0
    assert {haste.flow_steps for haste in place.rooms.vocoder.hastes} == {0, 4}
    assert {haste.first_hop_ms for haste in place.rooms.vocoder.hastes} == {0, 175}


def test_a_client_that_has_played_all_as_soon_as_it_came_says_nothing_of_the_rooms() -> None:
    async def main() -> None:
        async with house(PACED) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks, options=NO_SEED)
            tasks.create_task(_play_at_once(client))
            ended = [await _asked(place, client, turn + 1) for turn in range(4)]
            assert [turn.record.metrics.degradations for turn in ended] == [()] * 4
            assert place.sessions.degradation_level == 0
            client.hang_up()

    run(main())


async def _play_at_once(client: Client) -> None:
    """Acknowledge every sample of a reply when it is sent, until the client hangs up."""
    said = 0
    while not client.is_over:
        audio = client.of(ReplyAudio)
        if len(audio) > said:
            said = len(audio)
            turn = next(emitted.turn for _, emitted in reversed(client.emitted) if emitted.output is audio[-1])
            client.stream.tell(Acknowledged(loop_time(), Playback(turn, audio[-1].end_sample)))
        await asyncio.sleep(0.01)


def test_with_rooms_that_keep_up_nothing_is_given_up() -> None:
    place, ended = run(_with_slow_rooms(PACED, NO_SEED, 3))
    assert [turn.record.metrics.degradations for turn in ended] == [()] * 4
    assert {(haste.flow_steps, haste.first_hop_ms) for haste in place.rooms.vocoder.hastes} == {(0, 0)}


def test_a_pause_without_a_prepared_reply_is_told_where_the_rooms_had_fallen_behind() -> None:
    async def main() -> None:
        async with house(SLOW) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks, options=AHEAD)
            await _asked(place, client, 1)
            place.rooms.chat.answers.append(ANSWER)
            await client.speak(1.5, 0.5)
            await client.speak(2.0, 0.0)
            await client.turns(2)
            metrics = client.of(TurnEnded)[1].record.metrics
            assert metrics.speculation.withheld == 1
            assert metrics.speculation.started == 0
            assert metrics.degradations == (SMALLER, FEWER, SILENT)
            client.hang_up()

    run(main())
