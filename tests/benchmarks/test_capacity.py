"""The capacity model against what is known of queues, and the search for the fewest servers."""

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
import simpy

from benchmarks.capacity.laws import H800X8, PassLaw, Pool, StepLaw, read_deployment, write_deployment
from benchmarks.capacity.simulation import PassServer, Process, Processor, Seen, StepServer, simulate
from benchmarks.capacity.sizing import Objectives, UnreachableError, scaled, size
from benchmarks.capacity.workload import TOKEN_S, Habits, Turn, everyday_turn, one_of

pytestmark = pytest.mark.unit
ALONE = Turn(pause_s=1.0, speech_s=2.4, prompt_tokens=100, clauses=((10, 80), (12, 90)))


def test_a_queue_of_single_requests_is_as_long_as_theory_says() -> None:
    """M/D/1: the mean wait is rho / (2 (1 - rho)) service times (Pollaczek and Khinchine)."""
    env, seen, chance = simpy.Environment(), Seen(), random.Random(1)
    server = PassServer(env, "vocoder", Pool(PassLaw(0.0, 1.0, 0.0), 1, 0, 1), Processor(env, None), seen)
    waits: list[float] = []

    def ask() -> Process:
        asked_s = env.now
        yield server.ask(0.0, deadline_s=asked_s)
        waits.append(env.now - asked_s - 1.0)

    def arrive() -> Process:
        while True:
            yield env.timeout(chance.expovariate(0.7))
            env.process(ask())

    env.process(arrive())
    env.run(40_000)
    assert sum(waits) / len(waits) == pytest.approx(0.7 / (2 * 0.3), rel=0.05)
    assert seen.delayed_s["vocoder"] == pytest.approx(sum(waits), rel=0.01)


def test_a_pass_takes_the_earliest_deadlines_that_fit() -> None:
    env = simpy.Environment()
    server = PassServer(env, "vocoder", Pool(PassLaw(1.0, 0.0, 0.0), 1, 0, 2), Processor(env, None), Seen())
    ended: dict[str, float] = {}
    for name, deadline_s in (("late", 9.0), ("soon", 2.0), ("now", 1.0), ("later", 8.0)):

        def note(_: object, name: str = name) -> None:
            ended[name] = env.now

        server.ask(0.0, deadline_s=deadline_s).callbacks.append(note)
    env.run()
    assert ended == {"now": 1.0, "soon": 1.0, "later": 2.0, "late": 2.0}


def test_sequences_share_steps_and_join_between_them() -> None:
    env, seen = simpy.Environment(), Seen()
    law = StepLaw(fixed_s=1.0, sequence_s=0.5, prompt_s=0.0, prompt_token_s=0.0)
    server = StepServer(env, "lm", Pool(law, 1, 0, 2), Processor(env, None), seen)
    ended = [server.ask(0, [2])[0], server.ask(0, [4])[0], server.ask(0, [1])[0]]
    env.run(ended[0])
    assert env.now == 4.0  # two steps of two sequences
    env.run(ended[2])
    assert env.now == 6.0  # the third takes the free place
    env.run(ended[1])
    assert env.now == 7.5  # the last step is its own


def test_cores_are_shared_by_all_that_compute() -> None:
    env = simpy.Environment()
    processor = Processor(env, 1)
    both = [env.process(processor.compute(1.0)) for _ in range(2)]
    env.run(simpy.AllOf(env, both))
    assert env.now == pytest.approx(2.0)


def test_alone_a_turn_takes_the_sum_of_its_parts() -> None:
    deployment = replace(
        H800X8,
        tokenizer=Pool(PassLaw(0.0, 0.01, 0.0), 1, 1, 8),
        lm=Pool(StepLaw(0.01, 0.0, 0.02, 0.0), 1, 1, 8),
        tts=Pool(StepLaw(0.002, 0.0, 0.0, 0.0), 1, 1, 8),
        vocoder=Pool(PassLaw(0.03, 0.0, 0.0, 0.04), 1, 1, 8),
    )
    habits = Habits(endpointing_s=0.7, prepare_s=0.7, first_tokens=30)
    seen = simulate(deployment, 1, lambda chance: ALONE, habits=habits, seconds=200.0, warm_up_s=20.0)
    first_s = 0.7 + 0.02 + 10 * 0.01 + 30 * 0.002 + 0.03 + 0.04
    assert seen.first_audio_s == pytest.approx([first_s] * seen.turns)
    assert seen.underrun_turns == 0
    cycle_s = ALONE.pause_s + ALONE.speech_s + first_s + ALONE.reply_s
    assert seen.turns == pytest.approx(200.0 / cycle_s, abs=1)


