"""What the benchmarks of the orchestrator compute from what they measured."""

import math
import os

import numpy as np
import pytest

from benchmarks.barge_in import MIN_SPEECH_MS, Voice
from benchmarks.first_audio import ratio
from benchmarks.load import slope_mib_per_minute
from benchmarks.orchestrator import cost_table
from benchmarks.processor import descendants, family_of, processor_s
from benchmarks.report import percentile
from benchmarks.stub_clients import NOISE, SILENCE
from benchmarks.wire import Wait

pytestmark = pytest.mark.unit


def test_a_percentile_is_a_value_that_so_many_do_not_exceed() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, share) for share in (50, 99, 100)] == [50.0, 99.0, 100.0]
    assert percentile([3.0], 99) == 3.0
    assert math.isnan(percentile([], 50))


def test_a_family_is_all_that_its_leaders_started_and_no_more() -> None:
    parents = {2: 1, 3: 2, 4: 3, 5: 1, 6: 5, 7: 0}
    assert descendants(parents, [2, 7]) == {2, 3, 4, 7}
    assert os.getpid() in family_of([os.getppid()])


def test_processor_time_counts_what_was_computed_and_not_processes_that_are_gone() -> None:
    before_s = processor_s([os.getpid()])
    assert sum(range(1_000_000)) > 0
    assert processor_s([os.getpid()]) > before_s
    assert processor_s([]) == 0.0


def test_how_much_sooner_is_the_median_of_each_questions_own_ratio() -> None:
    def waits(*walls_s: float) -> list[Wait]:
        return [Wait("", wall_s, 0.0, {}) for wall_s in walls_s]

    assert ratio(waits(1.0, 0.1, 2.0), waits(3.0, 2.0, 8.0)) == 4.0


def test_growth_of_memory_leaves_out_the_time_of_settling() -> None:
    memory = [(0.0, 10.0), (30.0, 70.0), (60.0, 100.0), (90.0, 101.0), (120.0, 102.0), (150.0, 103.0)]
    assert slope_mib_per_minute(memory[1:]) == pytest.approx(2.0)


def test_costs_are_shown_above_the_echo_of_the_same_round() -> None:
    costs = {(5, "echo"): [100.0, 200.0], (5, "scripted"): [150.0, 260.0], (5, "silero"): [300.0, 400.0]}
    shown = cost_table(costs, [5])
    assert "| 5 | scripted | 205 | 55 |" in shown
    assert "| 5 | silero | 350 | 200 |" in shown


def test_callers_send_20_ms_of_silence_or_of_noise() -> None:
    assert len(SILENCE.audio.data) == len(NOISE.audio.data) == 640
    assert not any(SILENCE.audio.data)
    assert any(NOISE.audio.data)


def test_the_way_from_the_onset_to_silence_is_told_by_who_was_waited_for() -> None:
    voice = Voice(np.zeros(0, np.float32), onset_sample=16_000, began_s=10.0)
    voice.sent_s = [10.02 + 0.02 * piece for piece in range(62)]
    voice.sent_s[60] += 0.3  # that of the samples from 1.20 to 1.22 s: the caller was late
    found_sample = 16_000 + 224  # 14 ms later; enough is heard 192 ms after it
    stopped = voice.stopped("s", 1, found_sample, decided_s=11.53, silent_s=11.535)
    assert MIN_SPEECH_MS == 192
    assert [round(part) for part in stopped.way_ms.values()] == [206, 314, 10]
    assert round(1000 * (stopped.silent_s - stopped.onset_s)) == 206 + 314 + 10 + 5
