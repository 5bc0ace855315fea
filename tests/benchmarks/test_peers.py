"""What the comparison with other frameworks computes from what it noted."""

import math

import pytest

from benchmarks.peers.driver import speech_end_bytes, turn_frames
from benchmarks.peers.figures import above, cost_us, covered_s, evenness, overheads, ratios
from benchmarks.peers.scene import INPUT_FRAME_BYTES, SILENCE_MS, WINDOW_BYTES, Journal, Turn

pytestmark = pytest.mark.unit
SILENCE_S = SILENCE_MS / 1000


def test_time_in_which_two_stubs_work_at_once_counts_once() -> None:
    assert covered_s([(1.0, 2.0), (1.5, 3.0), (2.0, 2.5)], 0.0, 10.0) == 2.0


def test_what_a_stub_does_before_the_question_or_after_the_answer_is_not_taken_off() -> None:
    assert covered_s([(0.0, 2.0), (4.0, 9.0)], 1.0, 5.0) == 2.0


def test_a_turns_overhead_is_what_is_above_the_silence_and_the_stubs() -> None:
    asked_s = 10.0 + SILENCE_S + 0.005
    turn = Turn(10.0, asked_s, asked_s + 0.083, busy=[(asked_s, asked_s + 0.05), (asked_s + 0.051, asked_s + 0.081)])
    (found,) = overheads([turn], warm_up=0)
    assert found.ending_s == pytest.approx(0.005)
    assert found.reply_s == pytest.approx(0.003)
    assert found.whole_s == pytest.approx(0.008)


def test_the_first_turn_and_turns_without_an_answer_are_not_counted() -> None:
    assert overheads([Turn(1.0, 2.0, 3.0), Turn(4.0, 5.0)]) == []


def test_a_frame_costs_what_one_in_and_one_out_took() -> None:
    assert cost_us(0.5, 1000, 1000) == 500.0


def test_the_driver_is_taken_off_round_by_round() -> None:
    assert above([110.0, 250.0, 400.0], [10.0, 100.0, 200.0]) == 150.0


def test_ours_is_told_as_a_share_of_each_other_one() -> None:
    shares = ratios({"ours": 1.0, "a": 4.0, "b": 0.0}, "ours")
    assert shares["a"] == 0.25
    assert math.isnan(shares["b"])


def test_a_window_is_as_good_as_the_worse_way_of_its_frames() -> None:
    assert evenness(100, 100, 80) == 0.8
    assert evenness(100, 125, 100) == 0.8
    assert evenness(100, 100, 0) == 0.0


def test_speech_ends_with_its_last_frame_and_the_words_are_known_after_it() -> None:
    assert speech_end_bytes([0.1, 0.9, 0.2, 0.6, 0.4]) == 4 * WINDOW_BYTES
    frames, (last, words) = turn_frames(bytes(10 * INPUT_FRAME_BYTES - 2), 4 * WINDOW_BYTES)
    assert all(len(frame) == INPUT_FRAME_BYTES for frame in frames)
    assert last * INPUT_FRAME_BYTES < 4 * WINDOW_BYTES <= (last + 1) * INPUT_FRAME_BYTES
    assert words == last + 5


def test_a_reply_is_heard_once_for_each_turn_and_only_after_its_question() -> None:
    journal = Journal(pace_s=0.0)
    journal.turns.append(Turn(1.0))
    journal.heard(960)
    assert journal.turns[0].heard_s == 0.0
    journal.asked()
    journal.heard(960)
    first_s = journal.turns[0].heard_s
    journal.heard(960)
    assert 0.0 < first_s == journal.turns[0].heard_s
    assert journal.reply_bytes == 3 * 960