def test_what_is_prepared_at_a_pause_is_heard_when_the_turn_has_ended() -> None:
    habits = Habits(endpointing_s=0.7, prepare_s=0.2)
    quick = replace(H800X8, lm=Pool(StepLaw(0.001, 0.0, 0.0, 0.0), 1, 4, 8))
    seen = simulate(quick, 1, lambda chance: ALONE, habits=habits, seconds=60.0, warm_up_s=10.0)
    assert seen.first_audio_s == pytest.approx([0.7] * seen.turns)


def test_a_room_that_is_slower_than_speech_runs_listeners_dry() -> None:
    slow = replace(H800X8, tts=Pool(StepLaw(1.2 * TOKEN_S, 0.0, 0.0, 0.0), 1, 1, 8))
    long = replace(ALONE, clauses=((10, 400),))
    seen = simulate(slow, 1, lambda chance: long, habits=Habits(), seconds=120.0, warm_up_s=20.0)
    assert seen.underrun_turns == seen.turns > 0


def test_the_same_seed_sees_the_same_conversations() -> None:
    def seen(seed: int) -> Seen:
        return simulate(H800X8, 8, everyday_turn, habits=Habits(), seconds=30.0, warm_up_s=5.0, seed=seed)

    assert seen(1) == seen(1) != seen(2)


def test_the_search_ends_at_the_fewest_servers_that_keep_the_objectives() -> None:
    def observe(deployment: object, conversations: int) -> Seen:
        assert isinstance(deployment, type(H800X8))
        servers = {name: deployment.pool(name).servers for name in ("tokenizer", "lm", "tts", "vocoder")}
        needed = {"tokenizer": 1, "lm": 3, "tts": 2, "vocoder": 7}
        late = any(servers[name] < number for name, number in needed.items())
        delayed = {name: max(0.0, needed[name] - servers[name]) + 0.1 for name in needed}
        return Seen(first_audio_s=[2.0 if late else 1.0], turns=1, delayed_s=delayed, measured_s=1.0)

    found = size(H800X8, 100, Objectives(), observe=observe)
    assert [found.deployment.pool(name).servers for name in ("tokenizer", "lm", "tts", "vocoder")] == [1, 3, 2, 7]
    assert [scaled(found, 1000).pool(name).servers for name in ("tokenizer", "lm")] == [10, 30]


def test_objectives_that_no_number_of_servers_keeps_are_an_error() -> None:
    with pytest.raises(UnreachableError, match="10 conversations"):
        size(H800X8, 10, Objectives(first_audio_s=0.1), observe=lambda *_: Seen([1.0], turns=1))


def test_more_conversations_on_the_same_servers_wait_longer() -> None:
    draw = one_of([replace(ALONE, pause_s=pause_s) for pause_s in (0.3, 0.7, 1.0, 1.6)])
    few, many = (
        simulate(H800X8, number, draw, habits=Habits(), seconds=40.0, warm_up_s=10.0).first_audio_s
        for number in (2, 60)
    )
    assert max(few) < sum(many) / len(many)


def test_turns_are_as_long_as_they_are_said_to_be() -> None:
    chance = random.Random(1)
    turns = [everyday_turn(chance) for _ in range(2000)]
    replies = sorted(turn.reply_s for turn in turns)
    assert replies[1000] == pytest.approx(6.0, rel=0.1)
    assert max(replies) <= 30.0 + TOKEN_S
    assert math.isclose(sum(turn.hesitations for turn in turns) / 2000, 0.4, abs_tol=0.05)


def test_measured_laws_are_read_back(tmp_path: Path) -> None:
    file = tmp_path / "laws" / "local.json"
    write_deployment(H800X8, file)
    assert read_deployment(file) == H800X8
